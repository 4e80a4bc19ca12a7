//! What the reference plugins and Flannel build: a bridge on every node, a VXLAN device between the nodes. Without
//! policy, masquerade or anything else that would cost: the baseline at its best.

use std::{net::IpAddr, process::Command, sync::Arc};

use anyhow::{Result, ensure};
use malha_kernel::NetNs;

use super::path::Path;

/// Two nodes on a switch; two pods on the first, one on the second.
pub struct Reference {
    first: Vec<Arc<NetNs>>,
    second: Vec<Arc<NetNs>>,
    _nodes: [NetNs; 3],
}

impl Reference {
    /// Builds it; it ends when dropped, with its namespaces.
    pub fn build() -> Result<Self> {
        let [switch, one, two] = [NetNs::create()?, NetNs::create()?, NetNs::create()?];
        sh(&switch, "ip link add br0 type bridge && ip link set br0 up")?;
        for (node, number) in [(&one, 1), (&two, 2)] {
            plug(&switch, node, number)?;
        }
        let first = vec![pod(&one, 1, 2)?, pod(&one, 1, 3)?];
        let second = vec![pod(&two, 2, 2)?];
        Ok(Self {
            first,
            second,
            _nodes: [switch, one, two],
        })
    }

    /// From a pod on the first node to one on the second.
    pub fn across_nodes(&self) -> Result<Path> {
        Ok(path(
            "reference bridge and VXLAN",
            &self.first[0],
            &self.second[0],
            "10.99.2.2".parse()?,
        ))
    }

    /// Between the pods of the first node.
    pub fn same_node(&self) -> Result<Path> {
        Ok(path(
            "reference bridge",
            &self.first[0],
            &self.first[1],
            "10.99.1.3".parse()?,
        ))
    }
}

fn path(name: &str, client: &Arc<NetNs>, server: &Arc<NetNs>, address: IpAddr) -> Path {
    Path {
        name: name.to_owned(),
        client: client.clone(),
        server: server.clone(),
        address,
    }
}

/// A node: an uplink to the switch, a bridge for its pods, a VXLAN device to the other node.
fn plug(switch: &NetNs, node: &NetNs, number: u8) -> Result<()> {
    let other = 3 - number;
    give_link(switch, node, &format!("n{number}"), "eth0")?;
    sh(switch, &format!("ip link set n{number} master br0 up"))?;
    sh(node, &format!("
        sysctl -qw net.ipv4.ip_forward=1
        ip link set lo up
        ip addr add 172.21.0.{number}/24 dev eth0 && ip link set eth0 up
        ip link add cni0 mtu 1450 type bridge && ip addr add 10.99.{number}.1/24 dev cni0 && ip link set cni0 up
        ip link add flannel.1 address 02:00:00:00:00:0{number} type vxlan id 1 local 172.21.0.{number} dev eth0 dstport 8472 nolearning
        ip addr add 10.99.{number}.0/32 dev flannel.1 && ip link set flannel.1 up
        ip neigh add 10.99.{other}.0 lladdr 02:00:00:00:00:0{other} dev flannel.1 nud permanent
        bridge fdb append 02:00:00:00:00:0{other} dev flannel.1 dst 172.21.0.{other}
        ip route add 10.99.{other}.0/24 via 10.99.{other}.0 dev flannel.1 onlink
    "))
}

fn pod(node: &NetNs, number: u8, host: u8) -> Result<Arc<NetNs>> {
    let pod = NetNs::create()?;
    give_link(node, &pod, &format!("v{host}"), "eth0")?;
    sh(
        node,
        &format!("ip link set v{host} mtu 1450 master cni0 up"),
    )?;
    sh(
        &pod,
        &format!(
            "
        ip link set lo up
        ip addr add 10.99.{number}.{host}/24 dev eth0 && ip link set eth0 mtu 1450 up
        ip route add default via 10.99.{number}.1
    "
        ),
    )?;
    Ok(Arc::new(pod))
}

/// A veth pair from one namespace into another.
fn give_link(from: &NetNs, to: &NetNs, name: &str, peer: &str) -> Result<()> {
    use std::os::fd::{AsFd, AsRawFd};
    let namespace = format!("/proc/{}/fd/{}", std::process::id(), to.as_fd().as_raw_fd());
    sh(
        from,
        &format!("ip link add {name} type veth peer name {peer} netns {namespace}"),
    )
}

fn sh(namespace: &NetNs, script: &str) -> Result<()> {
    let output = namespace.run(|| Command::new("sh").args(["-ec", script]).output())??;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "the reference network cannot be built: {errors}"
    );
    Ok(())
}
