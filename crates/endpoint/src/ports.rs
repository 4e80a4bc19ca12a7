//! Host ports: who has which, and the kernel's mappings. An endpoint without any costs a look at an empty list.
use std::collections::HashSet;
use std::net::IpAddr;

use malha_kernel::ports::{self, PortMapping};
use malha_kernel::sysctl;
use serde::{Deserialize, Serialize};

use crate::attachment::Endpoint;
use crate::error::{Error, Result};
use crate::manager::Shared;

/// A port of the node that leads to a port of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// The node's address; None: all of them, of both families. An unspecified one: all of its family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// IP protocol number: TCP, UDP or SCTP.
    pub protocol: u8,
    /// The node's port.
    pub port: u16,
    /// The container's.
    pub container_port: u16,
}

/// Which endpoint has which mapping. Locked for as long as the kernel's are changed.
#[derive(Debug, Default)]
pub struct Ports {
    held: Vec<(PortMapping, u32)>,
    /// Whether what an earlier process left was looked for.
    looked: bool,
}

impl Ports {
    /// Take over what a record says.
    pub fn restore(&mut self, endpoint: &Endpoint) {
        let mappings = endpoint.mappings().into_iter();
        self.held
            .extend(mappings.map(|mapping| (mapping, endpoint.id)));
    }

    fn of(&self, id: u32) -> Vec<PortMapping> {
        let ours = self.held.iter().filter(|(_, holder)| *holder == id);
        ours.map(|(mapping, _)| *mapping).collect()
    }
}

impl Endpoint {
    /// Its host ports, for each of its addresses that they may lead to.
    pub(crate) fn mappings(&self) -> Vec<PortMapping> {
        let mut mappings = Vec::new();
        for port in &self.ports {
            let fits = |address: &&IpAddr| {
                port.address
                    .is_none_or(|host| host.is_ipv4() == address.is_ipv4())
            };
            for address in self.addresses.iter().filter(fits) {
                let mapping = PortMapping {
                    address: port.address.filter(|address| !address.is_unspecified()),
                    protocol: port.protocol,
                    port: port.port,
                    target: (*address, port.container_port).into(),
                };
                if !mappings.contains(&mapping) {
                    mappings.push(mapping);
                }
            }
        }
        mappings
    }
}

impl Shared {
    /// Reserve an endpoint's host ports.
    pub fn claim_ports(&self, endpoint: &Endpoint) -> Result<()> {
        if endpoint.ports.is_empty() {
            return Ok(());
        }
        let mut ports = self.ports();
        let wanted = endpoint.mappings();
        for mapping in &wanted {
            let taken = ports.held.iter().find(|(held, _)| conflict(held, mapping));
            if let Some((held, holder)) = taken {
                let state = self.state();
                return Err(Error::PortTaken {
                    port: describe(mapping),
                    held: describe(held),
                    other: state
                        .slots
                        .get(holder)
                        .map_or_else(|| endpoint.key.clone(), |slot| slot.endpoint.key.clone()),
                });
            }
        }
        ports
            .held
            .extend(wanted.into_iter().map(|mapping| (mapping, endpoint.id)));
        Ok(())
    }

    /// Have the claimed ports lead to the endpoint.
    pub fn map_ports(&self, endpoint: &Endpoint) -> Result<()> {
        if endpoint.ports.is_empty() {
            return Ok(());
        }
        let ports = self.ports();
        let mappings = ports.of(endpoint.id);
        let reaches_loopback = |mapping: &PortMapping| {
            mapping.target.is_ipv4() && mapping.address.is_none_or(|address| address.is_loopback())
        };
        if mappings.iter().any(reaches_loopback) {
            // The pod itself cannot make use of it: nothing it sends to such an address gets past its link.
            let name = format!("net/ipv4/conf/{}/route_localnet", endpoint.host_link);
            sysctl::set_if_present(&name, "1")?;
        }
        Ok(ports::add(&mappings)?)
    }

    /// Take back what an endpoint holds. What is another endpoint's by now stays.
    pub fn unmap_ports(&self, endpoint: &Endpoint) -> Result<()> {
        if endpoint.ports.is_empty() {
            return Ok(());
        }
        let mut ports = self.ports();
        let mappings = ports.of(endpoint.id);
        if !mappings.is_empty() {
            ports::remove(&mappings)?;
            ports.held.retain(|(_, holder)| *holder != endpoint.id);
        }
        Ok(())
    }

    /// Remove mappings that no endpoint holds, add those that are missing; how many. Where no endpoint has a host port,
    /// only the first call has to look.
    pub fn reconcile_ports(&self) -> Result<usize> {
        let mut ports = self.ports();
        if ports.looked && ports.held.is_empty() {
            return Ok(0);
        }
        let ready: HashSet<u32> = self
            .ready()
            .iter()
            .filter(|slot| !slot.endpoint.ports.is_empty())
            .map(|slot| slot.endpoint.id)
            .collect();
        let present: HashSet<PortMapping> = ports::list()?.into_iter().collect();
        ports.looked = true;
        let held: HashSet<PortMapping> = ports.held.iter().map(|(mapping, _)| *mapping).collect();
        let strays: Vec<PortMapping> = present.difference(&held).copied().collect();
        let wanted = ports.held.iter().filter(|(_, id)| ready.contains(id));
        let missing: Vec<PortMapping> = wanted
            .map(|(mapping, _)| *mapping)
            .filter(|mapping| !present.contains(mapping))
            .collect();
        if !strays.is_empty() {
            tracing::info!(?strays, "removing port mappings that nobody holds");
            ports::remove(&strays)?;
        }
        if !missing.is_empty() {
            tracing::warn!(?missing, "adding port mappings that were gone");
            ports::add(&missing)?;
        }
        Ok(strays.len() + missing.len())
    }

    /// What of an endpoint's mappings is gone.
    pub fn check_ports(&self, endpoint: &Endpoint, differences: &mut Vec<String>) -> Result<()> {
        if endpoint.ports.is_empty() {
            return Ok(());
        }
        let present = ports::list()?;
        let mappings = endpoint.mappings().into_iter();
        let gone = mappings.filter(|mapping| !present.contains(mapping));
        differences.extend(
            gone.map(|mapping| format!("host port {} does not lead to it", describe(&mapping))),
        );
        Ok(())
    }
}

/// Whether some packet would be for both.
fn conflict(one: &PortMapping, other: &PortMapping) -> bool {
    let meet = match (one.address, other.address) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    meet && (one.protocol, one.port, one.target.is_ipv4())
        == (other.protocol, other.port, other.target.is_ipv4())
}

fn describe(mapping: &PortMapping) -> String {
    let protocol = match mapping.protocol {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        other => format!("protocol {other}"),
    };
    match mapping.address {
        Some(IpAddr::V6(address)) => format!("[{address}]:{} ({protocol})", mapping.port),
        Some(address) => format!("{address}:{} ({protocol})", mapping.port),
        None => format!("{} ({protocol}, at every address)", mapping.port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(address: &str, protocol: u8, port: u16, target: &str) -> PortMapping {
        PortMapping {
            address: address.parse().ok(),
            protocol,
            port,
            target: target.parse().unwrap(),
        }
    }

    #[test]
    fn mappings_meet_where_a_packet_could_be_for_both() {
        let one = mapping("10.0.0.1", 6, 80, "10.244.1.5:80");
        for (other, wanted) in [
            (mapping("10.0.0.1", 6, 80, "10.244.1.6:80"), true),
            (mapping("", 6, 80, "10.244.1.6:81"), true),
            (mapping("10.0.0.2", 6, 80, "10.244.1.6:80"), false),
            (mapping("10.0.0.1", 17, 80, "10.244.1.6:80"), false),
            (mapping("10.0.0.1", 6, 81, "10.244.1.6:80"), false),
            (mapping("", 6, 80, "[fd00::5]:80"), false),
        ] {
            assert_eq!(conflict(&one, &other), wanted, "{other:?}");
            assert_eq!(conflict(&other, &one), wanted, "{other:?}");
        }
    }
}
