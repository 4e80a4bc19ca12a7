//! kubeadm's `JoinConfiguration`: `kubeadm.k8s.io/v1beta2` to `v1beta4`.
//!
//! Fields that concern control planes or pulling images say nothing about a worker and are passed by; what would
//! change a worker and is not supported is refused. Source: kubernetes.io, "kubeadm Configuration (v1beta4)".

mod reader;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use malha_bootstrap::duration::GoDuration;
use reader::Reader;
use serde_json::Value;

/// The group of kubeadm's documents.
const GROUP: &str = "kubeadm.k8s.io/";
const KIND: &str = "JoinConfiguration";
/// Versions that are read; kubeadm 1.15 to the present one write them.
const VERSIONS: [&str; 3] = ["v1beta2", "v1beta3", "v1beta4"];

/// What a machine joins with, whatever version of the file it is from. Texts are as they were written: they are
/// understood in [`crate::join::Options::new`], together with those of flags.
#[derive(Clone, Default)]
pub struct JoinConfiguration {
    /// Discovery by token.
    pub by_token: Option<ByToken>,
    /// Discovery by a kubeconfig: a path or an https URL.
    pub discovery_file: Option<String>,
    /// The token for the certificate request, if not the one of the discovery.
    pub tls_bootstrap_token: Option<String>,
    /// How long to wait for the control plane.
    pub discovery_timeout: Option<Duration>,
    /// How long the control plane may take for the certificate.
    pub certificate_timeout: Option<Duration>,
    /// How long the kubelet may take to become healthy.
    pub kubelet_timeout: Option<Duration>,
    /// The node's name.
    pub node_name: Option<String>,
    /// The container runtime's socket.
    pub cri_socket: Option<String>,
    /// Taints, each as `KEY=VALUE:EFFECT`.
    pub taints: Vec<String>,
    /// Flags for the kubelet, without dashes; a name may come more than once.
    pub kubelet_extra_args: Vec<(String, String)>,
    /// Checks that only warn.
    pub ignore_preflight_errors: Vec<String>,
    /// Where the cluster's CA goes.
    pub ca_cert_path: Option<String>,
    /// Parts to leave out.
    pub skip_phases: Vec<String>,
    /// Change nothing.
    pub dry_run: bool,
}

/// Discovery by token.
#[derive(Clone, Default)]
pub struct ByToken {
    /// `HOST:PORT`.
    pub endpoint: String,
    /// The token.
    pub token: Option<String>,
    /// Pins.
    pub ca_cert_hashes: Vec<String>,
    /// Whether any CA will do.
    pub unsafe_skip_ca_verification: bool,
}

/// A file that was read, and what in it has no effect.
pub struct Parsed {
    /// The configuration.
    pub configuration: JoinConfiguration,
    /// Complaints that are no errors.
    pub warnings: Vec<String>,
}

/// Reads a file's text, which may hold other documents as well.
///
/// # Errors
/// When it holds no `JoinConfiguration` that can be used; no value of the file is repeated.
pub fn parse(text: &str) -> Result<Parsed> {
    let mut warnings = Vec::new();
    let mut found = None;
    for document in documents(text) {
        let value = read_yaml(&document)?;
        if value.is_null() {
            continue;
        }
        let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let (version, kind) = (field("apiVersion"), field("kind"));
        if kind != KIND {
            warnings.push(format!(
                "a document of kind {kind:?} ({version:?}) is not for joining and has no effect"
            ));
            continue;
        }
        check_version(&version)?;
        if found.replace(value).is_some() {
            bail!("it has more than one {KIND}; leave only one");
        }
    }
    let value = found.ok_or_else(|| {
        anyhow!("it has no document of kind {KIND}; kubeadm config print join-defaults shows one")
    })?;
    let mut unknown = Vec::new();
    let configuration = read(Reader::document(value)?, &mut unknown)?;
    warnings.extend(
        unknown
            .iter()
            .map(|field| format!("the field {field} is unknown and has no effect")),
    );
    Ok(Parsed {
        configuration,
        warnings,
    })
}

/// The documents of a YAML stream.
fn documents(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for line in text.lines() {
        let marker = line.trim_end() == "---" || line.starts_with("--- ");
        match all.last_mut() {
            Some(last) if !marker => {
                last.push_str(line);
                last.push('\n');
            }
            _ => all.push(String::new()),
        }
    }
    all
}

fn read_yaml(text: &str) -> Result<Value> {
    let has_content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    if !text.lines().any(has_content) {
        return Ok(Value::Null);
    }
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).context("it is not YAML")
}

fn check_version(version: &str) -> Result<()> {
    let short = version.strip_prefix(GROUP).unwrap_or_default();
    if VERSIONS.contains(&short) {
        return Ok(());
    }
    bail!(
        "its version {version:?} is not supported, only {GROUP}{}; rewrite it with: kubeadm config migrate --old-config \
         FILE --new-config NEW",
        VERSIONS.join(", ")
    )
}

fn read(mut document: Reader, unknown: &mut Vec<String>) -> Result<JoinConfiguration> {
    document.ignore(&["apiVersion", "kind"]);
    let mut found = JoinConfiguration {
        ca_cert_path: document.text("caCertPath")?,
        skip_phases: document.texts("skipPhases")?,
        dry_run: document.flag("dryRun")?,
        ..JoinConfiguration::default()
    };
    if document.mapping("controlPlane")?.is_some() {
        bail!(
            "controlPlane: malha join makes workers only; leave that field out, or use kubeadm join for control planes"
        );
    }
    if let Some(mut patches) = document.mapping("patches")? {
        if patches.text("directory")?.is_some() {
            bail!(
                "patches: malha join does not patch kubelet configurations; give flags in nodeRegistration.kubeletExtraArgs"
            );
        }
        patches.rest(unknown);
    }
    if let Some(node) = document.mapping("nodeRegistration")? {
        read_node(node, &mut found, unknown)?;
    }
    if let Some(discovery) = document.mapping("discovery")? {
        read_discovery(discovery, &mut found, unknown)?;
    }
    if let Some(mut timeouts) = document.mapping("timeouts")? {
        found.discovery_timeout =
            seconds(timeouts.duration("discovery")?).or(found.discovery_timeout);
        found.certificate_timeout = seconds(timeouts.duration("tlsBootstrap")?);
        found.kubelet_timeout = seconds(timeouts.duration("kubeletHealthCheck")?);
        timeouts.ignore(&[
            "controlPlaneComponentHealthCheck",
            "kubernetesAPICall",
            "etcdAPICall",
            "upgradeManifests",
        ]);
        timeouts.rest(unknown);
    }
    document.rest(unknown);
    Ok(found)
}

fn read_node(
    mut node: Reader,
    found: &mut JoinConfiguration,
    unknown: &mut Vec<String>,
) -> Result<()> {
    found.node_name = node.text("name")?;
    found.cri_socket = node.text("criSocket")?;
    found.ignore_preflight_errors = node.texts("ignorePreflightErrors")?;
    for mut taint in node.mappings("taints")? {
        let key = taint.text("key")?.context("a taint has no key")?;
        let value = taint.text("value")?.map(|value| format!("={value}"));
        let effect = taint.text("effect")?.context("a taint has no effect")?;
        found
            .taints
            .push(format!("{key}{}:{effect}", value.unwrap_or_default()));
        taint.ignore(&["timeAdded"]);
        taint.rest(unknown);
    }
    // A list since v1beta4: a flag may come more than once.
    if node.is_list("kubeletExtraArgs") {
        for mut argument in node.mappings("kubeletExtraArgs")? {
            let name = argument
                .text("name")?
                .context("an entry of kubeletExtraArgs has no name")?;
            let value = argument.text("value")?.unwrap_or_default();
            found.kubelet_extra_args.push((name, value));
            argument.rest(unknown);
        }
    } else if let Some(arguments) = node.mapping("kubeletExtraArgs")? {
        found.kubelet_extra_args = arguments.all_texts()?;
    }
    node.ignore(&["imagePullPolicy", "imagePullSerial"]);
    node.rest(unknown);
    Ok(())
}

fn read_discovery(
    mut discovery: Reader,
    found: &mut JoinConfiguration,
    unknown: &mut Vec<String>,
) -> Result<()> {
    found.tls_bootstrap_token = discovery.text("tlsBootstrapToken")?;
    found.discovery_timeout = seconds(discovery.duration("timeout")?);
    if let Some(mut file) = discovery.mapping("file")? {
        found.discovery_file = file.text("kubeConfigPath")?;
        file.rest(unknown);
    }
    if let Some(mut token) = discovery.mapping("bootstrapToken")? {
        found.by_token = Some(ByToken {
            endpoint: token
                .text("apiServerEndpoint")?
                .context("discovery.bootstrapToken.apiServerEndpoint is missing; write HOST:PORT of the API server")?,
            token: token.text("token")?,
            ca_cert_hashes: token.texts("caCertHashes")?,
            unsafe_skip_ca_verification: token.flag("unsafeSkipCAVerification")?,
        });
        token.rest(unknown);
    }
    discovery.rest(unknown);
    Ok(())
}

/// What `kubeadm config print` writes for a timeout that is not set is `0s` or nothing.
fn seconds(duration: Option<GoDuration>) -> Option<Duration> {
    let seconds = u64::try_from(duration?.as_seconds()).ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Flags as kubeadm merges them: those of `own` that `extra` does not name, and all of `extra`, sorted.
pub(crate) fn merged(own: Vec<(String, String)>, extra: &[(String, String)]) -> Vec<String> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in extra {
        all.entry(name).or_default().push(value);
    }
    for (name, value) in &own {
        all.entry(name).or_insert_with(|| vec![value]);
    }
    let flags = all
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| format!("--{name}={value}")));
    flags.collect()
}

#[cfg(test)]
mod tests;
