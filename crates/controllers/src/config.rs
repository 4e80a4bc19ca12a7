//! What the controllers are started with.

use std::time::Duration;

use ipnet::IpNet;
use malha_bootstrap::pki::PkiError;
use malha_core::range::{ClusterRange, RangeError};
use secrecy::SecretString;

/// What the controllers are started with.
pub struct Config {
    /// The cluster's CA certificate, PEM (`ca.crt`): signs nodes' certificates and is published to every namespace.
    pub ca_cert_pem: String,
    /// Its private key, PEM (`ca.key`).
    pub ca_key_pem: SecretString,
    /// Where nodes get their pod ranges; empty leaves `Node.spec.podCIDRs` to somebody else.
    pub pod_ranges: Vec<ClusterRange>,
    /// The ranges of Services, which pod ranges may not touch.
    pub service_ranges: Vec<IpNet>,
    /// How patient the controllers are.
    pub timings: Timings,
}

/// How patient the controllers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// A node that renewed no lease for so long is unknown (`--node-monitor-grace-period`).
    pub node_grace: Duration,
    /// The same for a node that was never heard of since it registered (`--node-startup-grace-period`).
    pub node_startup_grace: Duration,
    /// Pods of a node that does not exist any more are kept for so long, in case it comes back.
    pub orphan_quarantine: Duration,
}

impl Default for Timings {
    /// Kubernetes' defaults.
    fn default() -> Self {
        Self {
            node_grace: Duration::from_secs(40),
            node_startup_grace: Duration::from_secs(60),
            orphan_quarantine: Duration::from_secs(40),
        }
    }
}

/// Why the controllers did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nodes could never get a certificate.
    #[error("cannot use the cluster's CA: {0}; give the ca.crt and ca.key that belong together")]
    Authority(#[source] PkiError),
    /// Nodes could never get a range, or pods would share addresses with Services.
    #[error(transparent)]
    Range(#[from] RangeError),
}
