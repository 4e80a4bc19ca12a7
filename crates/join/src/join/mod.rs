//! `malha join`: this machine becomes a node.
//!
//! The life of a join: checks of this machine; [`crate::discovery`] of the control plane; the cluster's configuration;
//! is the node's name free; a certificate for `system:node:NAME`; the files kubeadm writes; the node's agent is
//! started; the Node object exists. Until the last step everything written is removed again on failure.
//!
//! kubeadm leaves the certificate request to the kubelet and watches it from outside; here it is made before anything
//! is started, so that its failures have names and no half-made `kubelet.conf` is left behind.

mod cluster;
mod identity;
mod layout;
mod registration;
mod runner;

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use malha_bootstrap::{pin::CaPin, token::Token};
use serde::Serialize;
use tokio::time::timeout;

pub use cluster::ClusterDns;
pub use layout::NodeFiles;
pub use runner::{AGENT, Runner, stop_kubelet};

use crate::{
    client::Verified,
    discovery::{Discovery, Found},
    endpoint::Endpoint,
    files::Written,
    machine::Machine,
    preflight::{Checks, Ignored, Occupied, occupied},
};

/// Every failure up to the certificate request ends by then.
const LIMIT: Duration = Duration::from_secs(9);

/// What `malha join` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The API server.
    pub endpoint: Endpoint,
    /// The token.
    pub token: Token,
    /// Accepted CAs.
    pub pins: Vec<CaPin>,
    /// The user accepts any CA that the token vouches for.
    pub skip_ca_verification: bool,
    /// The node's name; the machine's name in lower case if not given.
    pub node_name: Option<String>,
    /// The node's addresses, if it has more to choose from.
    pub node_ips: Vec<IpAddr>,
    /// The container runtime's socket, for a kubelet.
    pub cri_socket: Option<String>,
    /// Checks that only warn.
    pub ignored: Ignored,
}

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
    let node_name = node_name(options)?;
    let mut runner = preflight(options, machine, &node_name)?;
    let slow = || {
        anyhow!(
            "the API server at {} answers too slowly: no result within {} s; look at its load, and try again",
            options.endpoint,
            LIMIT.as_secs()
        )
    };
    let progress = machine.progress;
    let (found, request, before, kubelet_config) = timeout(LIMIT, async {
        let found = discover(options, machine).await?;
        let client = verified(&found, machine)?.with_token(&options.token);
        progress.step("preflight", "Reading configuration from the cluster...");
        let kubelet_config = cluster::configuration(&client).await?;
        let before = registration::check_name(&client, &node_name).await?;
        let request = identity::request(client, &node_name).await?;
        anyhow::Ok((found, request, before, kubelet_config))
    })
    .await
    .map_err(|_| slow())??;
    runner.settle(&found.server)?;
    runner.follow(cluster::ClusterDns::of(&kubelet_config)?);
    progress.step(
        "kubelet-start",
        format!("Waiting for the certificate of node {node_name:?}"),
    );
    let identity_pem = request.wait().await?;
    let mut written = Written::new();
    let files = NodeFiles {
        server: &found.server,
        ca_pem: &found.ca_pem,
        identity_pem: &identity_pem,
        kubelet_config: &kubelet_config,
        kubelet_arguments: &runner.kubelet_arguments(&node_name),
    };
    files.write(machine, &mut written)?;
    let client = Verified::with_identity(
        found.server.clone(),
        &found.ca_pem,
        &identity_pem,
        machine.clock,
        machine.limits,
    )?;
    Ok(Enrolled {
        node_name,
        server: found.server,
        machine: machine.clone(),
        client,
        runner,
        before,
        written,
    })
}

impl Enrolled {
    /// Starts what runs the node and waits until the Node object exists.
    ///
    /// # Errors
    /// When it ends or the Node does not appear; then it is stopped, and what was written is removed.
    pub async fn start(self) -> Result<Joined> {
        let before = self.before.clone();
        let before = before.with_lease(&self.client, &self.node_name).await?;
        let registered =
            async || registration::registered(&self.client, &self.node_name, &before).await;
        self.runner
            .start(&self.machine, &self.node_name, registered)
            .await?;
        if let Some(socket) = self.runner.cri_socket() {
            registration::annotate(&self.client, &self.node_name, socket).await?;
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
            Runner::Kubelet { .. } => {
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

async fn discover(options: &Options, machine: &Machine) -> Result<Found> {
    let discovery = Discovery {
        endpoint: options.endpoint.clone(),
        token: options.token.clone(),
        pins: options.pins.clone(),
        clock: machine.clock,
        limits: machine.limits,
        patience: machine.patience,
    };
    Ok(discovery.run(machine.progress).await?)
}

fn verified(found: &Found, machine: &Machine) -> Result<Verified> {
    Verified::new(
        found.server.clone(),
        &found.ca_pem,
        machine.clock,
        machine.limits,
    )
    .context("cannot use the cluster's CA")
}

/// The given name, else the machine's; lower case, as kubelets do.
fn node_name(options: &Options) -> Result<String> {
    let name = match &options.node_name {
        Some(name) => name.clone(),
        None => nix::unistd::gethostname()
            .context("cannot read the machine's name; give one with --node-name")?
            .to_string_lossy()
            .into_owned(),
    };
    let name = name.trim().to_ascii_lowercase();
    if is_object_name(&name) {
        return Ok(name);
    }
    bail!(
        "{name:?} cannot be a node's name: it has to be at most 253 characters of a-z, 0-9, '-' and '.', and begin and \
         end with a letter or digit; give another with --node-name"
    )
}

/// RFC 1123 subdomain, as every Node's name.
fn is_object_name(name: &str) -> bool {
    let end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        end(bytes.first()) && end(bytes.last()) && bytes.iter().all(inner)
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn preflight(options: &Options, machine: &Machine, node_name: &str) -> Result<Runner> {
    if options.pins.is_empty() && !options.skip_ca_verification {
        bail!(
            "without --discovery-token-ca-cert-hash anybody who knows the token could pose as the control plane; take \
             the whole command from: malha token create --print-join-command (or accept the risk with \
             --discovery-token-unsafe-skip-ca-verification)"
        );
    }
    machine
        .progress
        .step("preflight", "Running pre-flight checks");
    let mut checks = Checks::new();
    checks.root(machine.privileged);
    let paths = &machine.paths;
    match occupied(paths) {
        Some(Occupied::Node(file)) => bail!("{}", already_joined(&file)),
        Some(Occupied::ControlPlane(file)) => bail!(
            "this machine is a control plane already ({} exists); join from another machine, or undo it with: malha reset",
            file.display()
        ),
        None => {}
    }
    let leftover = "it is left from another join; remove what is left with: malha reset";
    checks.absent(&paths.bootstrap_kubelet_conf(), leftover);
    checks.absent(&paths.pki("ca.crt"), leftover);
    for address in options
        .node_ips
        .iter()
        .filter(|a| !crate::preflight::is_own_address(**a))
    {
        checks.fail(
            "NodeIP",
            format!("--node-ip {address} is not an address of this machine"),
        );
    }
    let runner = Runner::choose(options, machine, node_name, &mut checks);
    checks.finish(&options.ignored, machine.progress)?;
    Ok(runner)
}

fn already_joined(file: &std::path::Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let server = malha_bootstrap::kubeconfig::Kubeconfig::parse(&text)
        .ok()
        .and_then(|config| Some(config.single_cluster().ok()?.server.clone()));
    format!(
        "this machine has already joined the cluster at {} ({} exists); to join again, first undo it with: malha reset",
        server.as_deref().unwrap_or("an unknown address"),
        file.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes() {
        for good in ["a", "node-1", "n1.example.org", "0"] {
            assert!(is_object_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", "A", "a_b", &"a".repeat(254)] {
            assert!(!is_object_name(bad), "{bad}");
        }
    }
}
