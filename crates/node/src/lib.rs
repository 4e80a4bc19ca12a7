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
mod retry;
pub mod runtime;
pub mod server;
mod teardown;
pub mod volumes;

use std::{future::Future, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
pub use config::Config;
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
pub use teardown::{TornDown, teardown};

use crate::{
    events::Events,
    pods::{
        context::{Context, Registry},
        manager,
        sources::Sources,
    },
    runtime::{Network, Runtime},
    volumes::Volumes,
};

/// Runs the node until `shutdown`: registers it, keeps its lease, runs its pods, serves logs and exec.
/// Pods go on running after it returns.
///
/// # Errors
/// When it cannot start: an unreadable kubeconfig, a port in use, a directory that cannot be made.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<()> {
    let client = client(&config.kubeconfig).await?;
    run_with(config, client, shutdown).await
}

/// As [`run`], with a client that is there already.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    config: Config,
    client: Client,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    check(&config)?;
    let config = Arc::new(config);
    let runtime = Arc::new(open_runtime(&config)?);
    let named = config.run_dir.join(teardown::NODE_NAME);
    std::fs::write(&named, &config.node_name)
        .with_context(|| format!("cannot write {}", named.display()))?;
    let registry = Registry::default();
    let server = server::start(
        config.clone(),
        client.clone(),
        runtime.clone(),
        registry.clone(),
    )
    .await?;
    let watched = machine::start(client.clone(), config.clone(), runtime.clone());
    let sources = Sources::new(client.clone());
    let context = Arc::new(Context {
        volumes: Volumes::new(config.root_dir.clone(), sources.clone()),
        events: Events::start(client.clone(), config.node_name.clone()),
        capacity: machine::capacity(),
        config,
        client,
        runtime,
        sources,
        watched,
        registry,
    });
    tracing::info!(
        node = context.config.node_name,
        version = malha_core::KUBERNETES_VERSION,
        "node agent runs"
    );
    tokio::select! {
        () = shutdown => {}
        () = manager::run(context) => {}
    }
    server.stop();
    Ok(())
}

fn check(config: &Config) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the node agent starts containers, so it must run as root");
    }
    if config.node_ips.is_empty() {
        bail!("the node has no address: give --node-ip");
    }
    Ok(())
}

/// The agent's runtime in its usual places.
fn open_runtime(config: &Config) -> Result<Runtime> {
    for directory in [&config.root_dir, &config.run_dir, &config.log_dir] {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let network = Network::new(
        config.cni_conf_dir.clone(),
        config.cni_bin_dir.clone(),
        config.run_dir.join("network"),
    );
    let options = runtime::Options {
        run_dir: config.run_dir.clone(),
        netns_dir: config.netns_dir.clone(),
        launcher: config.launcher.clone(),
        node_name: config.node_name.clone(),
    };
    Runtime::new(options, network).context("cannot open the container runtime")
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let shown = kubeconfig.display();
    let file = Kubeconfig::read_from(kubeconfig).with_context(|| {
        format!("cannot read the kubeconfig {shown}: has this machine joined a cluster?")
    })?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("cannot use the kubeconfig {shown}"))?;
    Client::try_from(config).with_context(|| format!("cannot use the credentials of {shown}"))
}
