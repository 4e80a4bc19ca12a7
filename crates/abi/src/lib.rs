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
    ConfigValue, Counter, DropEvent, EndpointValue, PrefixKey, RouteValue, STRUCTS, endpoint_flags,
    hook, route_kind,
};

/// Version of the map layouts, written into the config map; programs and agent must agree on it.
pub const ABI_VERSION: u32 = 1;

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
    /// All of them.
    pub const ALL: [&str; 6] = [CONFIG, ENDPOINTS, ROUTES, DROPS, EVENTS, LOST];
}
