//! What the API server asks of the node: logs, exec, attach, port-forward.

pub mod insecure;

use std::sync::Arc;

use anyhow::Result;
use kube::Client;

use crate::{Config, pods::context::Registry, runtime::Runtime};

/// A running server.
pub struct Server;

impl Server {
    /// Takes no more connections.
    pub fn stop(self) {}
}

/// Starts it.
///
/// # Errors
/// When the port is in use, or there is no certificate.
pub async fn start(_: Arc<Config>, _: Client, _: Arc<Runtime>, _: Registry) -> Result<Server> {
    Ok(Server)
}
