//! The part of a join that changes nothing: checks of this machine, discovery, the cluster's configuration, the name.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use malha_bootstrap::kubeconfig::Kubeconfig;
use tokio::time::{Instant, timeout_at};

use super::{
    NodeFiles, Options, Source,
    cluster::{self, Configuration},
    kubelet::ask_version,
    node_config::{NodeConfig, check_version, for_this_machine},
    registration::{self, Before},
    runner::Runner,
};
use crate::{
    client::Verified,
    cri,
    discovery::{ByFile, Credentials, Discovery, Found},
    machine::Machine,
    preflight::{Checks, Occupied, is_own_address, occupied},
};

/// All that has to be known before anything is changed.
pub(super) struct Prepared {
    pub(super) node_name: String,
    pub(super) runner: Runner,
    pub(super) found: Found,
    /// Speaks with the credentials of the discovery.
    pub(super) client: Verified,
    pub(super) before: Before,
    pub(super) config: NodeConfig,
    /// `KubeletConfiguration`, for this machine.
    kubelet_config: String,
    arguments: Vec<String>,
}

impl Prepared {
    /// Finds it out, by `until`.
    pub(super) async fn new(options: &Options, machine: &Machine, until: Instant) -> Result<Self> {
        let node_name = node_name(options)?;
        let mut runner = preflight(options, machine, &node_name).await?;
        let work = Self::ask(options, machine, &node_name, &mut runner);
        let (found, client, before, configuration) =
            timeout_at(until, work).await.map_err(|_| slow(options))??;
        let config = NodeConfig::parse(&configuration.kubelet)?;
        if !options.skip_preflight
            && let Some(kubelet) = runner.kubelet()
        {
            let mut checks = Checks::new();
            check_version(
                kubelet.version,
                &configuration.kubernetes_version,
                &mut checks,
            );
            config.check(options, kubelet, &machine.paths, &mut checks);
            checks.finish(&options.ignored, machine.progress)?;
        }
        runner.settle(&found.server)?;
        runner.follow(&config);
        Ok(Self {
            arguments: runner.kubelet_arguments(&node_name),
            kubelet_config: for_this_machine(&configuration.kubelet, &config, &machine.paths),
            node_name,
            runner,
            found,
            client,
            before,
            config,
        })
    }

    async fn ask(
        options: &Options,
        machine: &Machine,
        node_name: &str,
        runner: &mut Runner,
    ) -> Result<(Found, Verified, Before, Configuration)> {
        let discovered = async {
            let found = discover(options, machine).await?;
            let client = found.client(machine.clock, machine.limits);
            let client = client.context("cannot use what was discovered")?;
            machine
                .progress
                .step("preflight", "Reading configuration from the cluster...");
            let configuration = cluster::configuration(&client).await?;
            let before = registration::check_name(&client, node_name).await?;
            anyhow::Ok((found, client, before, configuration))
        };
        let Some(kubelet) = runner.kubelet() else {
            return discovered.await;
        };
        // A kubelet takes a moment to say its version.
        let (answers, version) = tokio::join!(discovered, ask_version(&kubelet.program));
        let answers = answers?;
        kubelet.version = Some(version.context("the kubelet cannot be used; install it anew")?);
        Ok(answers)
    }

    /// The node's files; without a certificate, a place for it.
    pub(super) fn files<'a>(
        &'a self,
        options: &'a Options,
        identity_pem: Option<&'a str>,
    ) -> NodeFiles<'a> {
        NodeFiles {
            server: &self.found.server,
            ca_path: &options.ca_path,
            ca_pem: &self.found.ca_pem,
            identity_pem,
            kubelet_config: &self.kubelet_config,
            kubelet_arguments: &self.arguments,
        }
    }
}

/// What it means when time has run out.
pub(super) fn slow(options: &Options) -> anyhow::Error {
    anyhow!(
        "{} answers too slowly: no result within {} s; look at its load, and try again, with more time if need be \
         (--timeout)",
        options.target(),
        options.limit.as_secs()
    )
}

async fn discover(options: &Options, machine: &Machine) -> Result<Found> {
    let (endpoint, token, pins) = match &options.source {
        Source::Token {
            endpoint,
            token,
            pins,
            ..
        } => (endpoint, token, pins),
        Source::File(location) => {
            let discovery = ByFile {
                location,
                token: options.tls_bootstrap_token.as_ref(),
                clock: machine.clock,
                limits: machine.limits,
            };
            return Ok(discovery.run(machine.progress).await?);
        }
    };
    let discovery = Discovery {
        endpoint: endpoint.clone(),
        token: token.clone(),
        pins: pins.clone(),
        clock: machine.clock,
        limits: machine.limits,
        patience: options.patience.unwrap_or(machine.patience),
    };
    let mut found = discovery.run(machine.progress).await?;
    if let Some(token) = &options.tls_bootstrap_token {
        found.credentials = Credentials::token(token);
    }
    Ok(found)
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

async fn preflight(options: &Options, machine: &Machine, node_name: &str) -> Result<Runner> {
    let progress = machine.progress;
    if options.skip_preflight {
        progress.step("preflight", "Checks of this machine are left out");
        return Ok(Runner::choose(
            options,
            machine,
            node_name,
            &mut Checks::new(),
        ));
    }
    progress.step("preflight", "Running pre-flight checks");
    let mut first = Checks::new();
    first.root(machine.privileged);
    first.finish(&options.ignored, progress)?;
    let mut checks = Checks::new();
    let paths = &machine.paths;
    match occupied(paths) {
        Some(Occupied::ControlPlane(file)) => bail!(
            "this machine is a control plane already ({} exists); join from another machine, or undo it with: malha reset",
            file.display()
        ),
        Some(Occupied::Node(file)) => {
            checks.fail(
                "FileAvailable--etc-kubernetes-kubelet.conf",
                already_joined(&file),
            );
            // What else is in the way has the same cause, and the same remedy.
            checks.finish(&options.ignored, progress)?;
            checks = Checks::new();
        }
        None => {}
    }
    let leftover = "it is left from another join; remove what is left with: malha reset";
    checks.available(paths, "/etc/kubernetes/bootstrap-kubelet.conf", leftover);
    checks.available(paths, &options.ca_path, leftover);
    checks.empty(paths, "/etc/kubernetes/manifests");
    let directories = [
        Some(Path::new("/etc/kubernetes")),
        options.ca_path.parent(),
        Some(Path::new("/var/lib/kubelet")),
    ];
    for directory in directories.into_iter().flatten() {
        checks.writable(&paths.at(directory));
    }
    for address in options.node_ips.iter().filter(|a| !is_own_address(**a)) {
        checks.fail(
            "NodeIP",
            format!("--node-ip {address} is not an address of this machine"),
        );
    }
    let mut runner = Runner::choose(options, machine, node_name, &mut checks);
    if let Some(kubelet) = runner.kubelet() {
        let server = match &options.source {
            Source::Token { endpoint, .. } => Some(&endpoint.host),
            Source::File(_) => None,
        };
        checks.host(paths, server);
        match cri::probe(&paths.at(kubelet.socket_path())).await {
            Ok(runtime) => kubelet.runtime = Some(runtime),
            Err(error) if !checks.has("CRI") => checks.fail("CRI", error.to_string()),
            Err(_) => {}
        }
    }
    checks.finish(&options.ignored, progress)?;
    Ok(runner)
}

fn already_joined(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let server = Kubeconfig::parse(&text)
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
