//! How large packets may be. The smallest path decides, so that no pair of pods depends on path MTU discovery.

use std::net::IpAddr;

use super::desired::Inputs;
use super::peers::{Mode, Peer};
use crate::config::Routing;

/// Outer IPv4 (20), UDP (8), VXLAN (8) and inner Ethernet (14) headers.
const OVERHEAD_V4: u32 = 50;
/// The same with an outer IPv6 header (40).
const OVERHEAD_V6: u32 = 70;
/// When nothing is known of any uplink.
const ETHERNET: u32 = 1500;

/// Sizes of IP packets, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtus {
    /// Largest that fits into the overlay.
    pub overlay: u32,
    /// Largest that fits the way to every node that is reached directly.
    pub direct: u32,
    /// What pods' links get.
    pub pod: u32,
}

/// What VXLAN costs when its outer packets go to this address.
#[must_use]
pub fn overhead(tunnel_end: IpAddr) -> u32 {
    if tunnel_end.is_ipv4() {
        OVERHEAD_V4
    } else {
        OVERHEAD_V6
    }
}

/// The sizes for these peers.
#[must_use]
pub fn work_out(inputs: &Inputs<'_>, own: &[IpAddr], peers: &[Peer]) -> Mtus {
    let uplink = own
        .iter()
        .filter_map(|address| inputs.host.link_of(*address))
        .map(|link| link.mtu)
        .min()
        .unwrap_or(ETHERNET);
    let smallest = |mode: Mode| {
        peers
            .iter()
            .filter(|peer| peer.uses(mode))
            .map(|peer| peer.path_mtu(mode))
            .min()
    };
    let (overlay, direct) = (smallest(Mode::Overlay), smallest(Mode::Direct));
    let bare_overlay = uplink.saturating_sub(
        own.first()
            .map_or(OVERHEAD_V4, |address| overhead(*address)),
    );
    let found = match inputs.config.routing {
        Routing::Overlay => overlay.unwrap_or(bare_overlay),
        Routing::Direct => direct.unwrap_or(uplink),
        Routing::Auto => overlay.into_iter().chain(direct).min().unwrap_or(uplink),
    };
    let limit = |size: u32| {
        if inputs.config.mtu == 0 {
            size
        } else {
            size.min(inputs.config.mtu)
        }
    };
    Mtus {
        overlay: limit(overlay.unwrap_or(bare_overlay)),
        direct: limit(direct.unwrap_or(uplink)),
        pod: if inputs.config.mtu == 0 {
            found
        } else {
            inputs.config.mtu
        },
    }
}
