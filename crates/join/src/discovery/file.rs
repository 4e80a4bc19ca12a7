//! Discovery by a kubeconfig that the user trusts: kubeadm's `--discovery-file`.
//!
//! Its cluster's server is asked for `cluster-info` over TLS that its CA verifies. When the cluster shows one, the
//! server in that is the newer one; when it does not, the file is enough. Source: kubernetes.io, "kubeadm join",
//! file or HTTPS-based discovery.

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use ::http::uri::Uri;
use malha_bootstrap::{kubeconfig::Kubeconfig, token::Token};

use super::{ClusterInfo, Credentials, Failure, Found, PATH};
use crate::{
    client::{Limits, Verified},
    clock::Clock,
    endpoint::Endpoint,
    progress::Progress,
};

/// Certificates that this machine trusts, where Go looks for them.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where a kubeconfig is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file of this machine.
    File(PathBuf),
    /// An https URL: server and path.
    Url(Endpoint, String),
}

impl FromStr for Location {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        if !text.contains("://") {
            return Ok(Location::File(text.into()));
        }
        let refuse =
            || Failure::Location(text.split('@').next_back().unwrap_or_default().to_owned());
        let uri: Uri = text.parse().map_err(|_| refuse())?;
        let authority = uri.authority().ok_or_else(refuse)?;
        if uri.scheme_str() != Some("https") || authority.as_str().contains('@') {
            return Err(refuse());
        }
        let server = Endpoint::from_url(&format!("https://{authority}")).map_err(|_| refuse())?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Location::Url(server, path.to_owned()))
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Location::File(path) => write!(f, "{}", path.display()),
            Location::Url(server, path) => write!(f, "{}{path}", server.url()),
        }
    }
}

/// What discovery by file is told.
pub struct ByFile<'a> {
    /// The kubeconfig.
    pub location: &'a Location,
    /// The token to use instead of the file's credentials.
    pub token: Option<&'a Token>,
    /// This machine's clock.
    pub clock: Clock,
    /// How long each request may take.
    pub limits: Limits,
}

impl ByFile<'_> {
    /// Runs the discovery.
    ///
    /// # Errors
    /// One line with cause and remedy; see [`Failure`].
    pub async fn run(&self, progress: Progress) -> Result<Found, Failure> {
        progress.step(
            "discovery",
            format!("Reading the kubeconfig {:?}", self.location.to_string()),
        );
        let text = self.fetch().await?;
        let broken = |reason: String| Failure::File {
            location: self.location.to_string(),
            reason,
        };
        let config = Kubeconfig::parse(&text).map_err(|e| broken(e.to_string()))?;
        let cluster = config
            .joinable_cluster()
            .map_err(|e| broken(e.to_string()))?;
        let server = Endpoint::from_url(&cluster.server).map_err(|e| broken(e.to_string()))?;
        let ca_pem = match &cluster.certificate_authority {
            Some(path) => self.beside(path)?,
            None => cluster.ca_pem().map_err(|e| broken(e.to_string()))?,
        };
        let credentials = match self.token {
            Some(token) => Credentials::token(token),
            None => self.credentials(&config)?,
        };
        progress.step(
            "discovery",
            format!("Requesting info from {:?} over verified TLS", server.url()),
        );
        let known = Found {
            server,
            ca_pem,
            credentials,
        };
        self.refresh(known).await
    }

    async fn fetch(&self) -> Result<String, Failure> {
        let unreadable = |reason: String| Failure::File {
            location: self.location.to_string(),
            reason,
        };
        let (server, path) = match self.location {
            Location::File(path) => {
                return fs::read_to_string(path).map_err(|e| unreadable(e.to_string()));
            }
            Location::Url(server, path) => (server, path),
        };
        let bundle = trusted_bundle().map_err(|e| unreadable(e.to_string()))?;
        let client = Verified::new(server.clone(), &bundle, self.clock, self.limits)?;
        let answer = client
            .get(path)
            .await
            .map_err(|e| unreadable(e.to_string()))?;
        if answer.status.as_u16() != 200 {
            return Err(unreadable(format!("the server says {}", answer.status)));
        }
        String::from_utf8(answer.body.to_vec())
            .map_err(|_| unreadable("it is not a text".to_owned()))
    }

    /// A file that the kubeconfig names, relative to its own directory.
    fn beside(&self, path: &str) -> Result<String, Failure> {
        let base = match self.location {
            Location::File(file) => file.parent().unwrap_or(Path::new("/")),
            Location::Url(..) => Path::new("/"),
        };
        fs::read_to_string(base.join(path)).map_err(|e| Failure::File {
            location: path.to_owned(),
            reason: e.to_string(),
        })
    }

    /// The file's own credentials.
    fn credentials(&self, config: &Kubeconfig) -> Result<Credentials, Failure> {
        let location = self.location.to_string();
        let Ok((_, user)) = config.current() else {
            return Err(Failure::NoCredentials(location));
        };
        if let Some(token) = user.token() {
            return Ok(Credentials::bearer(token));
        }
        if let Some(path) = &user.token_file {
            return Ok(Credentials::bearer(self.beside(path)?.trim()));
        }
        let part = |data: Option<String>, path: &Option<String>| match (data, path) {
            (Some(pem), _) => Ok(Some(pem)),
            (None, Some(path)) => self.beside(path).map(Some),
            (None, None) => Ok(None),
        };
        let certificate = part(user.certificate_pem()?, &user.client_certificate)?;
        let key = part(user.key_pem()?, &user.client_key)?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Credentials::certificate(&certificate, &key)),
            _ => Err(Failure::NoCredentials(location)),
        }
    }

    /// `cluster-info` knows where the API server is by now.
    async fn refresh(&self, known: Found) -> Result<Found, Failure> {
        let client = Verified::new(known.server.clone(), &known.ca_pem, self.clock, self.limits)?;
        let answer = client.get(PATH).await?;
        let Ok(info) = ClusterInfo::read(&answer) else {
            tracing::debug!(status = %answer.status, "no cluster-info; the file will do");
            return Ok(known);
        };
        let fresh = || {
            let config = Kubeconfig::parse(&info.kubeconfig).ok()?;
            let cluster = config.single_cluster().ok()?;
            Some((
                Endpoint::from_url(&cluster.server).ok()?,
                cluster.ca_pem().ok()?,
            ))
        };
        let Some((server, ca_pem)) = fresh() else {
            return Ok(known);
        };
        Ok(Found {
            server,
            ca_pem,
            ..known
        })
    }
}

/// The certificates that this machine trusts.
fn trusted_bundle() -> io::Result<String> {
    let given = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let usual = BUNDLES.iter().map(PathBuf::from);
    let found = given.into_iter().chain(usual).find(|path| path.exists());
    let path = found.ok_or_else(|| {
        io::Error::other(
            "this machine has no file of trusted certificates; install ca-certificates",
        )
    })?;
    fs::read_to_string(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_https_but_nothing_else() {
        let file: Location = "/etc/x.conf".parse().expect("a file");
        assert_eq!(file, Location::File("/etc/x.conf".into()));
        let url: Location = "https://example.org/a/b?c".parse().expect("a URL");
        assert_eq!(url.to_string(), "https://example.org:443/a/b?c");
        for bad in [
            "http://example.org/a",
            "https://user:secret@example.org/",
            "https://",
            "ftp://a/b",
        ] {
            let refusal = bad.parse::<Location>().expect_err(bad).to_string();
            assert!(
                refusal.contains("https URL") && !refusal.contains("secret"),
                "{refusal}"
            );
        }
    }
}
