//! A node and its pods made of network namespaces, which exist only as descriptors of this process, with a datapath of
//! their own: whatever happens to it, nothing is left.
#![allow(dead_code)]
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use malha_datapath::Datapath;
use malha_endpoint::{
    AddRequest, CheckRequest, Config, Endpoint, Hook, HostPort, Key, Manager, Result, Step,
};
use malha_kernel::{Handle, NetNs, PROTOCOL};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

pub const FOUR: &str = "10.244.3.0/24";
pub const SIX: &str = "fd00:244:3::/64";

pub fn new_netns() -> NetNs {
    NetNs::create().expect("these tests need root: cannot make a network namespace")
}

/// A path that names the namespace to other programs, as long as this process lives.
pub fn path(netns: &NetNs) -> String {
    format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        netns.as_fd().as_raw_fd()
    )
}

/// Run a shell script inside; it has to succeed.
pub fn sh(netns: &NetNs, script: &str) -> String {
    let (success, output) = try_sh(netns, script);
    assert!(success, "{script}\n{output}");
    output
}

pub fn try_sh(netns: &NetNs, script: &str) -> (bool, String) {
    let output = Command::new("nsenter")
        .arg(format!("--net={}", path(netns)))
        .args(["sh", "-ec", script])
        .output()
        .expect("nsenter runs");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

pub fn pings(from: &NetNs, to: IpAddr) -> bool {
    let (success, output) = try_sh(from, &format!("ping -n -c 1 -W 1 {to}"));
    assert!(
        !output.contains("not found"),
        "these tests need ping (iputils-ping): {output}"
    );
    success
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A BPF filesystem mounted nowhere, reachable through its descriptor.
pub struct BpfFs {
    mount: OwnedFd,
}

impl BpfFs {
    pub fn new() -> Self {
        let context =
            fsopen(c"bpf", FsOpenFlags::FSOPEN_CLOEXEC).expect("these tests need root: fsopen");
        fsconfig_create(&context).unwrap();
        let mount = fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )
        .unwrap();
        Self { mount }
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.mount.as_raw_fd()
        ))
    }
}

/// A node: its namespace, BPF filesystem and directory of records. Managers come and go.
pub struct Node {
    pub netns: NetNs,
    pub bpffs: BpfFs,
    pub directory: tempfile::TempDir,
}

impl Node {
    pub fn new() -> Self {
        let netns = new_netns();
        sh(
            &netns,
            "ip link set lo up; sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
             sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
             ip addr add 172.31.0.1/32 dev lo; ip addr add fd00:31::1/128 dev lo",
        );
        Self {
            netns,
            bpffs: BpfFs::new(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub fn datapath(&self) -> Arc<Datapath> {
        let config = malha_datapath::Config {
            pins: self.bpffs.path().join("malha"),
            ..malha_datapath::Config::default()
        };
        let datapath = self.netns.run(|| Datapath::open(&config).unwrap()).unwrap();
        for address in ["172.31.0.1", "fd00:31::1"] {
            let address: IpAddr = address.parse().unwrap();
            datapath
                .routes()
                .upsert(address.into(), malha_datapath::NextHop::Local)
                .unwrap();
        }
        Arc::new(datapath)
    }

    pub fn config(&self) -> Config {
        Config {
            prefixes: vec![FOUR.parse().unwrap(), SIX.parse().unwrap()],
            mtu: 1430,
            gather: Duration::from_millis(20),
            ..Config::new(self.directory.path().join("state"), "this-boot")
        }
    }

    pub fn open(&self) -> Managed<'_> {
        self.open_with(|config| config)
    }

    /// What a started agent does.
    pub fn open_with(&self, change: impl FnOnce(Config) -> Config) -> Managed<'_> {
        self.try_open(change(self.config())).unwrap()
    }

    pub fn try_open(&self, config: Config) -> Result<Managed<'_>> {
        let datapath = self.datapath();
        let manager = self
            .netns
            .run(|| Manager::open(config, Arc::clone(&datapath)))
            .unwrap()?;
        Ok(Managed {
            node: self,
            datapath,
            manager,
        })
    }

    /// Everything that could leak, counted by someone who does not know the manager: links, host routes, neighbours,
    /// datapath entries, and records by phase.
    pub fn holdings(&self) -> Holdings {
        let handle = Handle::inside(&self.netns).unwrap();
        let mut records: BTreeMap<String, usize> = BTreeMap::new();
        for entry in std::fs::read_dir(self.directory.path().join("state")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            *records
                .entry(name.split_once('.').unwrap().1.to_owned())
                .or_default() += 1;
        }
        Holdings {
            links: handle.links().unwrap().len() - 1,
            routes: handle.routes(PROTOCOL).unwrap().len(),
            neighbours: handle.permanent_neighbours().unwrap().len(),
            entries: self
                .datapath()
                .endpoints()
                .list()
                .unwrap()
                .iter()
                .map(|entry| entry.addresses.len())
                .sum(),
            records,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdings {
    pub links: usize,
    pub routes: usize,
    pub neighbours: usize,
    pub entries: usize,
    pub records: BTreeMap<String, usize>,
}

impl Holdings {
    /// What so many whole pods hold.
    pub fn of_pods(pods: usize) -> Self {
        let records = if pods == 0 {
            BTreeMap::new()
        } else {
            [("ready".to_owned(), pods)].into()
        };
        Self {
            links: pods,
            routes: 2 * pods,
            neighbours: 2 * pods,
            entries: 2 * pods,
            records,
        }
    }

    pub fn without_freed(mut self) -> Self {
        self.records.remove("freed");
        self
    }
}

/// A manager that is used from within its node's namespace.
pub struct Managed<'a> {
    pub node: &'a Node,
    pub datapath: Arc<Datapath>,
    pub manager: Manager,
}

impl Managed<'_> {
    pub fn add(&self, container: &str, netns: &NetNs) -> Result<Endpoint> {
        self.add_key(Key::new(container, "eth0"), netns)
    }

    pub fn add_key(&self, key: Key, netns: &NetNs) -> Result<Endpoint> {
        self.add_with(key, netns, &[])
    }

    pub fn add_with(&self, key: Key, netns: &NetNs, ports: &[HostPort]) -> Result<Endpoint> {
        let request = AddRequest {
            key,
            netns,
            sandbox: path(netns),
            pod: None,
            ports: ports.to_vec(),
        };
        self.node.netns.run(|| self.manager.add(&request)).unwrap()
    }

    pub fn del(&self, container: &str) -> Result<()> {
        self.node
            .netns
            .run(|| self.manager.del(&Key::new(container, "eth0")))
            .unwrap()
    }

    pub fn check(
        &self,
        container: &str,
        netns: &NetNs,
        addresses: Option<Vec<IpAddr>>,
    ) -> Result<()> {
        let request = CheckRequest {
            key: Key::new(container, "eth0"),
            netns,
            addresses,
        };
        self.node
            .netns
            .run(|| self.manager.check(&request))
            .unwrap()
    }

    pub fn gc(&self, valid: &[&str]) -> Result<()> {
        let valid: Vec<Key> = valid
            .iter()
            .map(|container| Key::new(*container, "eth0"))
            .collect();
        self.node.netns.run(|| self.manager.gc(&valid)).unwrap()
    }

    pub fn reconcile(&self) -> malha_endpoint::Reconciled {
        self.node
            .netns
            .run(|| self.manager.reconcile())
            .unwrap()
            .unwrap()
    }

    /// What is held once the reaper is through, records of resting addresses aside.
    pub fn settled(&self) -> Holdings {
        self.manager.flush().unwrap();
        self.node.holdings().without_freed()
    }
}

/// Fails at this step.
pub fn fail_at(step: Step) -> Hook {
    Hook(Arc::new(move |at| {
        if at == step {
            Err(malha_endpoint::Error::Injected(format!("{at:?}")))
        } else {
            Ok(())
        }
    }))
}
