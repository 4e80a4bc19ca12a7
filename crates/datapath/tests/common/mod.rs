//! Nodes and pods made of network namespaces, which exist only as descriptors of this process: whatever happens to
//! it, nothing is left.
#![allow(dead_code, clippy::undocumented_unsafe_blocks)]
pub mod policy;
pub mod services;
pub mod traffic;

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use malha_datapath::{Config, Datapath, Endpoint, Mac, NextHop, Node as NodeConfig, Reason};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace.
pub struct Namespace {
    file: File,
}

impl Namespace {
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("these tests need root: cannot make a network namespace");
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let namespace = Self {
            file: std::thread::spawn(make).join().unwrap(),
        };
        namespace.sh("ip link set lo up; echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
        namespace
    }

    /// A path that names the namespace to other programs.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Run a closure inside, on a thread of its own.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = || {
                setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
                act()
            };
            scope
                .spawn(inside)
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }

    pub fn try_sh(&self, script: &str) -> Output {
        self.command("sh")
            .args(["-c", &format!("set -e\n{script}")])
            .output()
            .unwrap()
    }

    /// Run a shell script inside; it has to succeed.
    pub fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{script}\n{}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    pub fn ifindex(&self, name: &str) -> u32 {
        self.enter(|| nix::net::if_::if_nametoindex(name).unwrap())
    }

    /// Whether one echo comes back within a second.
    pub fn pings(&self, to: IpAddr) -> bool {
        self.try_sh(&format!("ping -n -c 1 -W 1 {to}"))
            .status
            .success()
    }
}

/// A BPF filesystem mounted nowhere, reachable through its descriptor.
pub struct BpfFs {
    mount: OwnedFd,
}

impl BpfFs {
    pub fn new() -> Self {
        let check = |result: i64, what: &str| {
            assert!(
                result >= 0,
                "{what}: {} (these tests need root)",
                std::io::Error::last_os_error()
            );
            unsafe { OwnedFd::from_raw_fd(result as i32) }
        };
        unsafe {
            let context = check(
                libc::syscall(libc::SYS_fsopen, c"bpf".as_ptr(), 1),
                "fsopen",
            );
            let nothing = std::ptr::null::<u8>();
            let made = libc::syscall(
                libc::SYS_fsconfig,
                context.as_raw_fd(),
                6,
                nothing,
                nothing,
                0,
            );
            assert!(made == 0, "fsconfig: {}", std::io::Error::last_os_error());
            Self {
                mount: check(
                    libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, 0),
                    "fsmount",
                ),
            }
        }
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.mount.as_raw_fd()
        ))
    }

    pub fn config(&self) -> Config {
        Config {
            pins: self.path().join("malha"),
            ..Config::default()
        }
    }
}

pub const OVERLAY: &str = "mvx";
pub const UPLINK: &str = "eth0";
pub const VNI: u32 = 77;

/// A node: namespace, BPF filesystem, datapath.
pub struct Node {
    pub number: u8,
    pub namespace: Namespace,
    pub bpffs: BpfFs,
    pub config: Config,
    pub datapath: Datapath,
}

impl Node {
    pub fn new(number: u8) -> Self {
        Self::with(number, |config| config)
    }

    pub fn with(number: u8, change: impl FnOnce(Config) -> Config) -> Self {
        let namespace = Namespace::new();
        namespace.sh(
            "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
             echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/default/rp_filter",
        );
        let bpffs = BpfFs::new();
        let config = change(bpffs.config());
        let datapath = namespace.enter(|| Datapath::open(&config).unwrap());
        Self {
            number,
            namespace,
            bpffs,
            config,
            datapath,
        }
    }

    /// What a restarted agent does; with `object`, an agent of another version.
    pub fn reopen(&mut self, object: Option<&[u8]>) {
        self.datapath = self.namespace.enter(|| match object {
            Some(object) => Datapath::open_with(&self.config, object).unwrap(),
            None => Datapath::open(&self.config).unwrap(),
        });
    }

    pub fn four(&self) -> IpAddr {
        format!("172.31.0.{}", self.number).parse().unwrap()
    }

    pub fn six(&self) -> IpAddr {
        format!("fd00:31::{}", self.number).parse().unwrap()
    }

    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.four(), self.six()]
    }

    /// What the node's stack masquerades with on the overlay device.
    pub fn overlay_addresses(&self) -> [IpAddr; 2] {
        let n = self.number;
        [
            format!("10.244.{n}.1").parse().unwrap(),
            format!("fd00:244:{n}::1").parse().unwrap(),
        ]
    }

    pub fn pod_prefixes(&self) -> [String; 2] {
        [
            format!("10.244.{}.0/24", self.number),
            format!("fd00:244:{}::/64", self.number),
        ]
    }

    /// Make the overlay device and what the node knows of itself.
    pub fn set_up(&self) {
        let n = self.number;
        self.namespace.sh(&format!(
            "ip link add {OVERLAY} address 02:00:00:00:77:{n:02x} mtu 1430 type vxlan external dstport 8472
             ip link set {OVERLAY} arp off addrgenmode none up
             ip addr add 10.244.{n}.1/32 dev {OVERLAY}; ip addr add fd00:244:{n}::1/128 dev {OVERLAY} nodad"
        ));
        let overlay_ifindex = Some(self.namespace.ifindex(OVERLAY));
        let node = NodeConfig {
            overlay_ifindex,
            vni: VNI,
            overlay_mtu: 1430,
            direct_mtu: 1500,
        };
        self.datapath.configure(&node).unwrap();
        self.namespace.enter(|| {
            self.datapath.attach_overlay(OVERLAY).unwrap();
            self.datapath.attach_uplink(UPLINK).unwrap();
        });
        for address in self.addresses().into_iter().chain(self.overlay_addresses()) {
            self.datapath
                .routes()
                .upsert(address.into(), NextHop::Local)
                .unwrap();
        }
        for prefix in ["10.244.0.0/16", "fd00:244::/32"] {
            self.datapath
                .routes()
                .upsert(prefix.parse().unwrap(), NextHop::Blackhole)
                .unwrap();
        }
    }

    /// Reach another node's pods.
    pub fn know(&self, other: &Node, mode: Mode) {
        let ifindex = self.namespace.ifindex(UPLINK);
        for (prefix, gateway) in other.pod_prefixes().iter().zip(other.addresses()) {
            let hop = match mode {
                Mode::Overlay => NextHop::Overlay { vtep: other.four() },
                Mode::Overlay6 => NextHop::Overlay { vtep: other.six() },
                Mode::Direct => NextHop::Direct { gateway, ifindex },
            };
            self.datapath
                .routes()
                .upsert(prefix.parse().unwrap(), hop)
                .unwrap();
            let way = match mode {
                Mode::Direct => format!("via {gateway}"),
                _ => format!("dev {OVERLAY}"),
            };
            self.namespace.sh(&format!(
                "ip route replace {prefix} {way} src {}",
                self.same_family(gateway)
            ));
            if mode != Mode::Direct {
                self.datapath.routes().upsert(gateway.into(), hop).unwrap();
            }
        }
    }

    pub fn same_family(&self, as_this: IpAddr) -> IpAddr {
        if as_this.is_ipv4() {
            self.four()
        } else {
            self.six()
        }
    }

    pub fn drops(&self, reason: Reason) -> u64 {
        self.datapath
            .drops()
            .unwrap()
            .into_iter()
            .find(|drop| drop.reason == reason)
            .unwrap()
            .packets
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Overlay,
    Overlay6,
    Direct,
}

/// Two nodes with a cable between them, which know each other.
pub fn two_nodes(mode: Mode) -> (Node, Node) {
    two_nodes_with(mode, |config| config)
}

pub fn two_nodes_with(mode: Mode, change: impl Fn(Config) -> Config) -> (Node, Node) {
    let (one, two) = (Node::with(1, &change), Node::with(2, &change));
    connect(&one, &two);
    one.set_up();
    two.set_up();
    one.know(&two, mode);
    two.know(&one, mode);
    (one, two)
}

pub fn connect(one: &Node, two: &Node) {
    let peer = two.namespace.path();
    one.namespace.sh(&format!(
        "ip link add {UPLINK} type veth peer name {UPLINK} netns {peer}"
    ));
    for node in [one, two] {
        node.namespace.sh(&format!(
            "ip addr add {}/24 dev {UPLINK}; ip addr add {}/64 dev {UPLINK} nodad; ip link set {UPLINK} up",
            node.four(),
            node.six()
        ));
    }
    for address in two.addresses() {
        eventually("the nodes see each other", || one.namespace.pings(address));
    }
}

/// A pod on a node, attached as the agent does it.
pub struct Pod {
    pub namespace: Namespace,
    pub endpoint: Endpoint,
    pub link: String,
}

impl Pod {
    pub fn new(node: &Node, number: u8) -> Self {
        Self::with_state(node, number, true)
    }

    /// In the order that keeps a closed pod closed: the link, what the datapath knows, and only then up.
    pub fn with_state(node: &Node, number: u8, open: bool) -> Self {
        let (namespace, link, n) = (Namespace::new(), format!("mlh{number}"), node.number);
        let mac: Mac = [0x0a, 0x58, 10, 244, n, number];
        let host_mac: Mac = [0x0a, 0x58, 169, 254, n, number];
        let (four, six) = (
            format!("10.244.{n}.{number}"),
            format!("fd00:244:{n}::{number:x}"),
        );
        node.namespace.sh(&format!(
            "ip link add {link} address {} mtu 1430 type veth peer name eth0 netns {} address {} mtu 1430",
            mac_text(host_mac),
            namespace.path(),
            mac_text(mac),
        ));
        let endpoint = Endpoint {
            id: u32::from(n) * 1000 + u32::from(number),
            ifindex: node.namespace.ifindex(&link),
            addresses: vec![four.parse().unwrap(), six.parse().unwrap()],
            mac,
            host_mac,
            identity: 0,
            open,
        };
        node.datapath.endpoints().upsert(&endpoint).unwrap();
        node.namespace
            .enter(|| node.datapath.attach_endpoint(endpoint.ifindex).unwrap());
        node.namespace.sh(&format!(
            "ip link set {link} addrgenmode none up
             ip route add {four} dev {link}; ip neigh add {four} lladdr {mac} dev {link}
             ip route add {six} dev {link}; ip neigh add {six} lladdr {mac} dev {link}",
            mac = mac_text(mac),
        ));
        namespace.sh(&format!(
            "ip link set eth0 up; ip addr add {four}/32 dev eth0; ip addr add {six}/128 dev eth0 nodad
             ip neigh add 169.254.1.1 lladdr {gw} dev eth0; ip route add default via 169.254.1.1 dev eth0 onlink
             ip neigh add fe80::1 lladdr {gw} dev eth0; ip route add default via fe80::1 dev eth0 onlink",
            gw = mac_text(host_mac),
        ));
        Self {
            namespace,
            endpoint,
            link,
        }
    }

    pub fn addresses(&self) -> &[IpAddr] {
        &self.endpoint.addresses
    }
}

pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Poll until it holds, at most ten seconds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
