//! Which API servers there are.

use std::io;
use std::path::{Path, PathBuf};

use http::Uri;
use malha_bootstrap::kubeconfig::{Kubeconfig, KubeconfigError};

/// Why there is no API server to ask.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a URL of an API server.
    #[error("{0:?} is not the URL of an API server: give https://HOST:PORT")]
    Url(String),
    /// The kubelet's kubeconfig is there and cannot be used.
    #[error("cannot find the API server in {path}: {source}; give --api-server")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KubeconfigError,
    },
    /// The kubelet's kubeconfig cannot be read.
    #[error("cannot read {path}: {source}; mount it into the pod, or give --api-server")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing says where it is.
    #[error(
        "the API server's address is not known: {0} does not exist and KUBERNETES_SERVICE_HOST is not set; give --api-server"
    )]
    Unknown(PathBuf),
}

/// The servers in order of preference.
///
/// # Errors
/// [`Error`].
pub fn find(flags: &[String], kubelet_conf: &Path) -> Result<Vec<Uri>, Error> {
    if !flags.is_empty() {
        return flags.iter().map(|flag| url(flag)).collect();
    }
    let mut servers = Vec::new();
    match std::fs::read_to_string(kubelet_conf) {
        Ok(text) => servers.push(from_kubeconfig(&text, kubelet_conf)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => {
            let path = kubelet_conf.to_owned();
            return Err(Error::Read { path, source });
        }
    }
    let variable = |name| {
        std::env::var(name)
            .ok()
            .filter(|value: &String| !value.is_empty())
    };
    if let (Some(host), Some(port)) = (
        variable("KUBERNETES_SERVICE_HOST"),
        variable("KUBERNETES_SERVICE_PORT"),
    ) {
        servers.push(url(&format!("https://{}:{port}", bracketed(&host)))?);
    }
    servers.dedup();
    if servers.is_empty() {
        return Err(Error::Unknown(kubelet_conf.to_owned()));
    }
    Ok(servers)
}

/// The server that a kubelet's kubeconfig leads to.
///
/// # Errors
/// [`Error::Kubeconfig`], [`Error::Url`].
pub fn from_kubeconfig(text: &str, path: &Path) -> Result<Uri, Error> {
    let broken = |source| Error::Kubeconfig {
        path: path.to_owned(),
        source,
    };
    let config = Kubeconfig::parse(text).map_err(broken)?;
    // While a node joins, or in files made by hand, there may be no current context.
    let cluster = config
        .current()
        .map(|(cluster, _)| cluster)
        .or_else(|_| config.single_cluster());
    url(&cluster.map_err(broken)?.server)
}

/// Only https: the service account's token goes there.
fn url(text: &str) -> Result<Uri, Error> {
    let wrong = || Error::Url(text.to_owned());
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    if uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty()) {
        return Ok(uri);
    }
    Err(wrong())
}

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}
