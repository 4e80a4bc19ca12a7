//! What `malha init` decides and `malha control-plane` runs with: `/var/lib/malha/control-plane/config.json`.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use ipnet::IpNet;
use malha_core::range::ClusterRange;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::{endpoint::Endpoint, files, paths::Paths};

/// The configuration of a control plane. Holds no secrets, only the paths of files that do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The address at which nodes and pods reach the API server.
    pub advertise_address: IpAddr,
    /// The address the API server listens on; unspecified means all.
    pub bind_address: IpAddr,
    /// The port it listens on.
    pub bind_port: u16,
    /// Ranges of pod addresses, at most one of each family.
    pub pod_ranges: Vec<PodRange>,
    /// Ranges of service addresses, at most one of each family; the first is the primary one.
    pub service_ranges: Vec<IpNet>,
    /// Domain of service names.
    pub dns_domain: String,
    /// The Kubernetes version reported, with a leading `v`.
    pub kubernetes_version: String,
    /// The database's directory.
    pub data_dir: PathBuf,
    /// Where certificates and keys are.
    pub certificates: Certificates,
}

/// One range of pod addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodRange {
    /// The cluster's range.
    pub cidr: IpNet,
    /// Prefix length of one node's piece of it.
    pub node_prefix: u8,
}

/// Paths of PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificates {
    /// The cluster's CA.
    pub ca: PathBuf,
    /// Its key.
    pub ca_key: PathBuf,
    /// The API server's certificate.
    pub apiserver: PathBuf,
    /// Its key.
    pub apiserver_key: PathBuf,
    /// The API server's certificate towards nodes.
    pub kubelet_client: PathBuf,
    /// Its key.
    pub kubelet_client_key: PathBuf,
    /// The key that signs service account tokens.
    pub service_account_key: PathBuf,
    /// Its public half.
    pub service_account_public_key: PathBuf,
}

/// The PEM texts that the files hold.
pub struct Credentials {
    /// The cluster's CA.
    pub ca: String,
    /// Its key.
    pub ca_key: SecretString,
    /// The API server's certificate.
    pub apiserver: String,
    /// Its key.
    pub apiserver_key: SecretString,
    /// The API server's certificate towards nodes.
    pub kubelet_client: String,
    /// Its key.
    pub kubelet_client_key: SecretString,
    /// The key that signs service account tokens.
    pub service_account_key: SecretString,
    /// Its public half.
    pub service_account_public_key: String,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When there is none, or it is malformed; says where.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| {
            anyhow!(
                "cannot read {}: {error}; create a control plane with: malha init",
                path.display()
            )
        })?;
        serde_json::from_str(&text)
            .map_err(|error| anyhow!("{} is malformed: {error}; correct it", path.display()))
    }

    /// The file's text.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self)
            .context("cannot write the control plane's configuration")?;
        Ok(text + "\n")
    }

    /// Where to listen.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.bind_address, self.bind_port)
    }

    /// Where nodes reach the API server.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.advertise_address, self.bind_port)
    }

    /// The pod ranges as controllers take them.
    pub fn cluster_ranges(&self) -> Vec<ClusterRange> {
        let range = |r: &PodRange| ClusterRange {
            cluster: r.cidr,
            node_prefix: r.node_prefix,
        };
        self.pod_ranges.iter().map(range).collect()
    }

    /// Reads every certificate and key.
    ///
    /// # Errors
    /// When a file is missing or unreadable; names it.
    pub fn credentials(&self) -> Result<Credentials> {
        let certificates = &self.certificates;
        let secret = |path: &Path| files::read(path).map(SecretString::from);
        Ok(Credentials {
            ca: files::read(&certificates.ca)?,
            ca_key: secret(&certificates.ca_key)?,
            apiserver: files::read(&certificates.apiserver)?,
            apiserver_key: secret(&certificates.apiserver_key)?,
            kubelet_client: files::read(&certificates.kubelet_client)?,
            kubelet_client_key: secret(&certificates.kubelet_client_key)?,
            service_account_key: secret(&certificates.service_account_key)?,
            service_account_public_key: files::read(&certificates.service_account_public_key)?,
        })
    }
}

impl Certificates {
    /// kubeadm's names below `/etc/kubernetes/pki`.
    pub fn usual(paths: &Paths) -> Self {
        Self {
            ca: paths.pki("ca.crt"),
            ca_key: paths.pki("ca.key"),
            apiserver: paths.pki("apiserver.crt"),
            apiserver_key: paths.pki("apiserver.key"),
            kubelet_client: paths.pki("apiserver-kubelet-client.crt"),
            kubelet_client_key: paths.pki("apiserver-kubelet-client.key"),
            service_account_key: paths.pki("sa.key"),
            service_account_public_key: paths.pki("sa.pub"),
        }
    }
}
