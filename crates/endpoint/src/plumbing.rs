//! From a record to a pod with a network, and closing it again.
use std::net::IpAddr;

use malha_kernel::{Batch, Handle, Neighbour, NetNs, Route, Veth, sysctl};

use crate::attachment::Endpoint;
use crate::config::Step;
use crate::error::{Error, Result};
use crate::manager::Shared;
use crate::record::Phase;
use crate::state::Slot;

impl Shared {
    /// Make everything that an endpoint is. On error the caller undoes it.
    pub fn make(&self, endpoint: &Endpoint, netns: &NetNs) -> Result<()> {
        self.config.at(Step::Recorded)?;
        self.claim_ports(endpoint)?;
        let (index, peer) = self.make_link(endpoint, netns)?;
        if let Some(slot) = self.state().slots.get_mut(&endpoint.id) {
            slot.ifindex = Some(index);
        }
        self.config.at(Step::Linked)?;
        self.datapath
            .endpoints()
            .upsert(&endpoint.datapath(index, false))?;
        self.config.at(Step::Entered)?;
        self.datapath.attach_endpoint(index)?;
        self.config.at(Step::Attached)?;
        self.handle.commit(host_side(endpoint, index))?;
        self.config.at(Step::Routed)?;
        set_pod(endpoint, netns, peer)?;
        // The end that came up first sends nothing until the kernel has noticed the other.
        self.handle.settle(index)?;
        self.config.at(Step::PodSet)?;
        if let Some(admission) = &self.config.admission {
            admission.admit(endpoint)?;
        }
        self.map_ports(endpoint)?;
        self.datapath
            .endpoints()
            .set_open(&endpoint.addresses, true)?;
        self.config.at(Step::Opened)?;
        self.records
            .advance(endpoint.id, Phase::Adding, Phase::Ready)?;
        if let Some(slot) = self.state().slots.get_mut(&endpoint.id) {
            (slot.phase, slot.stored) = (Phase::Ready, Phase::Ready);
        }
        self.config.at(Step::Ready)
    }

    /// Nothing to or from it passes any more. Entries that are another endpoint's by now stay.
    pub fn close(&self, endpoint: &Endpoint) -> Result<()> {
        for address in &endpoint.addresses {
            let entry = self.datapath.endpoints().get(*address)?;
            if entry.is_some_and(|entry| entry.id == endpoint.id) {
                self.datapath.endpoints().remove(&[*address])?;
            }
        }
        if let Some(admission) = &self.config.admission {
            admission.release(endpoint);
        }
        self.unmap_ports(endpoint)
    }

    /// Whether an endpoint's link is there: its network namespace has not died.
    pub fn has_link(&self, slot: &Slot) -> Result<bool> {
        let link = self.handle.link(&slot.endpoint.host_link)?;
        Ok(link.is_some_and(|link| slot.ifindex.is_none_or(|index| index == link.index)))
    }

    /// Whether an endpoint can be handed to its runtime again.
    pub fn is_whole(&self, slot: &Slot) -> bool {
        slot.phase == Phase::Ready && self.has_link(slot).unwrap_or(false)
    }

    /// The veth pair, down: indexes of the node's end and of the pod's.
    fn make_link(&self, endpoint: &Endpoint, netns: &NetNs) -> Result<(u32, u32)> {
        let veth = Veth {
            name: &endpoint.host_link,
            mac: endpoint.host_mac,
            peer_netns: netns,
            peer_name: &endpoint.key.ifname,
            peer_mac: endpoint.mac,
            mtu: endpoint.mtu,
        };
        let link = match self.handle.add_veth(&veth) {
            Err(error) if error.errno() == Some(libc::EEXIST) => {
                self.clear_the_way(endpoint)?;
                self.handle.add_veth(&veth)
            }
            other => other,
        };
        match link {
            Ok(link) => {
                let peer = link.peer.ok_or_else(|| malha_kernel::Error::NoLink {
                    name: veth.peer_name.to_owned(),
                })?;
                Ok((link.index, peer))
            }
            Err(error) if error.errno() == Some(libc::EEXIST) => {
                Err(Error::InterfaceExists(endpoint.key.clone()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// One of the two names is taken: by a link that is doomed, or by one that is left over from nobody knows when.
    fn clear_the_way(&self, endpoint: &Endpoint) -> Result<()> {
        self.reap()?;
        let Some(link) = self.handle.link(&endpoint.host_link)? else {
            return Ok(());
        };
        let holder = self.state().owner(link.index).cloned();
        if let Some(other) = holder {
            return Err(Error::LinkTaken {
                link: link.name,
                other: other.endpoint.key,
            });
        }
        tracing::warn!(link = link.name, "deleting a link without a record");
        Ok(self.handle.delete_link(link.index)?)
    }
}

/// The kernel takes no longer alias, in bytes; names of namespaces and pods are ASCII.
const ALIAS_MAX: usize = 254;

/// The node's end: up, and the way to the pod.
pub fn host_side(endpoint: &Endpoint, index: u32) -> Batch {
    let mut batch = Batch::new()
        .set_address_generation(index, false)
        .set_up(index);
    if let Some(pod) = &endpoint.pod {
        // For people: `ip link` shows it.
        let alias: String = format!("{}/{}", pod.namespace, pod.name)
            .chars()
            .take(ALIAS_MAX)
            .collect();
        batch = batch.set_alias(index, &alias);
    }
    endpoint.addresses.iter().fold(batch, |batch, address| {
        batch
            .replace_route(&Route::through((*address).into(), index))
            .replace_neighbour(&Neighbour {
                device: index,
                address: *address,
                mac: endpoint.mac,
            })
    })
}

/// The pod's end: addresses, the gateways as permanent neighbours, default routes. Others may be at work in the same
/// namespace (containerd sets up loopback meanwhile), so nothing but the link is touched.
fn set_pod(endpoint: &Endpoint, netns: &NetNs, index: u32) -> Result<()> {
    let act = || -> malha_kernel::Result<()> {
        set_ipv6(endpoint)?;
        Handle::new()?.commit(pod_side(endpoint, index))
    };
    Ok(netns.run(act)??)
}

/// No waiting for duplicates (there is nobody else on the link), and no routers but the gateway.
fn set_ipv6(endpoint: &Endpoint) -> malha_kernel::Result<()> {
    let setting = |name| format!("net/ipv6/conf/{}/{name}", endpoint.key.ifname);
    sysctl::set_if_present(&setting("accept_dad"), "0")?;
    sysctl::set_if_present(&setting("accept_ra"), "0")?;
    // Some runtimes make namespaces with IPv6 switched off. Only then: writing this setting waits for the lock of all links
    // by trying again and again.
    let off = sysctl::get(&setting("disable_ipv6"))?.as_deref() == Some("1");
    if off && endpoint.addresses.iter().any(IpAddr::is_ipv6) {
        sysctl::set(&setting("disable_ipv6"), "0")?;
    }
    Ok(())
}

fn pod_side(endpoint: &Endpoint, index: u32) -> Batch {
    let mut batch = Batch::new().set_up(index);
    for address in &endpoint.addresses {
        batch = batch.add_address(index, (*address).into());
        if address.is_ipv6() {
            batch = batch.replace_route(&Route::local(*address, index));
        }
    }
    for (everything, gateway) in endpoint.routes() {
        let neighbour = Neighbour {
            device: index,
            address: gateway,
            mac: endpoint.host_mac,
        };
        let way = Route {
            gateway: Some(gateway),
            onlink: true,
            ..Route::through(everything, index)
        };
        batch = batch.replace_neighbour(&neighbour).replace_route(&way);
    }
    batch
}
