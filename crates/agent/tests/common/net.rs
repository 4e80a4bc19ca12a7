//! Network namespaces and cables.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Output};

use malha_kernel::NetNs;

/// A network namespace that exists only as a descriptor of this process.
#[derive(Debug)]
pub struct Namespace(pub NetNs);

impl Namespace {
    pub fn new() -> Self {
        let made =
            Self(NetNs::create().expect("these tests need root: cannot make a network namespace"));
        made.sh("ip link set lo up; echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
        made
    }

    /// A path that names the namespace to other processes.
    pub fn path(&self) -> String {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.0.as_fd().as_raw_fd()
        )
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
            .expect("run sh")
    }

    /// Run a shell script inside; it has to succeed.
    #[track_caller]
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

    /// Whether one echo comes back within a second.
    pub fn pings(&self, to: IpAddr) -> bool {
        self.try_sh(&format!("ping -n -c 1 -W 1 {to}"))
            .status
            .success()
    }
}

/// A switch: one bridge, and a router on it for several subnets.
pub struct Fabric(pub Namespace);

impl Fabric {
    pub fn new() -> Self {
        let fabric = Namespace::new();
        fabric.sh(
            "ip link add br0 type bridge; ip link set br0 up
             echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
             for subnet in 0 1; do
               ip addr add 172.31.$subnet.254/24 dev br0; ip addr add fd00:31:$subnet::fe/64 dev br0 nodad
             done",
        );
        Self(fabric)
    }

    /// Connect a node: eth0 with an address of each family in a subnet, and the default routes.
    pub fn connect(&self, node: &Namespace, subnet: u8, number: u8) {
        node.sh(&format!(
            "ip link add eth0 type veth peer name port{number} netns {}
             ip addr add 172.31.{subnet}.{number}/24 dev eth0; ip addr add fd00:31:{subnet}::{number:x}/64 dev eth0 nodad
             ip link set eth0 up",
            self.0.path()
        ));
        self.0
            .sh(&format!("ip link set port{number} master br0 up"));
        node.sh(&format!(
            "ip route add default via 172.31.{subnet}.254; ip route add default via fd00:31:{subnet}::fe"
        ));
    }
}
