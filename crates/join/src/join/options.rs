//! What a machine is to join, and how: from flags or kubeadm's configuration file, understood and checked.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use malha_bootstrap::{pin::CaPin, token::Token};

use crate::{
    configuration::{ByToken, JoinConfiguration},
    discovery::Location,
    endpoint::Endpoint,
    preflight::Ignored,
};

/// kubeadm's place for the cluster's CA.
pub const CA_PATH: &str = "/etc/kubernetes/pki/ca.crt";
/// How long a join that does not succeed may take; waiting for a kubelet that runs to register does not count.
pub const LIMIT: Duration = Duration::from_secs(10);
/// How long a kubelet that runs may take to register the node; kubeadm waits as long.
pub const KUBELET_LIMIT: Duration = Duration::from_secs(40);
/// Where tokens and pins come from.
const WHOLE: &str = "take the whole command from: malha token create --print-join-command";
/// Phases of `kubeadm join` that workers do not have.
const OTHERS_PHASES: [&str; 4] = [
    "control-plane-prepare",
    "check-etcd",
    "control-plane-join",
    "wait-control-plane",
];

/// How the control plane is found and proven.
#[derive(Clone, Debug)]
pub enum Source {
    /// By a token.
    Token {
        /// The API server.
        endpoint: Endpoint,
        /// The token.
        token: Token,
        /// Accepted CAs.
        pins: Vec<CaPin>,
        /// The user accepts any CA that the token vouches for.
        skip_ca_verification: bool,
    },
    /// By a kubeconfig that is trusted.
    File(Location),
}

/// What `malha join` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the control plane is found.
    pub source: Source,
    /// The token for the certificate request, if not that of the discovery.
    pub tls_bootstrap_token: Option<Token>,
    /// The node's name; the machine's name in lower case if not given.
    pub node_name: Option<String>,
    /// The node's addresses, if it has more to choose from.
    pub node_ips: Vec<IpAddr>,
    /// The container runtime's socket, for a kubelet.
    pub cri_socket: Option<String>,
    /// Taints that the node registers with, each as `KEY=VALUE:EFFECT`.
    pub taints: Vec<String>,
    /// Flags for the kubelet, without dashes.
    pub kubelet_extra_args: Vec<(String, String)>,
    /// Where the cluster's CA goes.
    pub ca_path: PathBuf,
    /// Checks that only warn.
    pub ignored: Ignored,
    /// Whether checks of this machine are left out.
    pub skip_preflight: bool,
    /// How long to wait for a control plane that is not there yet, if the user says.
    pub patience: Option<Duration>,
    /// How long a join that does not succeed may take, from its start to that of the kubelet.
    pub limit: Duration,
    /// How long the kubelet may take from then on.
    pub kubelet_limit: Duration,
}

impl Options {
    /// Understands a configuration.
    ///
    /// # Errors
    /// One line that names the field or flag; never a token.
    pub fn new(given: JoinConfiguration) -> Result<Self> {
        let tls_bootstrap_token = token(given.tls_bootstrap_token.as_deref())?;
        let source = source(
            given.by_token,
            given.discovery_file,
            tls_bootstrap_token.as_ref(),
        )?;
        let waits = [given.discovery_timeout, given.certificate_timeout];
        let ca_path = PathBuf::from(given.ca_cert_path.as_deref().unwrap_or(CA_PATH));
        if !ca_path.is_absolute() {
            bail!(
                "caCertPath {:?} is not an absolute path",
                ca_path.display().to_string()
            );
        }
        for (name, _) in &given.kubelet_extra_args {
            if name.is_empty() || name.starts_with('-') || name.contains(['=', ' ', '"']) {
                bail!("kubeletExtraArgs: {name:?} is not a flag's name; write it without dashes");
            }
        }
        Ok(Self {
            source,
            tls_bootstrap_token,
            node_name: given.node_name,
            node_ips: Vec::new(),
            cri_socket: given.cri_socket,
            taints: given.taints,
            kubelet_extra_args: given.kubelet_extra_args,
            ca_path,
            ignored: Ignored::new(given.ignore_preflight_errors),
            skip_preflight: skips_preflight(&given.skip_phases)?,
            patience: given.discovery_timeout,
            limit: LIMIT.max(waits.into_iter().flatten().sum()),
            kubelet_limit: given.kubelet_timeout.unwrap_or(KUBELET_LIMIT),
        })
    }

    /// The value of a flag that the user gives the kubelet.
    pub(super) fn kubelet_argument(&self, name: &str) -> Option<&str> {
        let mut given = self.kubelet_extra_args.iter().rev();
        given
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }

    /// Who is asked, for people.
    pub(super) fn target(&self) -> String {
        match &self.source {
            Source::Token { endpoint, .. } => format!("the API server at {endpoint}"),
            Source::File(_) => "the API server".to_owned(),
        }
    }
}

fn token(text: Option<&str>) -> Result<Option<Token>> {
    text.map(|text| text.parse::<Token>().map_err(|e| anyhow!("{e}; {WHOLE}")))
        .transpose()
}

fn source(
    by_token: Option<ByToken>,
    file: Option<String>,
    tls_bootstrap_token: Option<&Token>,
) -> Result<Source> {
    let Some(by_token) = by_token else {
        let file = file.context(
            "where is the control plane? Take the whole command from: malha token create --print-join-command (or give \
             --discovery-file)",
        )?;
        return Ok(Source::File(file.parse()?));
    };
    if file.is_some() {
        bail!(
            "discovery is either by token or by file: give HOST:PORT and a token, or --discovery-file, not both"
        );
    }
    let pin = |text: &String| {
        text.parse::<CaPin>()
            .map_err(|e| anyhow!("--discovery-token-ca-cert-hash {text:?}: {e}; {WHOLE}"))
    };
    let pins: Vec<CaPin> = by_token
        .ca_cert_hashes
        .iter()
        .map(pin)
        .collect::<Result<_>>()?;
    if pins.is_empty() && !by_token.unsafe_skip_ca_verification {
        bail!(
            "without --discovery-token-ca-cert-hash anybody who knows the token could pose as the control plane; take \
             the whole command from: malha token create --print-join-command (or accept the risk with \
             --discovery-token-unsafe-skip-ca-verification)"
        );
    }
    let discovery = token(by_token.token.as_deref())?;
    Ok(Source::Token {
        endpoint: by_token.endpoint.parse()?,
        // As kubeadm: one token for both is enough.
        token: discovery.or_else(|| tls_bootstrap_token.cloned()).ok_or_else(|| {
            anyhow!("a token is missing; take the whole command from: malha token create --print-join-command")
        })?,
        pins,
        skip_ca_verification: by_token.unsafe_skip_ca_verification,
    })
}

/// Only what can be left out without lying about the rest.
fn skips_preflight(phases: &[String]) -> Result<bool> {
    let mut skips = false;
    for phase in phases {
        match phase.as_str() {
            "preflight" => skips = true,
            name if OTHERS_PHASES.iter().any(|other| name.starts_with(other)) => {}
            name => bail!(
                "--skip-phases: a join cannot do without {name:?}; only preflight can be left out (to see what would be \
                 done, use --dry-run)"
            ),
        }
    }
    Ok(skips)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "abcdef.0123456789abcdef";

    fn given() -> JoinConfiguration {
        JoinConfiguration {
            by_token: Some(ByToken {
                endpoint: "172.20.0.10:6443".to_owned(),
                token: Some(TOKEN.to_owned()),
                unsafe_skip_ca_verification: true,
                ..ByToken::default()
            }),
            ..JoinConfiguration::default()
        }
    }

    fn refusal(change: impl FnOnce(&mut JoinConfiguration)) -> String {
        let mut configuration = given();
        change(&mut configuration);
        match Options::new(configuration) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn one_token_serves_for_both() {
        let mut configuration = given();
        if let Some(by_token) = &mut configuration.by_token {
            by_token.token = None;
        }
        configuration.tls_bootstrap_token = Some(TOKEN.to_owned());
        let options = Options::new(configuration).expect("valid");
        assert!(matches!(options.source, Source::Token { token, .. } if token.expose() == TOKEN));
        assert_eq!(options.ca_path, PathBuf::from(CA_PATH));
        assert_eq!(options.limit, LIMIT);
    }

    #[test]
    fn refuses_with_a_remedy() {
        let pins = |c: &mut JoinConfiguration, pins: &[&str]| {
            if let Some(by_token) = &mut c.by_token {
                by_token.unsafe_skip_ca_verification = false;
                by_token.ca_cert_hashes = pins.iter().map(|p| (*p).to_owned()).collect();
            }
        };
        assert!(refusal(|c| pins(c, &[])).contains("without --discovery-token-ca-cert-hash"));
        assert!(
            refusal(|c| pins(c, &["md5:00"])).contains("--discovery-token-ca-cert-hash \"md5:00\"")
        );
        assert!(refusal(|c| c.discovery_file = Some("/x".into())).contains("not both"));
        assert!(refusal(|c| c.by_token = None).contains("where is the control plane?"));
        assert!(
            refusal(|c| c.ca_cert_path = Some("ca.crt".into())).contains("not an absolute path")
        );
        let args = |name: &str| vec![(name.to_owned(), String::new())];
        assert!(refusal(|c| c.kubelet_extra_args = args("--v")).contains("without dashes"));
        assert!(
            refusal(|c| c.skip_phases = vec!["kubelet-start".into()]).contains("cannot do without")
        );
        let wrong = refusal(|c| c.tls_bootstrap_token = Some("abcdef.0123456789abcdeF".into()));
        assert!(
            wrong.contains("token") && !wrong.contains("0123456789abcdeF"),
            "{wrong}"
        );
    }

    #[test]
    fn phases_that_workers_do_not_have_can_be_left_out() {
        let skipped = |names: &[&str]| {
            skips_preflight(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
                .expect("possible")
        };
        assert!(skipped(&["preflight", "control-plane-join/etcd"]));
        assert!(!skipped(&["control-plane-prepare"]));
    }

    #[test]
    fn longer_waits_are_granted() {
        let mut configuration = given();
        configuration.discovery_timeout = Some(Duration::from_secs(60));
        configuration.certificate_timeout = Some(Duration::from_secs(30));
        configuration.kubelet_timeout = Some(Duration::from_secs(240));
        let options = Options::new(configuration).expect("valid");
        assert_eq!(
            (
                options.limit.as_secs(),
                options.patience.map(|p| p.as_secs()),
                options.kubelet_limit.as_secs(),
            ),
            (90, Some(60), 240)
        );
    }
}
