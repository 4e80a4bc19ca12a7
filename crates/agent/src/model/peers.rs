//! The way to every other node: encapsulated or direct, for each family of its pods, and what stands against it.

use std::net::IpAddr;

use ipnet::IpNet;
use malha_core::range::overlaps;
use malha_datapath::NextHop;

use super::desired::Inputs;
use super::index::NodeFacts;
use super::mtu;
use crate::config::Routing;

/// How a prefix is reached.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In VXLAN.
    Overlay,
    /// As it is.
    Direct,
}

/// A pod range of another node, and the way there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The range.
    pub range: IpNet,
    /// The next hop.
    pub next_hop: NextHop,
    /// Largest packet, in bytes.
    pub mtu: u32,
}

impl Way {
    /// How it is reached.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self.next_hop {
            NextHop::Direct { .. } => Mode::Direct,
            _ => Mode::Overlay,
        }
    }
}

/// Another node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The ways to its pods.
    pub ways: Vec<Way>,
    /// What is wrong, and what to do.
    pub problems: Vec<String>,
}

impl Peer {
    /// Whether some of its pods are reached this way.
    #[must_use]
    pub fn uses(&self, mode: Mode) -> bool {
        self.ways.iter().any(|way| way.mode() == mode)
    }

    /// The smallest MTU of its ways of this mode; the largest number if it has none.
    #[must_use]
    pub fn path_mtu(&self, mode: Mode) -> u32 {
        let ways = self.ways.iter().filter(|way| way.mode() == mode);
        ways.map(|way| way.mtu).min().unwrap_or(u32::MAX)
    }

    /// The address that its encapsulated packets come from.
    #[must_use]
    pub fn tunnel_end(&self) -> Option<IpAddr> {
        self.ways.iter().find_map(|way| match way.next_hop {
            NextHop::Overlay { vtep } => Some(vtep),
            _ => None,
        })
    }
}

/// Every node but this one, by name. A range that overlaps an older node's (or this one's) is left out: packets for it
/// would go to a pod of either, by chance. A node that joins cannot take what another has.
#[must_use]
pub fn peers(inputs: &Inputs<'_>, own: &NodeFacts) -> Vec<Peer> {
    let mut taken: Vec<(IpNet, String)> = own
        .pod_ranges
        .iter()
        .map(|range| (*range, own.name.clone()))
        .collect();
    let mut others: Vec<&NodeFacts> = inputs
        .index
        .nodes()
        .filter(|node| node.name != own.name)
        .collect();
    others.sort_by_key(|node| (&node.created, &node.name));
    let mut peers: Vec<Peer> = others
        .into_iter()
        .map(|node| peer(inputs, own, node, &mut taken))
        .collect();
    peers.sort_by(|one, two| one.name.cmp(&two.name));
    peers
}

fn peer(
    inputs: &Inputs<'_>,
    own: &NodeFacts,
    node: &NodeFacts,
    taken: &mut Vec<(IpNet, String)>,
) -> Peer {
    let mut peer = Peer {
        name: node.name.clone(),
        addresses: node.addresses.clone(),
        ..Peer::default()
    };
    if let Some(same) = node
        .addresses
        .iter()
        .find(|address| own.addresses.contains(address))
    {
        peer.problems.push(format!(
            "has this node's address {same}: if it is gone, delete it (kubectl delete node {})",
            node.name
        ));
        return peer;
    }
    if node.pod_ranges.is_empty() {
        peer.problems
            .push("has no pod range yet (spec.podCIDRs)".to_owned());
    }
    for range in &node.pod_ranges {
        if let Some((other, owner)) = taken.iter().find(|(other, _)| overlaps(*other, *range)) {
            peer.problems.push(format!(
                "its pod range {range} overlaps {other} of node {owner} and is not routed: delete one of the nodes and \
                 let it join again"
            ));
            continue;
        }
        taken.push((*range, node.name.clone()));
        match way(inputs, own, node, *range) {
            Ok(way) => peer.ways.push(way),
            Err(problem) => peer.problems.push(problem),
        }
    }
    peer.problems
        .extend(tunnel_source_problem(inputs, own, &peer));
    peer.problems.dedup();
    peer
}

fn way(
    inputs: &Inputs<'_>,
    own: &NodeFacts,
    node: &NodeFacts,
    range: IpNet,
) -> Result<Way, String> {
    let near = node
        .addresses
        .iter()
        .find(|a| same_family(**a, range.addr()) && inputs.host.on_link(**a).is_some());
    match (inputs.config.routing, near) {
        (Routing::Auto | Routing::Direct, Some(address)) => Ok(neighbour(inputs, range, *address)),
        (Routing::Direct, None) => through_router(inputs, node, range),
        (Routing::Auto | Routing::Overlay, _) => encapsulated(inputs, own, node, range),
    }
}

fn neighbour(inputs: &Inputs<'_>, range: IpNet, gateway: IpAddr) -> Way {
    let link = inputs.host.on_link(gateway);
    let path = inputs
        .host
        .paths
        .get(&gateway)
        .filter(|path| path.gateway.is_none());
    let (ifindex, link_mtu) = link.map_or((0, u32::MAX), |link| (link.index, link.mtu));
    Way {
        range,
        next_hop: NextHop::Direct { gateway, ifindex },
        mtu: path.map_or(link_mtu, |path| path.mtu.min(link_mtu)),
    }
}

fn through_router(inputs: &Inputs<'_>, node: &NodeFacts, range: IpNet) -> Result<Way, String> {
    let address = node
        .addresses
        .iter()
        .find(|address| same_family(**address, range.addr()));
    let address = *address.ok_or_else(|| {
        format!("has no address of the family of its pod range {range}, which direct routing needs: use --routing=auto")
    })?;
    let path = inputs
        .host
        .paths
        .get(&address)
        .ok_or_else(|| no_route(address))?;
    Ok(Way {
        range,
        next_hop: NextHop::Direct {
            gateway: path.gateway.unwrap_or(address),
            ifindex: path.index,
        },
        mtu: path.mtu,
    })
}

fn encapsulated(
    inputs: &Inputs<'_>,
    own: &NodeFacts,
    node: &NodeFacts,
    range: IpNet,
) -> Result<Way, String> {
    let (_, vtep) = tunnel(own, node).ok_or_else(|| {
        "has no address of a family that this node has an address of, so no tunnel can lead there".to_owned()
    })?;
    let path = inputs.host.paths.get(&vtep).ok_or_else(|| no_route(vtep))?;
    Ok(Way {
        range,
        next_hop: NextHop::Overlay { vtep },
        mtu: path.mtu.saturating_sub(mtu::overhead(vtep)),
    })
}

/// The two ends of the tunnel between two nodes, the first one's first. Both nodes must come to the same answer, so it
/// does not depend on who asks: IPv4 if both have it, else IPv6.
fn tunnel(one: &NodeFacts, two: &NodeFacts) -> Option<(IpAddr, IpAddr)> {
    let first =
        |node: &NodeFacts, four: bool| node.addresses.iter().copied().find(|a| a.is_ipv4() == four);
    [true, false]
        .into_iter()
        .find_map(|four| first(one, four).zip(first(two, four)))
}

/// The other node takes encapsulated packets only from the address that the Node object names.
fn tunnel_source_problem(inputs: &Inputs<'_>, own: &NodeFacts, peer: &Peer) -> Option<String> {
    let vtep = peer.tunnel_end()?;
    let mine = own
        .addresses
        .iter()
        .copied()
        .find(|address| same_family(*address, vtep))?;
    let source = inputs.host.paths.get(&vtep)?.source?;
    (source != mine).then(|| {
        format!(
            "encapsulated packets to {vtep} leave from {source}, but this node is known as {mine}, so the other end \
             drops them: let the route to {vtep} use source {mine} (ip route … src {mine}), or the kubelet \
             --node-ip={source}"
        )
    })
}

fn no_route(address: IpAddr) -> String {
    format!(
        "this host has no route to its address {address}: check the uplink and the default route"
    )
}

fn same_family(one: IpAddr, two: IpAddr) -> bool {
    one.is_ipv4() == two.is_ipv4()
}
