//! `malha join`: this machine becomes a node.
//!
//! The life of a join: checks of this machine; [`crate::discovery`] of the control plane; the cluster's configuration;
//! is the node's name free; a certificate for `system:node:NAME`; the files kubeadm writes; the node's agent is
//! started; the Node object exists. Until the last step everything written is removed again on failure.
//!
//! kubeadm leaves the certificate request to the kubelet and watches it from outside; here it is made before anything
//! is started, so that its failures have names and no half-made `kubelet.conf` is left behind.

mod cluster;
mod health;
mod identity;
mod kubelet;
mod layout;
mod node_config;
mod options;
mod prepare;
mod registration;
mod runner;

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

pub use kubelet::{Kubelet, remove_unit, stop_kubelet};
pub use layout::NodeFiles;
pub use options::{CA_PATH, KUBELET_LIMIT, LIMIT, Options, Source};
pub use runner::{AGENT, Runner};

use crate::{client::Verified, endpoint::Endpoint, files::Written, machine::Machine};
use node_config::NodeConfig;
use prepare::Prepared;
use runner::Start;

/// What undoing a failed join may take of its time limit.
const UNDOING: Duration = Duration::from_millis(1500);
/// The same, for whatever lost count of the time: until then only files were written.
const ENDING: Duration = Duration::from_millis(500);

/// A machine with an identity in the cluster. What was written goes away again unless it is kept.
pub struct Enrolled {
    /// What the node is called.
    pub node_name: String,
    /// Where the API server is.
    pub server: Endpoint,
    machine: Machine,
    client: Verified,
    runner: Runner,
    before: registration::Before,
    config: NodeConfig,
    until: Instant,
    kubelet_limit: Duration,
    written: Written,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// The node's name.
    pub node_name: String,
    /// The API server's URL.
    pub server: String,
    /// The node's kubeconfig.
    pub kubeconfig: String,
    /// What runs the node: `kubelet` or `malha node`.
    pub runs: &'static str,
}

/// Checks, discovers, asks for a certificate and writes the node's files.
///
/// # Errors
/// One line with cause and remedy; nothing that was written stays.
pub async fn enroll(options: &Options, machine: &Machine) -> Result<Enrolled> {
    let begun = Instant::now();
    let until = begun + options.limit.saturating_sub(UNDOING);
    let end = begun + options.limit.saturating_sub(ENDING);
    timeout_at(end, enroll_by(options, machine, until))
        .await
        .map_err(|_| prepare::slow(options))?
}

async fn enroll_by(options: &Options, machine: &Machine, until: Instant) -> Result<Enrolled> {
    let prepared = Prepared::new(options, machine, until).await?;
    let node_name = prepared.node_name.clone();
    let requested = identity::request(&prepared.client, &node_name);
    let request = timeout_at(until, requested)
        .await
        .map_err(|_| prepare::slow(options))??;
    machine.progress.step(
        "kubelet-start",
        format!("Waiting for the certificate of node {node_name:?}"),
    );
    let identity_pem = request.wait(until).await?;
    let mut written = Written::new();
    let files = prepared.files(options, Some(&identity_pem));
    files.write(machine, &mut written)?;
    let client = Verified::with_identity(
        prepared.found.server.clone(),
        &prepared.found.ca_pem,
        &identity_pem,
        machine.clock,
        machine.limits,
    )?;
    Ok(Enrolled {
        node_name,
        server: prepared.found.server,
        machine: machine.clone(),
        client,
        runner: prepared.runner,
        before: prepared.before,
        config: prepared.config,
        until,
        kubelet_limit: options.kubelet_limit,
        written,
    })
}

/// Checks and discovers, and tells what [`enroll`] would write; changes nothing, on this machine or in the cluster.
///
/// # Errors
/// Those of [`enroll`] up to the certificate request.
pub async fn rehearse(options: &Options, machine: &Machine) -> Result<String> {
    let until = Instant::now() + options.limit.saturating_sub(UNDOING);
    let prepared = timeout_at(until, Prepared::new(options, machine, until))
        .await
        .map_err(|_| prepare::slow(options))??;
    let mut text = format!(
        "[dryrun] Would ask {} for the certificate of node {:?}\n",
        prepared.found.server.url(),
        prepared.node_name
    );
    for file in prepared.files(options, None).list(machine)? {
        let path = file.path.display().to_string();
        text.push_str(&format!(
            "[dryrun] Would write file {path:?} with content:\n"
        ));
        let lines = file.content.lines().map(|line| format!("\t{line}\n"));
        text.extend(lines);
    }
    text.push_str(&format!(
        "[dryrun] Would start {} and wait until the node is registered\n",
        prepared.runner.name()
    ));
    Ok(text)
}

impl Enrolled {
    /// Starts what runs the node and waits until the Node object exists.
    ///
    /// # Errors
    /// When it ends or the Node does not appear; then it is stopped, and what was written is removed.
    pub async fn start(self) -> Result<Joined> {
        let before = self.before.clone();
        let before = before.with_lease(&self.client, &self.node_name);
        let before = timeout_at(self.until, before).await.map_err(|_| {
            anyhow!(
                "the API server at {} answers too slowly; look at its load, and try again",
                self.server
            )
        })??;
        let registered =
            async || registration::registered(&self.client, &self.node_name, &before).await;
        let start = Start {
            node_name: &self.node_name,
            until: self.until,
            kubelet_limit: self.kubelet_limit,
            healthz: self.config.healthz(),
        };
        let mut units = Written::new();
        let started = self
            .runner
            .start(&self.machine, start, &mut units, registered);
        started.await?;
        units.keep();
        // The node is registered and its kubelet runs: from here on there is no way back.
        if let Some(socket) = self.runner.cri_socket()
            && let Err(error) = registration::annotate(&self.client, &self.node_name, &socket).await
        {
            self.machine
                .progress
                .warning("kubelet-start", format!("{error:#}"));
        }
        Ok(self.keep())
    }

    /// The arguments of `malha` that run the node in the foreground.
    ///
    /// # Errors
    /// On a machine with a kubelet, which runs as a service.
    pub fn foreground(&self) -> Result<Vec<String>> {
        match &self.runner {
            Runner::Agent { .. } => Ok(self.runner.agent_arguments(&self.machine, &self.node_name)),
            Runner::Kubelet(_) => {
                bail!(
                    "--foreground is for machines without a kubelet; this one's runs as a service"
                )
            }
        }
    }

    /// Everything written stays.
    pub fn keep(self) -> Joined {
        self.written.keep();
        Joined {
            server: self.server.url(),
            kubeconfig: self.machine.paths.kubelet_conf().display().to_string(),
            runs: self.runner.name(),
            node_name: self.node_name,
        }
    }
}

impl Joined {
    /// What kubeadm says at the end, for people.
    pub fn text(&self) -> String {
        format!(
            "\nThis node has joined the cluster as {:?}:\n\
             * A certificate request was sent to {} and a certificate was received.\n\
             * {} runs and has registered the node.\n\n\
             Run 'kubectl get nodes' on the control plane to see it.\n",
            self.node_name, self.server, self.runs
        )
    }
}
