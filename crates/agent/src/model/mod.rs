//! The agent's picture of the world: what the cluster says ([`Index`]), what the host is like ([`Host`]), and what
//! follows from both ([`desired()`]). Pure: no I/O, no clock.

mod desired;
mod host;
mod index;
mod mtu;
mod peers;
mod text;

pub(crate) use desired::first_address;
pub use desired::{
    Desired, Inputs, KernelRoute, Masquerade, OVERLAY_LINK, Overlay, Thought, Waiting, desired,
};
pub use host::{Host, HostAddress, Link, Path};
pub use index::{Index, NodeFacts};
pub use mtu::Mtus;
pub use peers::{Mode, Peer};
