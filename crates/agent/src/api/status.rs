//! What `/status` says, and how it is gathered. The same types are read by `malha status`.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use malha_datapath::{Datapath, NextHop};
use serde::{Deserialize, Serialize};

use crate::cluster::connection::Server;
use crate::config::Config;
use crate::model::{Desired, Mode, OVERLAY_LINK, Peer};
use crate::target::{Board, Health, TargetStatus};

/// Everything that the agent knows of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The node's name.
    pub node: String,
    /// The agent's version.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// Whether pods get a network.
    pub health: HealthStatus,
    /// The API server in use.
    pub api_server: ServerStatus,
    /// `--routing`.
    pub routing: String,
    /// VXLAN network identifier, when there is an overlay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// UDP port of the overlay, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan_port: Option<u16>,
    /// The overlay device, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay_link: Option<String>,
    /// MTU of pods, in bytes; none while nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether pods' packets to the world outside are masqueraded.
    pub masquerade: bool,
    /// Links to the other nodes.
    pub uplinks: Vec<String>,
    /// This node's addresses.
    pub addresses: Vec<IpAddr>,
    /// This node's pod ranges.
    pub pod_ranges: Vec<IpNet>,
    /// The whole cluster's.
    pub cluster_ranges: Vec<IpNet>,
    /// How full this node's ranges are.
    pub pools: Vec<PoolStatus>,
    /// Pods that are attached.
    pub endpoints: u64,
    /// The other nodes.
    pub peers: Vec<PeerStatus>,
    /// What the reconcilers did.
    pub targets: Vec<TargetStatus>,
    /// What works, but not as it should.
    pub warnings: Vec<String>,
    /// Dropped packets by reason, those with any.
    pub drops: Vec<DropStatus>,
    /// Drop events that nobody read in time.
    pub lost_events: u64,
    /// Resident memory of the agent, in bytes.
    pub resident_bytes: u64,
}

/// Whether pods get a network, and why not.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthStatus {
    /// Whether they do.
    pub serving: bool,
    /// `starting`, `waiting`, `serving` or `failing`.
    pub state: String,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The API server in use.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// Its URL.
    pub url: String,
    /// Why it cannot be used, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How full a range is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// The range.
    pub range: IpNet,
    /// How many pods it takes; a large IPv6 range's number is cut off.
    pub capacity: u64,
    /// Addresses in use.
    pub used: u64,
    /// Addresses that rest before another pod gets them.
    pub resting: u64,
}

/// Another node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// Its name.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The ways to its pods.
    pub ways: Vec<WayStatus>,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// The way to a pod range.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WayStatus {
    /// The range.
    pub range: IpNet,
    /// How packets go.
    pub mode: Mode,
    /// The tunnel's other end, or the next router.
    pub via: IpAddr,
    /// Largest packet, in bytes.
    pub mtu: u32,
}

/// Dropped packets of one reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DropStatus {
    /// The reason's name.
    pub reason: String,
    /// How many.
    pub packets: u64,
    /// How many bytes.
    pub bytes: u64,
    /// What it means.
    pub meaning: String,
}

/// A pod's attachment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    /// The datapath's number for it.
    pub id: u32,
    /// The runtime's name for the container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface in it.
    pub ifname: String,
    /// `namespace/name`, if the runtime told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The link on the node.
    pub host_link: String,
    /// MTU of the link, in bytes.
    pub mtu: u32,
}

/// What the status is gathered from.
pub struct Parts<'a> {
    /// What the agent is told.
    pub config: &'a Config,
    /// When it started.
    pub started_at: Timestamp,
    /// What should be.
    pub desired: Option<&'a Desired>,
    /// What the reconcilers say.
    pub board: &'a Board,
    /// The API server in use.
    pub server: &'a Server,
    /// What is wrong with the watch.
    pub watch_problem: Option<String>,
    /// The datapath.
    pub datapath: &'a Datapath,
    /// How full ranges are.
    pub pools: Vec<PoolStatus>,
    /// How many pods.
    pub endpoints: u64,
}

/// Put it together. Takes some system calls, and never blocks.
#[must_use]
pub fn gather(parts: Parts<'_>) -> AgentStatus {
    let Parts {
        config, desired, ..
    } = parts;
    let overlay = desired.and_then(|desired| desired.overlay.as_ref());
    AgentStatus {
        node: config.node_name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: parts.started_at,
        health: health(&parts.board.health),
        api_server: ServerStatus {
            url: parts.server.url.clone(),
            problem: parts.server.problem.clone().or(parts.watch_problem),
        },
        routing: config.routing.to_string(),
        vni: overlay.map(|_| config.vni),
        vxlan_port: overlay.map(|overlay| overlay.port),
        overlay_link: overlay.map(|_| OVERLAY_LINK.to_owned()),
        mtu: desired.map(|desired| desired.mtus.pod),
        masquerade: config.masquerade,
        uplinks: desired.map_or(Vec::new(), |desired| {
            desired.uplinks.iter().cloned().collect()
        }),
        addresses: desired.map_or(Vec::new(), |desired| desired.own.addresses.clone()),
        pod_ranges: desired.map_or(Vec::new(), |desired| desired.own.pod_ranges.clone()),
        cluster_ranges: desired.map_or(Vec::new(), |desired| desired.cluster_ranges.clone()),
        pools: parts.pools,
        endpoints: parts.endpoints,
        peers: desired.map_or(Vec::new(), |desired| {
            desired.peers.iter().map(peer).collect()
        }),
        targets: parts.board.targets.clone(),
        warnings: desired.map_or(Vec::new(), |desired| desired.warnings.clone()),
        drops: drops(parts.datapath),
        lost_events: parts.datapath.lost_events().unwrap_or(0),
        resident_bytes: resident_bytes(),
    }
}

fn health(health: &Health) -> HealthStatus {
    let state = match health {
        Health::Starting(_) => "starting",
        Health::Waiting(_) => "waiting",
        Health::Serving => "serving",
        Health::Failing(_) => "failing",
    };
    HealthStatus {
        serving: health.serves(),
        state: state.to_owned(),
        reason: health.reason().map(str::to_owned),
    }
}

fn peer(peer: &Peer) -> PeerStatus {
    let via = |next_hop: &NextHop| match next_hop {
        NextHop::Overlay { vtep } => Some(*vtep),
        NextHop::Direct { gateway, .. } => Some(*gateway),
        _ => None,
    };
    let ways = peer.ways.iter().filter_map(|way| {
        Some(WayStatus {
            range: way.range,
            mode: way.mode(),
            via: via(&way.next_hop)?,
            mtu: way.mtu,
        })
    });
    PeerStatus {
        node: peer.name.clone(),
        addresses: peer.addresses.clone(),
        ways: ways.collect(),
        problems: peer.problems.clone(),
    }
}

fn drops(datapath: &Datapath) -> Vec<DropStatus> {
    let counts = datapath.drops().unwrap_or_default();
    let seen = counts.into_iter().filter(|count| count.packets > 0);
    seen.map(|count| DropStatus {
        reason: count.reason.name().to_owned(),
        packets: count.packets,
        bytes: count.bytes,
        meaning: count.reason.sentence().to_owned(),
    })
    .collect()
}

/// Of this process, from /proc; 0 if that cannot be read.
#[must_use]
pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| {
        line.trim()
            .trim_end_matches(" kB")
            .trim()
            .parse::<u64>()
            .ok()
    });
    kilobytes.unwrap_or(0) * 1024
}
