//! The local pods, as the datapath sees them: one entry for each address.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use malha_abi::{Address, EndpointValue, endpoint_flags, map as name};

use crate::error::Result;
use crate::map::Map;

/// A MAC address.
pub type Mac = [u8; 6];

/// A pod's attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The agent's number for it; drop events carry it.
    pub id: u32,
    /// Index of the link's host end.
    pub ifindex: u32,
    /// Its addresses, of either family.
    pub addresses: Vec<IpAddr>,
    /// The pod end's MAC address.
    pub mac: Mac,
    /// The host end's MAC address: the pod's gateway.
    pub host_mac: Mac,
    /// Security identity, local to the node; 0: not known.
    pub identity: u32,
    /// Whether traffic passes. A closed endpoint gets and sends nothing, from its first packet on.
    pub open: bool,
}

/// The endpoints map.
#[derive(Debug)]
pub struct Endpoints {
    map: Map<Address, EndpointValue>,
}

impl Endpoints {
    pub(crate) fn open(maps: &Path) -> Result<Self> {
        Ok(Self {
            map: Map::open(maps, name::ENDPOINTS, 1)?,
        })
    }

    /// Write an endpoint's entries. Entries of addresses that it no longer has stay: remove them.
    ///
    /// # Errors
    /// [`crate::Error::Full`] (then no entry of it that was not there before is left), [`crate::Error::Map`].
    pub fn upsert(&self, endpoint: &Endpoint) -> Result<()> {
        let value = EndpointValue {
            ifindex: endpoint.ifindex,
            id: endpoint.id,
            identity: endpoint.identity,
            flags: if endpoint.open {
                endpoint_flags::OPEN
            } else {
                0
            },
            mac: endpoint.mac,
            host_mac: endpoint.host_mac,
        };
        let mut added = Vec::new();
        for address in endpoint
            .addresses
            .iter()
            .map(|address| Address::from(*address))
        {
            let is_new = self.map.get(&address)?.is_none();
            if let Err(error) = self.map.set(&address, &value) {
                added
                    .iter()
                    .try_for_each(|address| self.map.remove(address).map(drop))?;
                return Err(error);
            }
            if is_new {
                added.push(address);
            }
        }
        Ok(())
    }

    /// Remove the entries of these addresses. Absent is fine.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn remove(&self, addresses: &[IpAddr]) -> Result<()> {
        addresses
            .iter()
            .try_for_each(|address| self.map.remove(&Address::from(*address)).map(drop))
    }

    /// Open or close the endpoint with these addresses; whether all of them have an entry.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn set_open(&self, addresses: &[IpAddr], open: bool) -> Result<bool> {
        let mut all = true;
        for address in addresses.iter().map(|address| Address::from(*address)) {
            let Some(mut value) = self.map.get(&address)? else {
                all = false;
                continue;
            };
            value.flags = if open {
                value.flags | endpoint_flags::OPEN
            } else {
                value.flags & !endpoint_flags::OPEN
            };
            self.map.set(&address, &value)?;
        }
        Ok(all)
    }

    /// The endpoint that has this address, with this address alone.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn get(&self, address: IpAddr) -> Result<Option<Endpoint>> {
        Ok(self
            .map
            .get(&Address::from(address))?
            .map(|value| from_value(address, &value)))
    }

    /// Every endpoint, by link and number. One whose entries differ in more than the address appears once for each kind.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn list(&self) -> Result<Vec<Endpoint>> {
        let mut endpoints: BTreeMap<_, Endpoint> = BTreeMap::new();
        for (address, value) in self.map.entries()? {
            let key = (
                value.ifindex,
                value.id,
                value.flags,
                value.identity,
                value.mac,
                value.host_mac,
            );
            let address = IpAddr::from(address);
            endpoints
                .entry(key)
                .and_modify(|endpoint| endpoint.addresses.push(address))
                .or_insert_with(|| from_value(address, &value));
        }
        let sorted = |mut endpoint: Endpoint| {
            endpoint.addresses.sort();
            endpoint
        };
        Ok(endpoints.into_values().map(sorted).collect())
    }
}

fn from_value(address: IpAddr, value: &EndpointValue) -> Endpoint {
    Endpoint {
        id: value.id,
        ifindex: value.ifindex,
        addresses: vec![address],
        mac: value.mac,
        host_mac: value.host_mac,
        identity: value.identity,
        open: value.flags & endpoint_flags::OPEN != 0,
    }
}
