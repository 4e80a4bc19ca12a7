//! Network policy: what may talk to what, decided purely.
//!
//! ```text
//!  objects (api, k8s-openapi) ──▶ read: programs and problems ──▶ compile: Engine ──▶ Delta: map operations
//!        │                                                            identities, tables, port classes
//!        └────────────────────▶ oracle: the specification's words, plain and slow ──▶ explain, diff
//! ```
//!
//! Four tiers decide in this order, each at both ends of a flow: `ClusterNetworkPolicy` of the Admin tier,
//! [`api::MalhaPolicy`], `NetworkPolicy`, `ClusterNetworkPolicy` of the Baseline tier. What none decides is allowed.
//!
//! - [`model`] is the state of a cluster as far as policy needs it.
//! - [`oracle`] answers one flow. It reads the objects themselves and shares no code with the compiler but the model.
//! - [`compile::Engine`] keeps tables for one node's endpoints, and tells what to change in the kernel's maps.
//! - [`maps::Maps`] is what the datapath does with them, without a kernel.
//! - [`explain`] and [`diff`] say it to people.
//!
//! No I/O, no clock, no randomness: the same input gives the same answer on every node.

pub mod api;
pub mod compile;
pub mod diff;
pub mod explain;
pub mod maps;
pub mod model;
mod mutant;
pub mod oracle;
pub mod read;

#[cfg(test)]
mod tests;
