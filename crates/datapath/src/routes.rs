//! Where prefixes lie, as far as the pod network is concerned; everything else is the kernel's own routing.
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use malha_abi::{Address, PrefixKey, RouteValue, map as name, route_kind};

use crate::error::{Error, Result};
use crate::map::Map;

/// IPv4 prefixes lie in ::ffff:0:0/96.
const MAPPED_BITS: u32 = 96;

/// Where a prefix lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NextHop {
    /// Through the overlay, to the node whose tunnel ends at this address. The same route is the proof, for packets
    /// that come in, that the node may send from the prefix.
    Overlay {
        /// The address that the node sends encapsulated packets from.
        vtep: IpAddr,
    },
    /// Directly, through a neighbour on the uplink: for a node in the same subnet, the node itself.
    Direct {
        /// The neighbour's address, of either family.
        gateway: IpAddr,
        /// The uplink.
        ifindex: u32,
    },
    /// An address of this node.
    Local,
    /// Part of the pod network that no node is known to hold. A covering route of this kind for every pod CIDR keeps
    /// packets to unknown pods from leaking out of the uplink.
    Blackhole,
}

/// The routes map.
#[derive(Debug)]
pub struct Routes {
    map: Map<PrefixKey, RouteValue>,
}

impl Routes {
    pub(crate) fn open(maps: &Path) -> Result<Self> {
        Ok(Self {
            map: Map::open(maps, name::ROUTES, 1)?,
        })
    }

    /// Add or replace the route of a prefix; packets see the old one or the new one.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Map`].
    pub fn upsert(&self, prefix: IpNet, next_hop: NextHop) -> Result<()> {
        self.map.set(&to_key(prefix), &value(next_hop))
    }

    /// Remove the route of exactly this prefix; whether there was one.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn remove(&self, prefix: IpNet) -> Result<bool> {
        self.map.remove(&to_key(prefix))
    }

    /// Every route, by prefix.
    ///
    /// # Errors
    /// [`Error::Map`], also for an entry that this version cannot have written.
    pub fn list(&self) -> Result<Vec<(IpNet, NextHop)>> {
        let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidData);
        let read = |(key, value)| {
            let source = invalid();
            from_key(&key).zip(next_hop(&value)).ok_or(Error::Map {
                what: "understand",
                map: name::ROUTES,
                source,
            })
        };
        let mut routes: Vec<_> = self
            .map
            .entries()?
            .into_iter()
            .map(read)
            .collect::<Result<_>>()?;
        routes.sort_by_key(|(prefix, _)| *prefix);
        Ok(routes)
    }
}

/// A prefix as a map's key.
pub(crate) fn to_key(prefix: IpNet) -> PrefixKey {
    let prefix = prefix.trunc();
    let mapped = if prefix.addr().is_ipv4() {
        MAPPED_BITS
    } else {
        0
    };
    PrefixKey {
        length: mapped + u32::from(prefix.prefix_len()),
        address: prefix.addr().into(),
    }
}

/// The prefix that a key is; None: not one that [`to_key`] makes.
pub(crate) fn from_key(key: &PrefixKey) -> Option<IpNet> {
    let address = IpAddr::from(key.address);
    let length = if address.is_ipv4() {
        key.length.checked_sub(MAPPED_BITS)?
    } else {
        key.length
    };
    IpNet::new(address, u8::try_from(length).ok()?).ok()
}

fn value(next_hop: NextHop) -> RouteValue {
    let (kind, ifindex, via) = match next_hop {
        NextHop::Overlay { vtep } => (route_kind::OVERLAY, 0, vtep.into()),
        NextHop::Direct { gateway, ifindex } => (route_kind::DIRECT, ifindex, gateway.into()),
        NextHop::Local => (route_kind::LOCAL, 0, Address::default()),
        NextHop::Blackhole => (route_kind::BLACKHOLE, 0, Address::default()),
    };
    RouteValue { kind, ifindex, via }
}

fn next_hop(value: &RouteValue) -> Option<NextHop> {
    match value.kind {
        route_kind::OVERLAY => Some(NextHop::Overlay {
            vtep: value.via.into(),
        }),
        route_kind::DIRECT => Some(NextHop::Direct {
            gateway: value.via.into(),
            ifindex: value.ifindex,
        }),
        route_kind::LOCAL => Some(NextHop::Local),
        route_kind::BLACKHOLE => Some(NextHop::Blackhole),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_both_families_survive() {
        for text in [
            "0.0.0.0/0",
            "10.244.3.0/24",
            "10.244.3.7/32",
            "::/0",
            "fd00:10:244:3::/64",
            "fd00::7/128",
        ] {
            let net: IpNet = text.parse().unwrap();
            assert_eq!(from_key(&to_key(net)), Some(net));
        }
    }

    #[test]
    fn host_bits_are_cut() {
        assert_eq!(
            to_key("10.244.3.9/24".parse().unwrap()),
            to_key("10.244.3.0/24".parse().unwrap())
        );
    }
}
