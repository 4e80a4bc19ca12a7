//! What this host is like, as observed: links, addresses, and the ways to the other nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// A network device that is neither a pod's link nor the overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Largest IP packet it takes, in bytes.
    pub mtu: u32,
    /// Whether its frames have Ethernet headers, which the datapath's programs need.
    pub ethernet: bool,
}

/// An address of the host, with the subnet it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The link it is on.
    pub index: u32,
    /// The address and its prefix length.
    pub net: IpNet,
}

/// How the kernel would send a packet to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The link it leaves by.
    pub index: u32,
    /// The router it goes to; None: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The address it comes from.
    pub source: Option<IpAddr>,
    /// Largest packet, in bytes: the route's, else the link's.
    pub mtu: u32,
}

/// The host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Links by index.
    pub links: BTreeMap<u32, Link>,
    /// Addresses that are valid beyond one link.
    pub addresses: Vec<HostAddress>,
    /// The way to each other node's address; an address without an entry has no route.
    pub paths: BTreeMap<IpAddr, Path>,
}

impl Host {
    /// The link that has this address.
    #[must_use]
    pub fn link_of(&self, address: IpAddr) -> Option<&Link> {
        let found = self
            .addresses
            .iter()
            .find(|own| own.net.addr() == address)?;
        self.links.get(&found.index)
    }

    /// The link in whose subnet an address of another host lies.
    #[must_use]
    pub fn on_link(&self, address: IpAddr) -> Option<&Link> {
        let covers = |own: &&HostAddress| {
            own.net.prefix_len() < own.net.max_prefix_len() && own.net.contains(&address)
        };
        let nearest = self
            .addresses
            .iter()
            .filter(covers)
            .max_by_key(|own| own.net.prefix_len())?;
        self.links.get(&nearest.index)
    }
}
