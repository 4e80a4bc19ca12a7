//! The kernel's maps: their keys and values, the operations on them, and what the datapath does with them, without a
//! kernel.
//!
//! To judge a packet at one end (an endpoint, a direction), given the address of the other end:
//!
//! 1. `table` = the endpoint's table of the direction. Table 0: allow, no lookup.
//! 2. `identity` = longest prefix of the address in `addresses`; none: 0.
//! 3. `row` = `peers[table, identity]`, else `peers[table, 0]`. Neither: deny, the maps are broken.
//! 4. A row with a verdict is the answer. Else it names a class, and the answer is the longest prefix of
//!    (class, protocol, port) in `ports`; every class has a row of its own for whatever protocol.
//!
//! That is one hash lookup (two where the peer is nobody in particular) and at most one longest-prefix lookup, for any
//! number of rules. Precedence was resolved when the rows were made.
use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use crate::model::{Direction, PodKey};

/// The table of endpoints that no policy selects.
pub const NO_TABLE: u32 = 0;
/// The identity of addresses that no rule mentions.
pub const NO_IDENTITY: u32 = 0;
/// The rule of what no policy decides.
pub const NO_RULE: u32 = 0;

/// An end of flows on this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// The node's own stack.
    Host,
    /// A pod with a network of its own.
    Pod(PodKey),
}

/// The tables of an endpoint. Both change in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointTables {
    /// For what it receives.
    pub ingress: u32,
    /// For what it sends.
    pub egress: u32,
}

/// What would hold if the staged policies were in force, where that is not what holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StagedVerdict {
    /// Whether it would pass.
    pub allow: bool,
    /// The rule that would decide.
    pub rule: u32,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Verdict {
    /// Whether it passes.
    pub allow: bool,
    /// Report it as an event, even if it passes.
    pub log: bool,
    /// The rule that decided, by number; [`NO_RULE`]: none.
    pub rule: u32,
    /// What staged policies would change.
    pub staged: Option<StagedVerdict>,
}

/// Key of `peers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey {
    /// The table.
    pub table: u32,
    /// The peer's identity; 0: everybody who has no row.
    pub identity: u32,
}

/// Value of `peers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerValue {
    /// The same for every protocol and port.
    Fixed(Verdict),
    /// Look in `ports`, under this class.
    Class(u32),
}

/// Which protocols and ports a row of `ports` is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortPrefix {
    /// IP protocol number; 0 with `length` 0.
    pub protocol: u8,
    /// Destination port; bits beyond the length are 0.
    pub port: u16,
    /// Bits that matter: 0, or 8 for the protocol and 0 to 16 for the port.
    pub length: u8,
}

/// Key of `ports`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// The class.
    pub class: u32,
    /// What of it.
    pub prefix: PortPrefix,
}

/// One change of one map element. In the order given, every state in between is one that was or will be: each end's
/// verdict on each flow is the old one or the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Insert or replace in `peers`.
    SetPeer(PeerKey, PeerValue),
    /// Delete from `peers`.
    DeletePeer(PeerKey),
    /// Insert in `ports`.
    SetPort(PortKey, Verdict),
    /// Delete from `ports`.
    DeletePort(PortKey),
    /// Insert or replace in `addresses`.
    SetAddress(IpNet, u32),
    /// Delete from `addresses`.
    DeleteAddress(IpNet),
    /// Give an endpoint its tables.
    SetEndpoint(Endpoint, EndpointTables),
    /// The endpoint is gone.
    DeleteEndpoint(Endpoint),
}

/// The maps of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// Hash map.
    pub peers: BTreeMap<PeerKey, PeerValue>,
    /// Longest-prefix map.
    pub ports: BTreeMap<PortKey, Verdict>,
    /// Longest-prefix map.
    pub addresses: BTreeMap<IpNet, u32>,
    /// Part of the endpoints' entries.
    pub endpoints: BTreeMap<Endpoint, EndpointTables>,
}

/// What a packet is judged by at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Seen from this end.
    pub direction: Direction,
    /// The other end's address.
    pub peer: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; 0 where there is none.
    pub port: u16,
}

const ALLOW: Verdict = Verdict {
    allow: true,
    log: false,
    rule: NO_RULE,
    staged: None,
};

impl Maps {
    /// Do what a delta says.
    pub fn apply<'a>(&mut self, ops: impl IntoIterator<Item = &'a Op>) {
        for op in ops {
            match op.clone() {
                Op::SetPeer(key, value) => drop(self.peers.insert(key, value)),
                Op::DeletePeer(key) => drop(self.peers.remove(&key)),
                Op::SetPort(key, value) => drop(self.ports.insert(key, value)),
                Op::DeletePort(key) => drop(self.ports.remove(&key)),
                Op::SetAddress(prefix, identity) => drop(self.addresses.insert(prefix, identity)),
                Op::DeleteAddress(prefix) => drop(self.addresses.remove(&prefix)),
                Op::SetEndpoint(endpoint, tables) => drop(self.endpoints.insert(endpoint, tables)),
                Op::DeleteEndpoint(endpoint) => drop(self.endpoints.remove(&endpoint)),
            }
        }
    }

    /// The verdict at one end. `None`: the endpoint is closed (not known), or the maps are broken, which is as closed.
    pub fn verdict(&self, endpoint: &Endpoint, lookup: Lookup) -> Option<Verdict> {
        let tables = self.endpoints.get(endpoint)?;
        let table = match lookup.direction {
            Direction::Ingress => tables.ingress,
            Direction::Egress => tables.egress,
        };
        if table == NO_TABLE {
            return Some(ALLOW);
        }
        let row = |identity| self.peers.get(&PeerKey { table, identity });
        match *row(self.identity(lookup.peer)).or_else(|| row(NO_IDENTITY))? {
            PeerValue::Fixed(verdict) => Some(verdict),
            PeerValue::Class(class) => self.port(class, lookup.protocol, lookup.port),
        }
    }

    /// The identity of an address.
    pub fn identity(&self, address: IpAddr) -> u32 {
        let host = IpNet::from(address);
        let lengths = (0..=host.prefix_len()).rev();
        let mut prefixes = lengths.filter_map(|length| IpNet::new(address, length).ok());
        prefixes
            .find_map(|prefix| self.addresses.get(&prefix.trunc()))
            .copied()
            .unwrap_or(NO_IDENTITY)
    }

    fn port(&self, class: u32, protocol: u8, port: u16) -> Option<Verdict> {
        let mut prefixes = (0..=16u8).rev().map(|bits| PortPrefix {
            protocol,
            port: port & port_mask(bits),
            length: 8 + bits,
        });
        let of_protocol = prefixes.find_map(|prefix| self.ports.get(&PortKey { class, prefix }));
        let prefix = PortPrefix::ANY;
        of_protocol
            .or_else(|| self.ports.get(&PortKey { class, prefix }))
            .copied()
    }
}

/// The mask of the first bits of a port.
pub(crate) fn port_mask(bits: u8) -> u16 {
    u16::MAX.checked_shl(16 - u32::from(bits)).unwrap_or(0)
}

impl PortPrefix {
    /// Whatever protocol.
    pub const ANY: Self = Self {
        protocol: 0,
        port: 0,
        length: 0,
    };
}
