//! What isolated endpoints may send and get, as `bpf/policy.h` looks it up.
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;
use malha_abi::{
    ConnectionValue, FlowKey, IdentityValue, PolicyValue, PrefixKey, VerdictKey, VerdictValue,
    direction, map as name, verdict,
};

use crate::error::Result;
use crate::map::Map;
use crate::routes::{from_key, to_key};

/// What holds for an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Table of what may come in; None: everything may.
    pub ingress: Option<u32>,
    /// Table of what may go out; None: everything may.
    pub egress: Option<u32>,
    /// Another one makes the kernel judge again what is connected.
    pub revision: u32,
}

/// Which connections an entry of a table is about: those with this identity at the other end, on these ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Match {
    /// The table.
    pub table: u32,
    /// [`malha_abi::identity`] or a number of the agent's.
    pub identity: u32,
    /// IP protocol number and ports; None: all.
    pub ports: Option<(u8, PortRange)>,
}

/// Ports with the same leading bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// The first of them.
    pub first: u16,
    /// How many leading bits they share: 16 for one port, 0 for all.
    pub bits: u8,
}

/// What may be done, and which rule says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it passes.
    pub allow: bool,
    /// The rule's number, for people.
    pub rule: u32,
}

/// Who made a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeBy {
    /// The endpoint.
    Endpoint,
    /// The other end.
    Peer,
}

/// A connection that an isolated endpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// IP protocol number.
    pub protocol: u8,
    /// The endpoint's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Who made it.
    pub made_by: MadeBy,
    /// The policy's revision that it was judged under.
    pub revision: u32,
    /// The rule that allows it; 0: none has to.
    pub rule: u32,
}

/// The maps of policy.
#[derive(Debug)]
pub struct Policies {
    policies: Map<u32, PolicyValue>,
    identities: Map<PrefixKey, IdentityValue>,
    verdicts: Map<VerdictKey, VerdictValue>,
    connections: Map<FlowKey, ConnectionValue>,
}

impl Policies {
    pub(crate) fn open(maps: &Path) -> Result<Self> {
        Ok(Self {
            policies: Map::open(maps, name::POLICIES, 1)?,
            identities: Map::open(maps, name::IDENTITIES, 1)?,
            verdicts: Map::open(maps, name::VERDICTS, 1)?,
            connections: Map::open(maps, name::CONNECTIONS, 1)?,
        })
    }

    /// Isolate an endpoint, or set what holds for it now: in one step, for both directions and families.
    ///
    /// # Errors
    /// [`crate::Error::Full`], [`crate::Error::Map`].
    pub fn set(&self, endpoint: u32, policy: Policy) -> Result<()> {
        let value = PolicyValue {
            ingress: policy.ingress.unwrap_or(0),
            egress: policy.egress.unwrap_or(0),
            revision: policy.revision,
            reserved: 0,
        };
        self.policies.set(&endpoint, &value)
    }

    /// Isolate an endpoint no more. Absent is fine.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn remove(&self, endpoint: u32) -> Result<()> {
        self.policies.remove(&endpoint).map(drop)
    }

    /// What holds for every isolated endpoint, by its number.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn list(&self) -> Result<Vec<(u32, Policy)>> {
        let read = |(endpoint, value): (u32, PolicyValue)| {
            let table = |number: u32| (number != 0).then_some(number);
            let policy = Policy {
                ingress: table(value.ingress),
                egress: table(value.egress),
                revision: value.revision,
            };
            (endpoint, policy)
        };
        Ok(self.policies.entries()?.into_iter().map(read).collect())
    }

    /// Say who has the addresses of a prefix that no longer prefix covers.
    ///
    /// # Errors
    /// [`crate::Error::Full`], [`crate::Error::Map`].
    pub fn set_identity(&self, prefix: IpNet, identity: u32) -> Result<()> {
        self.identities
            .set(&to_key(prefix), &IdentityValue { identity })
    }

    /// Forget exactly this prefix. Absent is fine.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn remove_identity(&self, prefix: IpNet) -> Result<()> {
        self.identities.remove(&to_key(prefix)).map(drop)
    }

    /// Who has an address.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn identity(&self, address: IpAddr) -> Result<Option<u32>> {
        let found = self.identities.get(&to_key(address.into()))?;
        Ok(found.map(|value| value.identity))
    }

    /// Every prefix and who has it.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn identities(&self) -> Result<Vec<(IpNet, u32)>> {
        let entries = self.identities.entries()?.into_iter();
        Ok(entries
            .filter_map(|(key, value)| Some((from_key(&key)?, value.identity)))
            .collect())
    }

    /// Add or replace an entry of a table.
    ///
    /// # Errors
    /// [`crate::Error::Full`], [`crate::Error::Map`].
    pub fn set_verdict(&self, at: Match, verdict: Verdict) -> Result<()> {
        let value = VerdictValue {
            flags: match verdict.allow {
                true => verdict::ALLOW,
                false => verdict::DENY,
            },
            rule: verdict.rule,
        };
        self.verdicts.set(&at.key(), &value)
    }

    /// Remove an entry. Absent is fine.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn remove_verdict(&self, at: Match) -> Result<()> {
        self.verdicts.remove(&at.key()).map(drop)
    }

    /// Every entry of every table.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn verdicts(&self) -> Result<Vec<(Match, Verdict)>> {
        let read = |(key, value): (VerdictKey, VerdictValue)| {
            let verdict = Verdict {
                allow: value.flags & verdict::ALLOW != 0,
                rule: value.rule,
            };
            (Match::of(&key), verdict)
        };
        Ok(self.verdicts.entries()?.into_iter().map(read).collect())
    }

    /// The connections of isolated endpoints.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn connections(&self) -> Result<Vec<Connection>> {
        let read = |(key, value): (FlowKey, ConnectionValue)| Connection {
            protocol: key.protocol,
            local: SocketAddr::new(key.local.into(), key.local_port),
            remote: SocketAddr::new(key.remote.into(), key.remote_port),
            made_by: match value.direction {
                direction::OUT => MadeBy::Endpoint,
                _ => MadeBy::Peer,
            },
            revision: value.revision,
            rule: value.rule,
        };
        Ok(self.connections.entries()?.into_iter().map(read).collect())
    }
}

/// Bits of a key before the protocol.
const IDENTITY_BITS: u32 = 64;
/// Bits of a key before the port.
const PROTOCOL_BITS: u32 = 80;

impl Match {
    fn key(&self) -> VerdictKey {
        let (length, protocol, port) = match self.ports {
            None => (IDENTITY_BITS, 0, 0),
            Some((protocol, ports)) => {
                (PROTOCOL_BITS + u32::from(ports.bits), protocol, ports.first)
            }
        };
        VerdictKey {
            length,
            table: self.table,
            identity: self.identity,
            protocol: u16::from(protocol).to_be(),
            port: port.to_be(),
        }
    }

    fn of(key: &VerdictKey) -> Self {
        let ports = PortRange {
            first: u16::from_be(key.port),
            bits: key.length.saturating_sub(PROTOCOL_BITS) as u8,
        };
        let protocol = u16::from_be(key.protocol) as u8;
        Self {
            table: key.table,
            identity: key.identity,
            ports: (key.length >= PROTOCOL_BITS).then_some((protocol, ports)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_survives_its_key() {
        let ports = |first, bits| Some((6, PortRange { first, bits }));
        for ports in [None, ports(0, 0), ports(8080, 16), ports(0x8000, 1)] {
            let at = Match {
                table: 7,
                identity: 16,
                ports,
            };
            assert_eq!(Match::of(&at.key()), at);
        }
    }
}
