//! What a lab consists of, decided before anything is made: names, addresses, directories.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// Most worker machines in a lab.
pub const MAX_NODES: u8 = 100;
/// Where a lab keeps its files.
pub const ROOT: &str = "/var/lib/malha-lab";
/// Prefix lengths of the fabric's two networks.
pub const FABRIC_PREFIXES: [u8; 2] = [24, 64];

/// What the user asks for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Worker machines, at least one.
    pub nodes: u8,
    /// The cluster's pod ranges, as `malha init --pod-network-cidr` takes them.
    pub pod_network: String,
    /// Prefix length of each node's IPv4 pod range.
    pub node_mask: u8,
    /// Port on 127.0.0.1 at which the host reaches the API server.
    pub api_port: u16,
    /// How pods' packets travel: `auto`, `overlay` or `direct`.
    pub routing: String,
    /// Leave the network out, so that the nodes stay `NotReady`.
    pub without_network: bool,
    /// The network's manifest.
    pub manifest: &'static str,
}

/// One machine: its name and its addresses on the fabric, one of each family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Host name, and node name of a worker.
    pub name: String,
    /// Addresses on the fabric, IPv4 first.
    pub addresses: [IpAddr; 2],
}

impl Machine {
    fn new(name: impl Into<String>, host: u8) -> Self {
        Self {
            name: name.into(),
            addresses: fabric_addresses(host),
        }
    }

    /// The addresses as `--node-ip` takes them.
    #[must_use]
    pub fn node_ip(&self) -> String {
        format!("{},{}", self.addresses[0], self.addresses[1])
    }
}

/// The whole lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The machine of the control plane.
    pub control: Machine,
    /// The machines that join.
    pub nodes: Vec<Machine>,
    /// Port of the API server on the host's loopback.
    pub api_port: u16,
}

impl Plan {
    /// Names and addresses for what is asked for.
    ///
    /// # Errors
    /// When the number of nodes is not possible.
    pub fn new(options: &Options) -> Result<Self> {
        if options.nodes == 0 || options.nodes > MAX_NODES {
            bail!(
                "a lab has 1 to {MAX_NODES} nodes, not {}; choose another --nodes",
                options.nodes
            );
        }
        Ok(Self {
            control: Machine::new("control", 10),
            nodes: (1..=options.nodes)
                .map(|n| Machine::new(format!("node{n}"), 10 + n))
                .collect(),
            api_port: options.api_port,
        })
    }

    /// Every machine, the control plane's first.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        std::iter::once(&self.control).chain(&self.nodes)
    }

    /// The addresses of the switch itself: the machines' default gateway.
    #[must_use]
    pub fn gateway() -> [IpAddr; 2] {
        fabric_addresses(1)
    }

    /// `/etc/hosts` of every machine.
    #[must_use]
    pub fn hosts_file(&self) -> String {
        let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
        for machine in self.machines() {
            for address in machine.addresses {
                text.push_str(&format!("{address} {}\n", machine.name));
            }
        }
        text
    }
}

/// The files of one machine.
#[must_use]
pub fn machine_dir(name: &str) -> PathBuf {
    PathBuf::from(ROOT).join("machines").join(name)
}

fn fabric_addresses(host: u8) -> [IpAddr; 2] {
    // The IPv6 host part reads like the IPv4 one: 172.20.0.11 and fd00:172:20::11.
    let readable = u16::from_str_radix(&host.to_string(), 16).unwrap_or(u16::from(host));
    [
        Ipv4Addr::new(172, 20, 0, host).into(),
        Ipv6Addr::new(0xfd00, 0x172, 0x20, 0, 0, 0, 0, readable).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(nodes: u8) -> Options {
        Options {
            nodes,
            pod_network: String::new(),
            node_mask: 24,
            api_port: 1,
            routing: String::new(),
            without_network: false,
            manifest: "",
        }
    }

    #[test]
    fn machines_have_readable_addresses() {
        let plan = Plan::new(&options(2)).unwrap();
        assert_eq!(
            plan.hosts_file(),
            "127.0.0.1 localhost\n::1 localhost ip6-localhost\n\
             172.20.0.10 control\nfd00:172:20::10 control\n\
             172.20.0.11 node1\nfd00:172:20::11 node1\n\
             172.20.0.12 node2\nfd00:172:20::12 node2\n"
        );
    }

    #[test]
    fn the_largest_lab_has_distinct_addresses() {
        let plan = Plan::new(&options(MAX_NODES)).unwrap();
        let all: std::collections::BTreeSet<_> =
            plan.machines().flat_map(|m| m.addresses).collect();
        assert_eq!(all.len(), 2 * (usize::from(MAX_NODES) + 1));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert!(Plan::new(&options(0)).is_err());
        assert!(Plan::new(&options(MAX_NODES + 1)).is_err());
    }
}
