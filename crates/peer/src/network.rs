//! The switch between hosts: a bridge in a network namespace of its own.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The hosts' network, and a router that says of everything else that it cannot be reached: whatever they do stays here.
/// (Kubelets ask at their start whether they are in a cloud. Were their packets dropped, each would wait twelve seconds.)
pub const NETWORK: &str = "172.31.77";

/// A namespace with a bridge; ends when dropped.
pub struct Switch(Child);

impl Switch {
    /// Makes one.
    ///
    /// # Errors
    /// When this machine does not allow it: it takes root.
    pub fn new() -> Result<Self> {
        let script = "ip link set lo up && ip link add br0 type bridge && ip link set br0 up && \
                      ip address add $0.1/24 dev br0 && ip route add unreachable default && \
                      sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0 && echo ready && exec sleep infinity";
        let mut child = Command::new("unshare")
            .args([
                "--net",
                "--",
                "setpriv",
                "--pdeathsig",
                "KILL",
                "sh",
                "-c",
                script,
                NETWORK,
            ])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run unshare (util-linux)")?;
        crate::host::wait_for_line(&mut child, "the switch")?;
        Ok(Self(child))
    }

    /// Gives the process's network namespace a link `eth0` with an address, and a default route.
    pub fn connect(&self, pid: u32, address: &str) -> Result<()> {
        let name = format!("port{}", address.rsplit('.').next().unwrap_or_default());
        let script = "set -e; ip link add $0 type veth peer name eth0 netns $1; ip link set $0 master br0 up";
        self.run(&["sh", "-c", script, &name, &pid.to_string()])?;
        let inside = "set -e; ip link set lo up; ip address add $0/24 dev eth0; ip link set eth0 up; \
                      ip route add default via $1.1";
        run(Command::new("nsenter")
            .args(["--net", "--target", &pid.to_string(), "sh", "-c", inside])
            .args([address, NETWORK]))
    }

    fn run(&self, command: &[&str]) -> Result<()> {
        run(Command::new("nsenter")
            .args(["--net", "--target", &self.0.id().to_string()])
            .args(command))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command that prints nothing of interest unless it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
