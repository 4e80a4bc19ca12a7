//! The agent's HTTP API, on a unix socket that only root can open: `/healthz`, `/readyz`, `/status`, `/endpoints`, and
//! `/drops`, which streams dropped packets as lines of JSON.

pub mod client;
mod drops;
mod server;
mod status;
mod text;

pub use drops::{DropLine, DropWatch, PodNames};
pub use server::{Api, Sources};
pub use status::{
    AgentStatus, DropStatus, EndpointStatus, HealthStatus, PeerStatus, PoolStatus, ServerStatus,
    WayStatus,
};
pub(crate) use status::{Parts, gather};
