//! The network agent: one loop from watched objects to desired state to reconciled kernel state.
//!
//! ```text
//!  API server ──watch──▶ Change ──▶ Brain (index + host) ──▶ Desired ──▶ Mailbox ──▶ Runner ──▶ targets, in order:
//!                                     │ pure: model::desired                           settings, overlay, datapath,
//!  host (links, addresses, paths) ────┘ published only when it differs                 routes, masquerade, endpoints,
//!            ▲ news                                                                    and last cni (node Ready)
//!  malha-cni ──wire──▶ cni::Handler ──▶ endpoint Manager ◀── policy   status, events, condition ◀── Board
//!  malha status ──HTTP──▶ api
//! ```
//! The kernel keeps everything that forwards packets: this process may end at any moment.
mod agent;
pub mod api;
mod before;
mod brain;
pub mod cluster;
mod cni;
pub mod config;
mod lock;
pub mod model;
mod news;
mod observe;
mod policy;
mod report;
mod sandboxes;
mod sources;
pub mod target;
pub mod uninstall;

pub use agent::run;
pub use cluster::connection::Cluster;
pub use config::{Config, ConfigError, Paths, Routing};
pub use sandboxes::Runtimes;
