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

#[cfg(test)]
mod tests {
    use super::*;

    const KUBELET: &str = "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: QUJD
    server: https://172.20.0.10:6443
  name: default-cluster
contexts:
- context:
    cluster: default-cluster
    namespace: default
    user: default-auth
  name: default-context
current-context: default-context
kind: Config
preferences: {}
users:
- name: default-auth
  user:
    client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem
    client-key: /var/lib/kubelet/pki/kubelet-client-current.pem
";

    fn parse(text: &str) -> Result<String, String> {
        let found = from_kubeconfig(text, Path::new("kubelet.conf"));
        found
            .map(|uri| uri.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_kubelets_server_is_found() {
        assert_eq!(parse(KUBELET), Ok("https://172.20.0.10:6443/".to_owned()));
        let without_context =
            KUBELET.replace("current-context: default-context", "current-context: \"\"");
        assert_eq!(
            parse(&without_context),
            Ok("https://172.20.0.10:6443/".to_owned())
        );
        let six = KUBELET
            .replace("172.20.0.10:6443", "'[fd00::10]:6443'")
            .replace("https://'", "'https://");
        assert_eq!(parse(&six), Ok("https://[fd00::10]:6443/".to_owned()));
    }

    #[test]
    fn a_broken_kubeconfig_is_named_and_not_shown() {
        for text in ["", "clusters: 7", "clusters: []"] {
            let error = parse(text).expect_err("refused");
            assert!(
                error.contains("kubelet.conf") && error.contains("--api-server"),
                "{error}"
            );
        }
        let plain = KUBELET.replace("https://", "http://");
        assert!(
            parse(&plain)
                .expect_err("refused")
                .contains("give https://HOST:PORT")
        );
    }

    #[test]
    fn flags_come_before_files() {
        let flags = ["https://a:1".to_owned(), "https://b:2".to_owned()];
        let found = find(&flags, Path::new("/nonexistent")).expect("two servers");
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["https://a:1/", "https://b:2/"]
        );
        assert!(find(&["nonsense".to_owned()], Path::new("/nonexistent")).is_err());
    }
}
