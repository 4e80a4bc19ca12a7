//! kubeadm's configuration documents, as far as `init` writes and `join` reads them.
//!
//! The ConfigMap `kube-system/kubeadm-config` holds one `ClusterConfiguration` (written as v1beta4, which belongs to
//! the Kubernetes version this control plane reports; v1beta2 and v1beta3 are read as well), and `kubelet-config`
//! one `KubeletConfiguration`. The latter asks kubelets for `application/json`, so that they never send protobuf.
//!
//! Source: kubernetes.io, "kubeadm Configuration (v1beta4)" and "Kubelet Configuration (v1beta1)".

use serde::{Deserialize, Serialize};

/// ConfigMap with the [`ClusterConfiguration`], in `kube-system`.
pub const CLUSTER_CONFIG_MAP: &str = "kubeadm-config";
/// Its key.
pub const CLUSTER_CONFIG_KEY: &str = "ClusterConfiguration";
/// ConfigMap with the [`KubeletConfiguration`], in `kube-system`.
pub const KUBELET_CONFIG_MAP: &str = "kubelet-config";
/// Its key, and the name that kubeadm before 1.24 looks for has the version appended.
pub const KUBELET_CONFIG_KEY: &str = "kubelet";

const WRITTEN_VERSION: &str = "kubeadm.k8s.io/v1beta4";
const READABLE_VERSIONS: [&str; 3] = [
    WRITTEN_VERSION,
    "kubeadm.k8s.io/v1beta3",
    "kubeadm.k8s.io/v1beta2",
];
const KUBELET_VERSION: &str = "kubelet.config.k8s.io/v1beta1";

/// A document that cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not YAML, or not of this shape.
    #[error("malformed {kind}: {reason}")]
    Malformed {
        /// The kind expected.
        kind: &'static str,
        /// The parser's words.
        reason: String,
    },
    /// Another kind or version.
    #[error("expected a {expected}, found {found}")]
    WrongKind {
        /// Kind and versions that can be read.
        expected: String,
        /// `apiVersion` and `kind` found.
        found: String,
    },
}

/// The cluster as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterConfiguration {
    api_version: String,
    /// Where certificates are on the control plane.
    #[serde(default)]
    pub certificates_dir: String,
    /// Name of the cluster in kubeconfigs.
    #[serde(default)]
    pub cluster_name: String,
    /// `HOST:PORT` under which nodes reach the control plane.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub control_plane_endpoint: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    encryption_algorithm: String,
    kind: String,
    /// Version of the control plane, with a leading `v`.
    #[serde(default)]
    pub kubernetes_version: String,
    /// Address ranges.
    #[serde(default)]
    pub networking: Networking,
}

/// Address ranges of the cluster; several ranges are separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Networking {
    /// Domain of service names.
    #[serde(default)]
    pub dns_domain: String,
    /// Range of pod addresses.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod_subnet: String,
    /// Range of service addresses.
    #[serde(default)]
    pub service_subnet: String,
}

impl ClusterConfiguration {
    /// A configuration as kubeadm 1.31 would upload it.
    pub fn new(
        kubernetes_version: &str,
        control_plane_endpoint: &str,
        networking: Networking,
    ) -> Self {
        Self {
            api_version: WRITTEN_VERSION.to_owned(),
            certificates_dir: "/etc/kubernetes/pki".to_owned(),
            cluster_name: "kubernetes".to_owned(),
            control_plane_endpoint: control_plane_endpoint.to_owned(),
            encryption_algorithm: "ECDSA-P256".to_owned(),
            kind: "ClusterConfiguration".to_owned(),
            kubernetes_version: kubernetes_version.to_owned(),
            networking,
        }
    }

    /// Reads v1beta2, v1beta3 or v1beta4.
    ///
    /// # Errors
    /// When the document is of another kind or version, or broken.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        check_kind(text, "ClusterConfiguration", &READABLE_VERSIONS)?;
        read(text, "ClusterConfiguration")
    }

    /// The document's text.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn to_yaml(&self) -> Result<String, DocumentError> {
        write(self, "ClusterConfiguration")
    }
}

/// What nodes' kubelets run with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeletConfiguration {
    api_version: String,
    authentication: Authentication,
    authorization: Authorization,
    cgroup_driver: String,
    /// Addresses of the cluster's DNS service.
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Vec<String>,
    /// Domain of service names.
    pub cluster_domain: String,
    content_type: String,
    healthz_bind_address: String,
    healthz_port: u16,
    kind: String,
    rotate_certificates: bool,
    static_pod_path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Authentication {
    anonymous: Enabled,
    webhook: Enabled,
    x509: ClientCa,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ClientCa {
    #[serde(rename = "clientCAFile")]
    client_ca_file: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Authorization {
    mode: String,
}

impl KubeletConfiguration {
    /// A configuration as kubeadm makes it, with JSON towards the API server.
    pub fn new(cluster_dns: Vec<String>, cluster_domain: &str) -> Self {
        Self {
            api_version: KUBELET_VERSION.to_owned(),
            authentication: Authentication {
                anonymous: Enabled { enabled: false },
                webhook: Enabled { enabled: true },
                x509: ClientCa {
                    client_ca_file: "/etc/kubernetes/pki/ca.crt".to_owned(),
                },
            },
            authorization: Authorization {
                mode: "Webhook".to_owned(),
            },
            cgroup_driver: "systemd".to_owned(),
            cluster_dns,
            cluster_domain: cluster_domain.to_owned(),
            content_type: "application/json".to_owned(),
            healthz_bind_address: "127.0.0.1".to_owned(),
            healthz_port: 10248,
            kind: "KubeletConfiguration".to_owned(),
            rotate_certificates: true,
            static_pod_path: "/etc/kubernetes/manifests".to_owned(),
        }
    }

    /// Checks that a text is a kubelet configuration. Its fields are the kubelet's business: the text is passed on.
    ///
    /// # Errors
    /// When it is not YAML or another kind.
    pub fn check(text: &str) -> Result<(), DocumentError> {
        check_kind(text, "KubeletConfiguration", &[KUBELET_VERSION])
    }

    /// The document's text.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn to_yaml(&self) -> Result<String, DocumentError> {
        write(self, "KubeletConfiguration")
    }
}

/// The ConfigMap name that kubeadm up to 1.23 looks for: `kubelet-config-MAJOR.MINOR` of a version like `v1.31.0`.
pub fn versioned_kubelet_config_map(kubernetes_version: &str) -> String {
    let version = kubernetes_version.trim_start_matches('v');
    let short: Vec<&str> = version.splitn(3, '.').take(2).collect();
    format!("{KUBELET_CONFIG_MAP}-{}", short.join("."))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
}

fn check_kind(text: &str, kind: &'static str, versions: &[&str]) -> Result<(), DocumentError> {
    let header: Header = read(text, kind)?;
    if header.kind == kind && versions.contains(&header.api_version.as_str()) {
        return Ok(());
    }
    Err(DocumentError::WrongKind {
        expected: format!("{kind} ({})", versions.join(", ")),
        found: format!("{:?} of {:?}", header.kind, header.api_version),
    })
}

fn read<T: for<'de> Deserialize<'de>>(text: &str, kind: &'static str) -> Result<T, DocumentError> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| DocumentError::Malformed {
        kind,
        reason: e.to_string(),
    })
}

fn write<T: Serialize>(document: &T, kind: &'static str) -> Result<String, DocumentError> {
    let options =
        serde_saphyr::ser_options! { compact_list_indent: true, prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(document, options).map_err(|e| DocumentError::Malformed {
        kind,
        reason: e.to_string(),
    })
}
