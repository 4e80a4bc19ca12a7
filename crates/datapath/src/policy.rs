//! What isolated endpoints may send and get, as `bpf/policy.h` looks it up.
use std::net::SocketAddr;
use std::path::Path;

use ipnet::IpNet;
use malha_abi::{
    ConnectionValue, FlowKey, IdentityKey, IdentityValue, PeerKey, PolicyValue, PortKey, PrefixKey,
    VerdictValue, direction, map as name, verdict,
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
    /// Which generation of identities its tables are about.
    pub generation: u32,
}

/// What a table says of whoever has an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The same for every protocol and port.
    Fixed(Verdict),
    /// It depends: see this class of ports.
    Class(u32),
}

/// Which connections a row of a class is about: of all protocols, or those of one to ports with the same leading bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortPrefix {
    /// IP protocol number; 0 if `bits` is.
    pub protocol: u8,
    /// The first of the ports.
    pub port: u16,
    /// How many bits matter: 0, or 8 for the protocol and up to 16 more for the port.
    pub bits: u8,
}

/// What may be done, and which rule says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it passes.
    pub allow: bool,
    /// Whether it is worth an event even if it passes.
    pub log: bool,
    /// The rule's number, for people; 0: none.
    pub rule: u32,
    /// The staged rule that would say otherwise.
    pub staged: Option<u32>,
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
    identities: Map<IdentityKey, IdentityValue>,
    peers: Map<PeerKey, VerdictValue>,
    ports: Map<PortKey, VerdictValue>,
    connections: Map<FlowKey, ConnectionValue>,
}

impl Policies {
    pub(crate) fn open(maps: &Path) -> Result<Self> {
        Ok(Self {
            policies: Map::open(maps, name::POLICIES, 1)?,
            identities: Map::open(maps, name::IDENTITIES, 1)?,
            peers: Map::open(maps, name::PEERS, 1)?,
            ports: Map::open(maps, name::PORTS, 1)?,
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
            generation: policy.generation,
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
                generation: value.generation,
            };
            (endpoint, policy)
        };
        Ok(self.policies.entries()?.into_iter().map(read).collect())
    }

    /// Say who has, in a generation, the addresses of a prefix that no longer prefix covers.
    ///
    /// # Errors
    /// [`crate::Error::Full`], [`crate::Error::Map`].
    pub fn set_identity(&self, generation: u32, prefix: IpNet, identity: u32) -> Result<()> {
        let key = identity_key(generation, prefix);
        self.identities.set(&key, &IdentityValue { identity })
    }

    /// Forget exactly this prefix. Absent is fine.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn remove_identity(&self, generation: u32, prefix: IpNet) -> Result<()> {
        let key = identity_key(generation, prefix);
        self.identities.remove(&key).map(drop)
    }

    /// Every prefix of every generation, and who has it.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn identities(&self) -> Result<Vec<(u32, IpNet, u32)>> {
        let entries = self.identities.entries()?.into_iter();
        let read = |(key, value): (IdentityKey, IdentityValue)| {
            let prefix = PrefixKey {
                length: key.length.checked_sub(GENERATION_BITS)?,
                address: key.address,
            };
            Some((key.generation, from_key(&prefix)?, value.identity))
        };
        Ok(entries.filter_map(read).collect())
    }

    /// Say what a table holds of an identity; [`malha_abi::identity::NONE`] stands for all that it does not name, and
    /// every table needs it.
    ///
    /// # Errors
    /// [`crate::Error::Full`], [`crate::Error::Map`].
    pub fn set_peer(&self, table: u32, identity: u32, peer: Peer) -> Result<()> {
        let value = match peer {
            Peer::Fixed(verdict) => verdict.value(0),
            Peer::Class(class) => Verdict::default().value(class),
        };
        self.peers.set(&PeerKey { table, identity }, &value)
    }

    /// Remove what a table holds of an identity. Absent is fine.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn remove_peer(&self, table: u32, identity: u32) -> Result<()> {
        self.peers.remove(&PeerKey { table, identity }).map(drop)
    }

    /// Every row of every table: table, identity, and what it says.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn peers(&self) -> Result<Vec<(u32, u32, Peer)>> {
        let read = |(key, value): (PeerKey, VerdictValue)| {
            let peer = match value.class {
                0 => Peer::Fixed(Verdict::of(&value)),
                class => Peer::Class(class),
            };
            (key.table, key.identity, peer)
        };
        Ok(self.peers.entries()?.into_iter().map(read).collect())
    }

    /// Add or replace a row of a class of ports. The longest that matches decides; every class needs one of no bits.
    ///
    /// # Errors
    /// [`crate::Error::Full`], [`crate::Error::Map`].
    pub fn set_port(&self, class: u32, prefix: PortPrefix, verdict: Verdict) -> Result<()> {
        self.ports.set(&port_key(class, prefix), &verdict.value(0))
    }

    /// Remove a row. Absent is fine.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn remove_port(&self, class: u32, prefix: PortPrefix) -> Result<()> {
        self.ports.remove(&port_key(class, prefix)).map(drop)
    }

    /// Every row of every class.
    ///
    /// # Errors
    /// [`crate::Error::Map`].
    pub fn ports(&self) -> Result<Vec<(u32, PortPrefix, Verdict)>> {
        let read = |(key, value): (PortKey, VerdictValue)| {
            (key.class, port_prefix(&key), Verdict::of(&value))
        };
        Ok(self.ports.entries()?.into_iter().map(read).collect())
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

/// Bits of a key before the address.
const GENERATION_BITS: u32 = 32;

fn identity_key(generation: u32, prefix: IpNet) -> IdentityKey {
    let PrefixKey { length, address } = to_key(prefix);
    IdentityKey {
        length: GENERATION_BITS + length,
        generation,
        address,
    }
}

/// Bits of a key before the protocol.
const CLASS_BITS: u32 = 32;

fn port_key(class: u32, prefix: PortPrefix) -> PortKey {
    PortKey {
        length: CLASS_BITS + u32::from(prefix.bits),
        class,
        protocol: prefix.protocol,
        port: prefix.port.to_be_bytes(),
        reserved: 0,
    }
}

fn port_prefix(key: &PortKey) -> PortPrefix {
    PortPrefix {
        protocol: key.protocol,
        port: u16::from_be_bytes(key.port),
        bits: key.length.saturating_sub(CLASS_BITS) as u8,
    }
}

impl Verdict {
    fn value(&self, class: u32) -> VerdictValue {
        let bit = |set: bool, bit: u32| if set { bit } else { 0 };
        VerdictValue {
            flags: bit(self.allow, verdict::ALLOW)
                | bit(self.log, verdict::LOG)
                | bit(self.staged.is_some(), verdict::STAGED),
            rule: self.rule,
            class,
            staged: self.staged.unwrap_or(0),
        }
    }

    fn of(value: &VerdictValue) -> Self {
        Self {
            allow: value.flags & verdict::ALLOW != 0,
            log: value.flags & verdict::LOG != 0,
            rule: value.rule,
            staged: (value.flags & verdict::STAGED != 0).then_some(value.staged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_ports_survives_its_key() {
        for (protocol, port, bits) in [(0, 0, 0), (6, 0, 8), (6, 8080, 24), (17, 0x8000, 9)] {
            let prefix = PortPrefix {
                protocol,
                port,
                bits,
            };
            assert_eq!(port_prefix(&port_key(7, prefix)), prefix);
        }
    }

    #[test]
    fn a_verdict_survives_its_value() {
        for (allow, staged) in [(true, None), (false, Some(9)), (true, Some(0))] {
            let verdict = Verdict {
                allow,
                log: allow,
                rule: 7,
                staged,
            };
            assert_eq!(Verdict::of(&verdict.value(0)), verdict);
        }
    }
}
