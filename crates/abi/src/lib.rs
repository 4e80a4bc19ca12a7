//! The layout of every BPF map key and value, and of drop reasons: the single source for Rust and for C.
//!
//! The structures are declared once, by the [`layout`] macro, which gives each of them a `repr(C)` Rust type and a
//! description of its fields. [`header::render`] turns the descriptions into `bpf/abi.h`; a test compares that file
//! with what would be rendered, so the two sides cannot drift apart.
//!
//! Rules for a structure: no implicit padding (padding bytes in a hash key are garbage to the kernel, and in a value
//! they leak the stack), addresses always 16 bytes in network order with IPv4 mapped (RFC 4291, section 2.5.5.2),
//! everything else in host order. Any change of layout raises [`ABI_VERSION`].
#![no_std]

mod address;
pub mod header;
mod layout;
mod reason;
mod types;

pub use address::Address;
pub use layout::{Field, Layout, Struct};
pub use reason::{REASONS, Reason, reason_slots};
pub use types::{
    ConfigValue, ConnectionValue, Counter, DropEvent, EndpointValue, FlowKey, FlowValue,
    FragmentKey, FragmentValue, IdentityKey, IdentityValue, PeerKey, PolicyValue, PortKey,
    PrefixKey, RouteValue, STRUCTS, VerdictValue, direction, endpoint_flags, hook, identity,
    route_kind, verdict,
};

/// Version of the map layouts, written into the config map; programs and agent must agree on it. Version 2 has the maps
/// of flows besides those of version 1, and a counter more; version 3 those of policy, and counters for its drops.
pub const ABI_VERSION: u32 = 3;

/// The oldest version whose maps this one takes over as they are, but for the counters, which begin anew.
pub const ABI_COMPATIBLE_SINCE: u32 = 1;

/// Entries of the filter of pairs: 65536 bits, found by 16 bits of a hash.
pub const PAIR_WORDS: u32 = 1024;

/// Names of the maps, as they are called in the object file and under the pin directory.
pub mod map {
    /// One [`crate::ConfigValue`].
    pub const CONFIG: &str = "config";
    /// [`crate::Address`] to [`crate::EndpointValue`].
    pub const ENDPOINTS: &str = "endpoints";
    /// [`crate::PrefixKey`] to [`crate::RouteValue`], longest prefix first.
    pub const ROUTES: &str = "routes";
    /// Per CPU, [`crate::Counter`] by [`crate::Reason`].
    pub const DROPS: &str = "drops";
    /// Ring buffer of [`crate::DropEvent`].
    pub const EVENTS: &str = "events";
    /// Per CPU, one [`crate::Counter`]: events that found the ring buffer full.
    pub const LOST: &str = "lost";
    /// [`crate::FlowKey`] to [`crate::FlowValue`], least recently used: flows of TCP and SCTP that the node's stack has a
    /// hand in.
    pub const FLOWS: &str = "flows";
    /// The same for UDP, whose flows come and go too fast to share a map with connections.
    pub const DATAGRAMS: &str = "datagrams";
    /// One bit for each pair of addresses (by a hash) that ever had such a flow, 64 in an entry.
    pub const PAIRS: &str = "pairs";
    /// Endpoint number to [`crate::PolicyValue`].
    pub const POLICIES: &str = "policies";
    /// [`crate::IdentityKey`] to [`crate::IdentityValue`], longest prefix first.
    pub const IDENTITIES: &str = "identities";
    /// [`crate::PeerKey`] to [`crate::VerdictValue`].
    pub const PEERS: &str = "peers";
    /// [`crate::PortKey`] to [`crate::VerdictValue`], longest prefix first.
    pub const PORTS: &str = "ports";
    /// [`crate::FlowKey`] to [`crate::ConnectionValue`], least recently used.
    pub const CONNECTIONS: &str = "connections";
    /// [`crate::FragmentKey`] to [`crate::FragmentValue`], least recently used.
    pub const FRAGMENTS: &str = "fragments";
    /// All of them.
    pub const ALL: [&str; 15] = [
        CONFIG,
        ENDPOINTS,
        ROUTES,
        DROPS,
        EVENTS,
        LOST,
        FLOWS,
        DATAGRAMS,
        PAIRS,
        POLICIES,
        IDENTITIES,
        PEERS,
        PORTS,
        CONNECTIONS,
        FRAGMENTS,
    ];
}
