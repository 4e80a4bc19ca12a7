//! The lab: a whole cluster on one machine, each machine of it a set of Linux namespaces.
//!
//! ```text
//!   host ── 127.0.0.1:16443 ──▶ forwarder ┐
//!                                         │ lives in the fabric's network namespace
//!   fabric 172.20.0.1, fd00:172:20::1  ┌──┴───┐   a bridge: the machines' switch, and the world outside the cluster
//!                                      │ br0  │
//!               ┌───────────────┬──────┴──────┬───────────────┐
//!            control          node1         node2           node3
//!          172.20.0.10     172.20.0.11   172.20.0.12     172.20.0.13
//! ```
//!
//! A machine is a process that is PID 1 of its own pid, mount, network, uts, ipc and cgroup namespaces ([`hold`]). Its
//! root is an overlay over the host's root, so nothing that happens in it touches the host's files, and ending PID 1
//! ends everything that runs in it. The host's own network namespace gets no link, no address and no rule.
//!
//! [`story`] plays what a user would do: `malha init`, `malha join`, apply the manifest, look at nodes and pods.

mod cgroups;
pub mod cluster;
pub mod connect;
mod down;
pub mod enter;
mod fabric;
pub mod fetch;
mod files;
mod forward;
pub mod hold;
mod icmp;
mod machine;
mod matrix;
mod plan;
pub mod pods;
mod progress;
pub mod serve;
pub mod state;
pub mod status;
pub mod story;
pub mod stream;
mod table;

pub use down::down;
pub use plan::{Options, Plan};
pub use state::State;
