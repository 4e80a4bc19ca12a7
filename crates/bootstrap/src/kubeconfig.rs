//! Kubeconfig files, in the shapes that kubeadm and the kubelet write.
//!
//! `cluster-info` carries one with a cluster and nothing else, and a signature over its bytes: the writer must give
//! the same bytes for the same content, and the reader must take what Go's `clientcmd` writes (`contexts: null`).

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::token::Token;

/// Context and cluster names of `kubelet.conf`, as the kubelet writes them.
const KUBELET_CLUSTER: &str = "default-cluster";
const KUBELET_USER: &str = "default-auth";
const KUBELET_CONTEXT: &str = "default-context";
const CLUSTER: &str = "kubernetes";
const BOOTSTRAP_USER: &str = "tls-bootstrap-token-user";

/// Why a kubeconfig is refused. Never holds its text, which may contain a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubeconfigError {
    /// Not YAML, or not of this shape.
    #[error("not a kubeconfig: {0}")]
    Malformed(String),
    /// A `…-data` field is not base64 of text.
    #[error("what the kubeconfig holds as certificate or key is not base64 of a PEM text")]
    Data,
    /// Joining needs exactly one cluster.
    #[error("expected exactly one cluster in the kubeconfig, found {0}")]
    Clusters(usize),
    /// A cluster without CA or server.
    #[error("the kubeconfig's cluster has no {0}")]
    Missing(&'static str),
    /// The current context leads nowhere.
    #[error("the kubeconfig's current-context {0:?} names no cluster and user of this file")]
    Context(String),
}

/// A kubeconfig file. Fields in the (alphabetical) order of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kubeconfig {
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    #[serde(
        default,
        serialize_with = "null_when_empty",
        deserialize_with = "empty_when_null"
    )]
    clusters: Vec<NamedCluster>,
    #[serde(
        default,
        serialize_with = "null_when_empty",
        deserialize_with = "empty_when_null"
    )]
    contexts: Vec<NamedContext>,
    #[serde(rename = "current-context", default)]
    current_context: String,
    #[serde(default)]
    kind: String,
    #[serde(default, deserialize_with = "empty_when_null")]
    preferences: Preferences,
    #[serde(
        default,
        serialize_with = "null_when_empty",
        deserialize_with = "empty_when_null"
    )]
    users: Vec<NamedUser>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Preferences {}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct NamedCluster {
    cluster: Cluster,
    #[serde(default)]
    name: String,
}

/// Where a cluster is and how to recognise it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cluster {
    /// Path of the CA's PEM, where it is not inside.
    #[serde(
        rename = "certificate-authority",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub certificate_authority: Option<String>,
    /// Base64 of the CA's PEM.
    #[serde(
        rename = "certificate-authority-data",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    certificate_authority_data: Option<String>,
    /// `https://HOST:PORT`.
    #[serde(default)]
    pub server: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct NamedContext {
    context: Context,
    name: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Context {
    #[serde(default)]
    cluster: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(default)]
    user: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

/// How a user authenticates.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct User {
    /// Path of a client certificate.
    #[serde(
        rename = "client-certificate",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub client_certificate: Option<String>,
    #[serde(
        rename = "client-certificate-data",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    client_certificate_data: Option<String>,
    /// Path of its key.
    #[serde(
        rename = "client-key",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub client_key: Option<String>,
    #[serde(
        rename = "client-key-data",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    client_key_data: Option<Hidden>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<Hidden>,
    /// Path of a file with a bearer token.
    #[serde(rename = "tokenFile", default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
}

impl User {
    /// The bearer token inside.
    pub fn token(&self) -> Option<&str> {
        let token = self.token.as_ref()?.0.expose_secret();
        (!token.is_empty()).then_some(token)
    }

    /// The client certificate inside.
    ///
    /// # Errors
    /// When it is not base64 of text.
    pub fn certificate_pem(&self) -> Result<Option<String>, KubeconfigError> {
        inner(self.client_certificate_data.as_deref())
    }

    /// Its key inside.
    ///
    /// # Errors
    /// When it is not base64 of text.
    pub fn key_pem(&self) -> Result<Option<String>, KubeconfigError> {
        let data = self.client_key_data.as_ref();
        inner(data.map(|data| data.0.expose_secret()))
    }
}

/// The PEM text of a `…-data` field.
fn inner(data: Option<&str>) -> Result<Option<String>, KubeconfigError> {
    let Some(data) = data.filter(|data| !data.is_empty()) else {
        return Ok(None);
    };
    let bytes = STANDARD.decode(data).map_err(|_| KubeconfigError::Data)?;
    let text = String::from_utf8(bytes).map_err(|_| KubeconfigError::Data)?;
    Ok(Some(text))
}

impl Cluster {
    /// The CA certificates as PEM.
    ///
    /// # Errors
    /// When the cluster names none or they are not base64 of text.
    pub fn ca_pem(&self) -> Result<String, KubeconfigError> {
        inner(self.certificate_authority_data.as_deref())?
            .ok_or(KubeconfigError::Missing("certificate-authority-data"))
    }
}

impl Kubeconfig {
    /// Reads a kubeconfig.
    ///
    /// # Errors
    /// [`KubeconfigError::Malformed`] with the place, never with the text.
    pub fn parse(text: &str) -> Result<Self, KubeconfigError> {
        let options = serde_saphyr::options! { with_snippet: false };
        serde_saphyr::from_str_with_options(text, options)
            .map_err(|e| KubeconfigError::Malformed(e.to_string()))
    }

    /// The file's text. Contains the users' secrets.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn to_yaml(&self) -> Result<String, KubeconfigError> {
        let options =
            serde_saphyr::ser_options! { compact_list_indent: true, prefer_block_scalars: false };
        serde_saphyr::to_string_with_options(self, options)
            .map_err(|e| KubeconfigError::Malformed(e.to_string()))
    }

    /// The content of `cluster-info`: one unnamed cluster, no users.
    pub fn cluster_info(server: &str, ca_pem: &str) -> Self {
        Self::empty(vec![named_cluster("", server, ca_pem)])
    }

    /// `admin.conf` and its like: key and certificate inside.
    pub fn with_client_cert(
        user: &str,
        server: &str,
        ca_pem: &str,
        cert_pem: &str,
        key_pem: &str,
    ) -> Self {
        let credentials = User {
            client_certificate_data: Some(STANDARD.encode(cert_pem)),
            client_key_data: Some(Hidden::new(STANDARD.encode(key_pem))),
            ..User::default()
        };
        Self::complete(CLUSTER, server, ca_pem).with_user(
            user,
            credentials,
            &format!("{user}@{CLUSTER}"),
        )
    }

    /// `bootstrap-kubelet.conf`: the token as bearer token.
    pub fn bootstrap_kubelet(server: &str, ca_pem: &str, token: &Token) -> Self {
        let credentials = User {
            token: Some(Hidden::new(token.expose())),
            ..User::default()
        };
        Self::complete(CLUSTER, server, ca_pem).with_user(
            BOOTSTRAP_USER,
            credentials,
            &format!("{BOOTSTRAP_USER}@{CLUSTER}"),
        )
    }

    /// `kubelet.conf` after the certificate was issued: paths of certificate and key (one file holds both).
    pub fn kubelet(server: &str, ca_pem: &str, pem_path: &str) -> Self {
        let credentials = User {
            client_certificate: Some(pem_path.to_owned()),
            client_key: Some(pem_path.to_owned()),
            ..User::default()
        };
        let mut config = Self::complete(KUBELET_CLUSTER, server, ca_pem);
        config = config.with_user(KUBELET_USER, credentials, KUBELET_CONTEXT);
        if let Some(named) = config.contexts.first_mut() {
            named.context.namespace = Some("default".to_owned());
        }
        config
    }

    /// The only cluster of the file.
    ///
    /// # Errors
    /// [`KubeconfigError::Clusters`] when there is not exactly one, [`KubeconfigError::Missing`] without a server.
    pub fn single_cluster(&self) -> Result<&Cluster, KubeconfigError> {
        let [named] = self.clusters.as_slice() else {
            return Err(KubeconfigError::Clusters(self.clusters.len()));
        };
        if named.cluster.server.is_empty() {
            return Err(KubeconfigError::Missing("server"));
        }
        Ok(&named.cluster)
    }

    /// The cluster to join: that of the current context, else the only one.
    ///
    /// # Errors
    /// As [`Kubeconfig::single_cluster`].
    pub fn joinable_cluster(&self) -> Result<&Cluster, KubeconfigError> {
        let context = self
            .contexts
            .iter()
            .find(|c| c.name == self.current_context);
        let named = context.and_then(|context| {
            let of_context = |c: &&NamedCluster| c.name == context.context.cluster;
            self.clusters.iter().find(of_context)
        });
        match named {
            Some(named) if !named.cluster.server.is_empty() => Ok(&named.cluster),
            _ => self.single_cluster(),
        }
    }

    /// Cluster and user of the current context.
    ///
    /// # Errors
    /// [`KubeconfigError::Context`] when one of them is not in the file.
    pub fn current(&self) -> Result<(&Cluster, &User), KubeconfigError> {
        let missing = || KubeconfigError::Context(self.current_context.clone());
        let context = self
            .contexts
            .iter()
            .find(|c| c.name == self.current_context)
            .ok_or_else(missing)?;
        let cluster = self
            .clusters
            .iter()
            .find(|c| c.name == context.context.cluster)
            .ok_or_else(missing)?;
        let user = self
            .users
            .iter()
            .find(|u| u.name == context.context.user)
            .ok_or_else(missing)?;
        Ok((&cluster.cluster, &user.user))
    }

    fn empty(clusters: Vec<NamedCluster>) -> Self {
        Self {
            api_version: "v1".to_owned(),
            clusters,
            contexts: Vec::new(),
            current_context: String::new(),
            kind: "Config".to_owned(),
            preferences: Preferences {},
            users: Vec::new(),
        }
    }

    fn complete(cluster: &str, server: &str, ca_pem: &str) -> Self {
        Self::empty(vec![named_cluster(cluster, server, ca_pem)])
    }

    fn with_user(mut self, user: &str, credentials: User, context: &str) -> Self {
        let cluster = self
            .clusters
            .first()
            .map(|c| c.name.clone())
            .unwrap_or_default();
        let inner = Context {
            cluster,
            namespace: None,
            user: user.to_owned(),
        };
        self.contexts.push(NamedContext {
            context: inner,
            name: context.to_owned(),
        });
        self.users.push(NamedUser {
            name: user.to_owned(),
            user: credentials,
        });
        self.current_context = context.to_owned();
        self
    }
}

fn named_cluster(name: &str, server: &str, ca_pem: &str) -> NamedCluster {
    let cluster = Cluster {
        certificate_authority: None,
        certificate_authority_data: Some(STANDARD.encode(ca_pem)),
        server: server.to_owned(),
    };
    NamedCluster {
        cluster,
        name: name.to_owned(),
    }
}

/// Text that `Debug` hides and only the file shows.
#[derive(Clone)]
struct Hidden(SecretString);

impl Hidden {
    fn new(text: String) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hidden")
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

fn null_when_empty<T: Serialize, S: Serializer>(
    list: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if list.is_empty() {
        serializer.serialize_none()
    } else {
        list.serialize(serializer)
    }
}

fn empty_when_null<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
