//! The machine as a Node object: registered, alive (a lease), and in what condition.

mod facts;
mod lease;
mod object;
mod readiness;
mod registration;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use tokio::sync::watch;

pub use object::{Facts, Pressure};
pub use readiness::NetworkState;

use crate::{Config, runtime::Runtime};

/// What the rest of the agent learns about the machine.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Whether pods can have a network.
    pub network: watch::Receiver<NetworkState>,
    /// The Node object as the API server has it.
    pub node: watch::Receiver<Option<Arc<Node>>>,
}

/// Starts what keeps the Node object right; it ends with the runtime for asynchronous code.
pub fn start(client: Client, config: Arc<Config>, runtime: Arc<Runtime>) -> Watched {
    let network = readiness::watch_network(runtime);
    let (sender, node) = watch::channel(None);
    tokio::spawn(registration::keep_registered(
        client.clone(),
        config.clone(),
        network.clone(),
        sender,
    ));
    tokio::spawn(lease::keep_alive(
        client,
        config.node_name.clone(),
        node.clone(),
    ));
    Watched { network, node }
}

/// Processors, and bytes of memory.
pub fn capacity() -> (u64, u64) {
    facts::capacity()
}

/// The time as Kubernetes writes it: whole seconds.
pub fn seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
