//! CHECK: what is there against what was made.
use std::collections::HashSet;
use std::net::IpAddr;

use malha_kernel::{Handle, Link, NetNs, PROTOCOL};

use crate::attachment::{CheckRequest, Endpoint};
use crate::error::{Error, Result};
use crate::manager::Shared;
use crate::record::Phase;
use crate::state::Slot;

impl Shared {
    /// All differences at once. What a later plugin of the chain may have added is none.
    pub fn check(&self, slot: &Slot, request: &CheckRequest<'_>) -> Result<()> {
        let endpoint = &slot.endpoint;
        let mut differences = Vec::new();
        if slot.phase != Phase::Ready {
            differences.push("it is still being made".to_owned());
        }
        if endpoint.netns() != request.netns.id() {
            differences.push("it is in another network namespace".to_owned());
        }
        if let Some(addresses) = &request.addresses {
            let (theirs, ours): (HashSet<_>, HashSet<_>) = (
                addresses.iter().collect(),
                endpoint.addresses.iter().collect(),
            );
            if theirs != ours {
                differences.push(format!(
                    "its addresses are {:?}, not {addresses:?}",
                    endpoint.addresses
                ));
            }
        }
        self.check_host(endpoint, &mut differences)?;
        self.check_ports(endpoint, &mut differences)?;
        differences.extend(check_pod(endpoint, request.netns)?);
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::Check {
            key: endpoint.key.clone(),
            differences,
        })
    }

    fn check_host(&self, endpoint: &Endpoint, differences: &mut Vec<String>) -> Result<()> {
        let name = &endpoint.host_link;
        let Some(link) = self.handle.link(name)? else {
            differences.push(format!("link {name} is gone"));
            return Ok(());
        };
        if !link.up {
            differences.push(format!("link {name} is down"));
        }
        for address in &endpoint.addresses {
            let path = self.handle.path_to(*address)?;
            if path.is_none_or(|path| path.device != link.index) {
                differences.push(format!(
                    "the route to {address} does not lead to link {name}"
                ));
            }
            let wanted = endpoint.datapath(link.index, true);
            let entry = self.datapath.endpoints().get(*address)?;
            let same = |entry: &malha_datapath::Endpoint| {
                (entry.id, entry.ifindex, entry.mac) == (wanted.id, wanted.ifindex, wanted.mac)
            };
            if !entry.as_ref().is_some_and(same) {
                differences.push(format!(
                    "the datapath does not know {address} at link {name}"
                ));
            }
        }
        Ok(())
    }
}

fn check_pod(endpoint: &Endpoint, netns: &NetNs) -> Result<Vec<String>> {
    Ok(netns.run(|| inside(endpoint))??)
}

fn inside(endpoint: &Endpoint) -> malha_kernel::Result<Vec<String>> {
    let handle = Handle::new()?;
    let name = &endpoint.key.ifname;
    let Some(link) = handle.link(name)? else {
        return Ok(vec![format!("interface {name} is gone")]);
    };
    let mut differences = check_link(endpoint, &link);
    let addresses: HashSet<IpAddr> = handle
        .addresses()?
        .into_iter()
        .filter(|address| address.device == link.index)
        .map(|address| address.address.addr())
        .collect();
    for address in endpoint
        .addresses
        .iter()
        .filter(|address| !addresses.contains(address))
    {
        differences.push(format!("interface {name} has lost its address {address}"));
    }
    let routes = handle.routes(PROTOCOL)?;
    for (prefix, gateway) in endpoint.routes() {
        let is_it = |route: &&malha_kernel::Route| {
            (route.prefix, route.gateway, route.device) == (prefix, Some(gateway), Some(link.index))
        };
        if !routes.iter().any(|route| is_it(&route)) {
            differences.push(format!("the route to {prefix} via {gateway} is gone"));
        }
    }
    Ok(differences)
}

fn check_link(endpoint: &Endpoint, link: &Link) -> Vec<String> {
    let mut differences = Vec::new();
    if !link.up {
        differences.push(format!("interface {} is down", link.name));
    }
    if link.mac != Some(endpoint.mac) {
        differences.push(format!(
            "interface {} has another MAC address than {}",
            link.name,
            malha_kernel::mac_text(endpoint.mac)
        ));
    }
    // A smaller one is somebody's choice, a larger one loses packets.
    if link.mtu > endpoint.mtu {
        differences.push(format!(
            "the MTU of interface {} is {}, above {}",
            link.name, link.mtu, endpoint.mtu
        ));
    }
    differences
}
