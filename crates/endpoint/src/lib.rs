//! Endpoints of this node: crash-safe records, addresses, links and datapath entries behind the CNI verbs.
//!
//! [`Manager`] turns an attachment (container ID and interface name) into a link with addresses, and back. Every state
//! is in a file before the kernel changes, and the file's name is the state, so that each step is one rename, which
//! needs no space on a full disk:
//!
//! ```text
//! ADD   write ID.adding → veth, its peer born in the pod → datapath entries, closed → programs → node's end up, host
//!       routes, permanent neighbours → pod's end up, its addresses and routes → its policy is in force → host ports, if
//!       any → open → rename to ID.ready → answer
//! DEL   rename to ID.deleting → entries and host ports removed: nothing passes any more → answer
//!       later, many at once: links deleted → rename to ID.freed → quarantine over: file removed
//! ```
//! A process killed anywhere leaves a record from which the next one undoes (`adding`, `deleting`) or goes on (`ready`).
//! Records name the boot and the network namespace, so none outlives what it describes.
//!
//! Deleting a link waits some 20 ms for other CPUs, and holds the lock of all links for part of it. So DEL does not wait
//! for it: a thread deletes links in batches, and mostly finds that the death of the pod's namespace has done it already.
//!
//! All calls block and act in the calling thread's network namespace, which has to be the one that the manager was
//! opened in: the node's.
mod attachment;
mod check;
mod config;
mod error;
mod manager;
mod names;
mod plumbing;
mod pool;
mod ports;
mod reaper;
mod reconcile;
mod record;
mod resize;
mod state;

pub use attachment::{AddRequest, CheckRequest, Endpoint, Key, Pod};
pub use config::{Admission, Config, Hook, Step};
pub use error::{Error, Result};
pub use manager::Manager;
pub use names::{GATEWAY_V4, GATEWAY_V6, gateway, is_link_name, link_name, pod_mac};
pub use pool::PoolStatus;
pub use ports::HostPort;
pub use reconcile::Reconciled;
pub use state::Status;
