//! The embedded control plane's controllers, each a client of the API like any other.
//!
//! All of them have one shape (`frame`): shared watches fill one store per kind (`world`), a pure function decides what
//! is to be done now, and one loop does it, waits and retries.

mod accounts;
mod certificates;
mod config;
mod daemonset;
mod discovery;
mod endpoints;
mod frame;
mod garbage;
mod matching;
mod namespaces;
mod nodes;
mod pod_gc;
mod pods;
mod scheduler;
mod start;
#[cfg(test)]
mod testing;
mod tokens;
mod world;

use std::future::Future;

pub use config::{Config, Error, Timings};

/// Runs every controller until `shutdown` is done.
///
/// `client` must be allowed everything: in the control plane's own process it is the server's client service for a
/// superuser. A controller that fails is logged and started again; it never ends the others.
///
/// # Errors
/// Before anything starts: when the CA cannot sign, or the pod ranges cannot be cut or touch the Services'.
pub async fn run(
    client: kube::Client,
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let mut tasks = start::start(client, &config)?;
    shutdown.await;
    tasks.shutdown().await;
    Ok(())
}
