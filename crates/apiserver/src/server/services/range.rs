//! Addresses in a range.

use std::net::IpAddr;

use ipnet::IpNet;
use rand::RngExt;
use serde_json::{Value, json};

use super::{invalid, taken::Taken};
use crate::{api::errors::FieldError, status::Status};

/// An address a Service asks for.
pub(super) fn check(
    service: &Value,
    range: &IpNet,
    asked: &str,
    taken: &Taken,
) -> Result<IpAddr, Status> {
    let refuse = |why: &str| {
        invalid(
            service,
            FieldError::invalid("spec.clusterIPs", &json!([asked]), why),
        )
    };
    let address: IpAddr = asked
        .parse()
        .map_err(|_| refuse("must be an IP address, \"None\" or empty"))?;
    if !range.contains(&address) || Some(address) == nth(range, 0) || is_broadcast(range, address) {
        return Err(refuse(&format!(
            "failed to allocate IP {address}: the provided IP is not in the valid range. \
             The range of valid IPs is {range}"
        )));
    }
    if taken.addresses.contains(&address) {
        return Err(refuse(&format!(
            "failed to allocate IP {address}: provided IP is already allocated"
        )));
    }
    Ok(address)
}

/// A free address, sought from a random place so that one just given back is not given out again at once.
pub(super) fn choose(range: &IpNet, taken: &Taken) -> Result<IpAddr, Status> {
    let bits = (range.max_prefix_len() - range.prefix_len()).min(16);
    // Neither the network's own address nor (in IPv4) the broadcast address; the first is `kubernetes`'s.
    let last = (1u32 << bits) - 2;
    let start = rand::rng().random_range(2..=last);
    let mut candidates = (start..=last).chain(2..start);
    let free =
        candidates.find_map(|i| nth(range, i).filter(|address| !taken.addresses.contains(address)));
    free.ok_or_else(|| {
        Status::internal(format!(
            "the service range {range} is full; delete Services, or start the cluster with a larger range"
        ))
    })
}

pub(super) fn nth(range: &IpNet, n: u32) -> Option<IpAddr> {
    match range.network() {
        IpAddr::V4(base) => u32::from(base)
            .checked_add(n)
            .map(|ip| IpAddr::V4(ip.into())),
        IpAddr::V6(base) => u128::from(base)
            .checked_add(n.into())
            .map(|ip| IpAddr::V6(ip.into())),
    }
}

fn is_broadcast(range: &IpNet, address: IpAddr) -> bool {
    is_v4(range) && range.broadcast() == address
}

pub(super) fn is_v4(range: &IpNet) -> bool {
    matches!(range, IpNet::V4(_))
}

pub(super) fn family(range: &IpNet) -> &'static str {
    if is_v4(range) { "IPv4" } else { "IPv6" }
}
