//! What should be: everything the agent brings about on this node, as one value.
//!
//! [`desired()`] is a pure function of the configuration, the index and the host. It is computed on every change and
//! published only when it differs; the targets bring it about.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use malha_core::range::overlaps;
use malha_datapath::{Mac, NextHop};

use super::host::Host;
use super::index::{Index, NodeFacts};
use super::mtu::{self, Mtus};
use super::peers::{self, Mode, Peer};
use crate::config::{Config, Routing};

/// Name of the overlay device.
pub const OVERLAY_LINK: &str = "malha0";

/// What the desired state follows from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// What the agent is told.
    pub config: &'a Config,
    /// What the cluster says.
    pub index: &'a Index,
    /// What the host is like.
    pub host: &'a Host,
}

/// Why there is nothing to bring about yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Waiting {
    /// The API server has not answered.
    #[error("waiting for the list of nodes from the API server")]
    Cluster,
    /// This node is not registered.
    #[error("waiting for node {0} to be registered: check that the kubelet runs, and --node-name")]
    Node(String),
    /// Nobody gave it a pod range.
    #[error(
        "waiting for a pod range of node {0} (spec.podCIDRs): give the cluster one (malha init --pod-network-cidr, or \
         kube-controller-manager --allocate-node-cidrs --cluster-cidr)"
    )]
    PodRange(String),
    /// It has no address.
    #[error("waiting for an InternalIP of node {0} in its status: check the kubelet's --node-ip")]
    Address(String),
    /// The address is not on this host.
    #[error(
        "node {node} has address {address}, but no link of this host has it: check the kubelet's --node-ip, and that the \
         agent runs in the host's network namespace"
    )]
    Foreign {
        /// The node.
        node: String,
        /// Its address.
        address: IpAddr,
    },
    /// Pods and nodes would share addresses.
    #[error(
        "the pod range {range} overlaps {net}, the network of this node's address on {link}: choose another pod range \
         for the cluster"
    )]
    Overlap {
        /// The pod range.
        range: IpNet,
        /// The host's network.
        net: IpNet,
        /// The link.
        link: String,
    },
}

/// The overlay device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Its MAC address, which no other node has.
    pub mac: Mac,
    /// UDP port.
    pub port: u16,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Its addresses, the first of each of the node's pod ranges, which no pod gets: what the stack masquerades with here
    /// (as kube-proxy has it). Without one it would take any link's, and the other nodes refuse addresses that they do
    /// not know as this node's.
    pub addresses: Vec<IpAddr>,
}

/// A route of the node's own stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelRoute {
    /// Into the overlay device.
    Overlay {
        /// Source address of the node's own packets.
        source: Option<IpAddr>,
    },
    /// To a neighbour.
    Via {
        /// Its address.
        gateway: IpAddr,
        /// The link.
        ifindex: u32,
        /// Source address of the node's own packets.
        source: Option<IpAddr>,
    },
    /// Nobody has it: refused, instead of leaving by the default route.
    Unreachable,
}

/// Whose packets get the node's address, and whereto not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// This node's pods.
    pub sources: Vec<IpNet>,
    /// The cluster's own addresses.
    pub exempt: Vec<IpNet>,
}

/// What should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// This node.
    pub own: NodeFacts,
    /// Ranges of the whole cluster's pods.
    pub cluster_ranges: Vec<IpNet>,
    /// The overlay device; None: there should be none.
    pub overlay: Option<Overlay>,
    /// VXLAN network identifier.
    pub vni: u32,
    /// Packet sizes.
    pub mtus: Mtus,
    /// Links to the other nodes.
    pub uplinks: BTreeSet<String>,
    /// The datapath's routes.
    pub routes: BTreeMap<IpNet, NextHop>,
    /// The kernel's.
    pub kernel_routes: BTreeMap<IpNet, KernelRoute>,
    /// None: pods' packets leave as they are.
    pub masquerade: Option<Masquerade>,
    /// The other nodes.
    pub peers: Vec<Peer>,
    /// What works, but not as it should.
    pub warnings: Vec<String>,
}

/// What should be, or why that cannot be said.
pub type Thought = Result<Arc<Desired>, Waiting>;

/// What should be, or why that cannot be said yet.
///
/// # Errors
/// [`Waiting`].
pub fn desired(inputs: &Inputs<'_>) -> Result<Desired, Waiting> {
    let Inputs {
        config,
        index,
        host,
    } = inputs;
    let own = own_node(inputs)?;
    let peers = peers::peers(inputs, own);
    let cluster_ranges = cluster_ranges(config, index);
    check_overlap(host, own, &cluster_ranges)?;
    let mtus = mtu::work_out(inputs, &own.addresses, &peers);
    let overlay = (config.routing != Routing::Direct).then(|| Overlay {
        mac: mac_of(&own.name),
        port: config.vxlan_port,
        mtu: mtus.overlay,
        addresses: own.pod_ranges.iter().filter_map(first_address).collect(),
    });
    let mut routes = routes(own, &peers, &cluster_ranges);
    let of_overlay = overlay.iter().flat_map(|overlay| &overlay.addresses);
    routes.extend(of_overlay.map(|address| (IpNet::from(*address), NextHop::Local)));
    Ok(Desired {
        overlay,
        vni: config.vni,
        uplinks: uplinks(host, own, &peers),
        routes,
        kernel_routes: kernel_routes(own, &peers, &cluster_ranges),
        masquerade: config
            .masquerade
            .then(|| masquerade(own, &peers, &cluster_ranges)),
        warnings: warnings(config, own, &mtus, &peers),
        own: own.clone(),
        cluster_ranges,
        mtus,
        peers,
    })
}

fn own_node<'a>(inputs: &Inputs<'a>) -> Result<&'a NodeFacts, Waiting> {
    let name = &inputs.config.node_name;
    if !inputs.index.is_complete() {
        return Err(Waiting::Cluster);
    }
    let own = inputs
        .index
        .node(name)
        .ok_or_else(|| Waiting::Node(name.clone()))?;
    if own.pod_ranges.is_empty() {
        return Err(Waiting::PodRange(name.clone()));
    }
    let Some(first) = own.addresses.first() else {
        return Err(Waiting::Address(name.clone()));
    };
    if own
        .addresses
        .iter()
        .all(|address| inputs.host.link_of(*address).is_none())
    {
        return Err(Waiting::Foreign {
            node: name.clone(),
            address: *first,
        });
    }
    Ok(own)
}

/// The configured ranges, and whatever nodes have outside of them.
fn cluster_ranges(config: &Config, index: &Index) -> Vec<IpNet> {
    let configured = if config.pod_ranges.is_empty() {
        index.cluster_ranges()
    } else {
        &config.pod_ranges
    };
    let nodes = index.nodes().flat_map(|node| &node.pod_ranges);
    let all: Vec<IpNet> = configured.iter().chain(nodes).map(IpNet::trunc).collect();
    let covered = |net: &IpNet| all.iter().any(|other| other != net && other.contains(net));
    let ranges: BTreeSet<IpNet> = all.iter().filter(|net| !covered(net)).copied().collect();
    ranges.into_iter().collect()
}

/// A pod range that contains the node's network would make the other nodes unreachable.
fn check_overlap(host: &Host, own: &NodeFacts, ranges: &[IpNet]) -> Result<(), Waiting> {
    for address in host
        .addresses
        .iter()
        .filter(|address| own.addresses.contains(&address.net.addr()))
    {
        let net = address.net.trunc();
        if let Some(range) = ranges.iter().find(|range| overlaps(**range, net)) {
            let link = host
                .links
                .get(&address.index)
                .map_or("?", |link| &link.name)
                .to_owned();
            return Err(Waiting::Overlap {
                range: *range,
                net,
                link,
            });
        }
    }
    Ok(())
}

fn uplinks(host: &Host, own: &NodeFacts, peers: &[Peer]) -> BTreeSet<String> {
    let of_addresses = own
        .addresses
        .iter()
        .filter_map(|address| host.link_of(*address));
    let of_ways = peers
        .iter()
        .flat_map(|peer| &peer.ways)
        .filter_map(|way| match way.next_hop {
            NextHop::Direct { ifindex, .. } => host.links.get(&ifindex),
            NextHop::Overlay { vtep } => host
                .paths
                .get(&vtep)
                .and_then(|path| host.links.get(&path.index)),
            _ => None,
        });
    let ethernet = of_addresses.chain(of_ways).filter(|link| link.ethernet);
    ethernet.map(|link| link.name.clone()).collect()
}

fn routes(own: &NodeFacts, peers: &[Peer], ranges: &[IpNet]) -> BTreeMap<IpNet, NextHop> {
    let mut routes = BTreeMap::new();
    routes.extend(
        ranges
            .iter()
            .chain(&own.pod_ranges)
            .map(|range| (range.trunc(), NextHop::Blackhole)),
    );
    for peer in peers {
        routes.extend(
            peer.ways
                .iter()
                .map(|way| (way.range.trunc(), way.next_hop)),
        );
        // Pods reach the node itself through its tunnel, too, and so keep their addresses.
        if let Some(vtep) = peer.tunnel_end() {
            let hosts = peer
                .addresses
                .iter()
                .map(|address| (IpNet::from(*address), NextHop::Overlay { vtep }));
            routes.extend(hosts);
        }
    }
    routes.extend(
        own.addresses
            .iter()
            .map(|address| (IpNet::from(*address), NextHop::Local)),
    );
    routes
}

fn kernel_routes(
    own: &NodeFacts,
    peers: &[Peer],
    ranges: &[IpNet],
) -> BTreeMap<IpNet, KernelRoute> {
    let source_for = |net: IpNet| {
        own.addresses
            .iter()
            .copied()
            .find(|a| a.is_ipv4() == net.addr().is_ipv4())
    };
    let mut routes: BTreeMap<IpNet, KernelRoute> = ranges
        .iter()
        .chain(&own.pod_ranges)
        .map(|range| (range.trunc(), KernelRoute::Unreachable))
        .collect();
    for way in peers.iter().flat_map(|peer| &peer.ways) {
        let range = way.range.trunc();
        let source = source_for(range);
        let route = match way.next_hop {
            NextHop::Overlay { .. } => KernelRoute::Overlay { source },
            NextHop::Direct { gateway, ifindex } => KernelRoute::Via {
                gateway,
                ifindex,
                source,
            },
            _ => continue,
        };
        routes.insert(range, route);
    }
    routes
}

/// The one after the network's own.
pub(crate) fn first_address(range: &IpNet) -> Option<IpAddr> {
    let room = range.max_prefix_len() - range.prefix_len();
    match range.network() {
        _ if room < 2 => None,
        IpAddr::V4(network) => Some(IpAddr::V4((u32::from(network) + 1).into())),
        IpAddr::V6(network) => Some(IpAddr::V6((u128::from(network) + 1).into())),
    }
}

/// Packets to the cluster's pods and nodes keep their source: both ends know the way back. Not so those that reach a node
/// by the stack's way although the pods' way is the overlay, because they were for a service: they leave by the uplink,
/// where nobody expects a pod's address.
fn masquerade(own: &NodeFacts, peers: &[Peer], ranges: &[IpNet]) -> Masquerade {
    let nodes = peers
        .iter()
        .filter(|peer| !peer.ways.is_empty() && peer.tunnel_end().is_none())
        .flat_map(|peer| &peer.addresses);
    let nodes = nodes
        .chain(&own.addresses)
        .map(|address| IpNet::from(*address));
    let exempt: BTreeSet<IpNet> = ranges.iter().copied().chain(nodes).collect();
    Masquerade {
        sources: own.pod_ranges.iter().map(IpNet::trunc).collect(),
        exempt: exempt.into_iter().collect(),
    }
}

fn warnings(config: &Config, own: &NodeFacts, mtus: &Mtus, peers: &[Peer]) -> Vec<String> {
    let mut warnings = Vec::new();
    let carried = [Mode::Overlay, Mode::Direct]
        .into_iter()
        .flat_map(|mode| peers.iter().map(move |peer| peer.path_mtu(mode)))
        .min();
    if let Some(carried) = carried.filter(|carried| *carried < config.mtu) {
        warnings.push(format!(
            "--mtu {} is more than the smallest way to another node carries ({carried}): large packets will be refused",
            config.mtu
        ));
    }
    if mtus.pod < 1280 && own.pod_ranges.iter().any(|range| range.addr().is_ipv6()) {
        warnings.push(format!(
            "the pods' MTU {} is below 1280, the least that IPv6 works with",
            mtus.pod
        ));
    }
    warnings
}

/// A locally administered address from the node's name (FNV-1a): the same after every restart and reboot, so that
/// nothing another node remembers of it goes stale.
#[must_use]
pub fn mac_of(node: &str) -> Mac {
    let hash = node.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [.., a, b, c, d, e] = (hash ^ (hash >> 40)).to_be_bytes();
    [0x02, a, b, c, d, e]
}
