//! `HOST:PORT` of an API server.

use std::{fmt, net::IpAddr, str::FromStr};

/// Where an API server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A name or an address.
    pub host: Host,
    /// TCP port.
    pub port: u16,
}

/// A name or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address: needs no look-up.
    Address(IpAddr),
    /// A DNS name.
    Name(String),
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No port, a port that is no number, or no host.
    #[error(
        "{text:?} is not HOST:PORT ({reason}); write for example 172.20.0.10:6443 or [fd00::10]:6443"
    )]
    Malformed {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A kubeconfig's server that is not `https://…`.
    #[error("the server {0:?} is not https://HOST:PORT")]
    NotHttps(String),
}

impl Endpoint {
    /// An endpoint at an address.
    pub fn new(address: IpAddr, port: u16) -> Self {
        Self {
            host: Host::Address(address),
            port,
        }
    }

    /// From a kubeconfig's `server`, for example `https://172.20.0.10:6443`; the port may be missing (443).
    ///
    /// # Errors
    /// When it is not such a URL.
    pub fn from_url(url: &str) -> Result<Self, EndpointError> {
        let rest = url
            .strip_prefix("https://")
            .ok_or_else(|| EndpointError::NotHttps(url.to_owned()))?;
        let rest = rest.trim_end_matches('/');
        match rest.parse() {
            Err(EndpointError::Malformed {
                reason: NO_PORT, ..
            }) => format!("{rest}:443").parse(),
            other => other,
        }
    }

    /// `https://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("https://{self}")
    }
}

const NO_PORT: &str = "it has no port";

impl FromStr for Endpoint {
    type Err = EndpointError;
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let refuse = |reason| EndpointError::Malformed {
            text: text.to_owned(),
            reason,
        };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest
                    .split_once(']')
                    .ok_or_else(|| refuse("a bracket is missing"))?;
                (host, port.strip_prefix(':').ok_or_else(|| refuse(NO_PORT))?)
            }
            None => text.rsplit_once(':').ok_or_else(|| refuse(NO_PORT))?,
        };
        let port = match port.parse() {
            Ok(0) | Err(_) => return Err(refuse("the port is not a number from 1 to 65535")),
            Ok(port) => port,
        };
        let host = if text.starts_with('[') {
            let address = host
                .parse()
                .map_err(|_| refuse("no IPv6 address in the brackets"))?;
            Host::Address(IpAddr::V6(address))
        } else if let Ok(address) = host.parse::<std::net::Ipv4Addr>() {
            Host::Address(address.into())
        } else if host.contains(':') {
            return Err(refuse("an IPv6 address needs brackets"));
        } else if is_dns_name(host) {
            Host::Name(host.to_ascii_lowercase())
        } else {
            return Err(refuse("the host is neither an address nor a DNS name"));
        };
        Ok(Self { host, port })
    }
}

/// Letters, digits, `-` and `.`; what follows the last dot is not a number, else it would be a mistyped address.
pub(crate) fn is_dns_name(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let trimmed = host.strip_suffix('.').unwrap_or(host);
    let last = trimmed.rsplit('.').next().unwrap_or_default();
    trimmed.len() <= 253
        && trimmed.split('.').all(label)
        && !last.bytes().all(|b| b.is_ascii_digit())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(address) => write!(f, "{address}"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_every_form() {
        for text in ["172.20.0.10:6443", "[fd00::10]:6443", "api.example.org:443"] {
            let endpoint: Endpoint = text.parse().expect("valid");
            assert_eq!(endpoint.to_string(), text);
            assert_eq!(Endpoint::from_url(&endpoint.url()), Ok(endpoint));
        }
        let usual = Endpoint::from_url("https://api.example.org").expect("valid");
        assert_eq!(usual.port, 443);
    }

    #[test]
    fn refuses_with_the_reason() {
        let table = [
            ("172.20.0.10", "no port"),
            ("172.20.0.10:0", "port"),
            ("172.20.0.10:66000", "port"),
            ("172.20.0.300:6443", "neither"),
            ("fd00::10:6443", "brackets"),
            ("[fd00::10:6443", "bracket"),
            ("[nonsense]:6443", "IPv6"),
            ("[fd00::10]", "no port"),
            (":6443", "neither"),
            ("https://a:6443", "brackets"),
            ("a b:6443", "neither"),
        ];
        for (text, wanted) in table {
            let refusal = text.parse::<Endpoint>().expect_err(text).to_string();
            assert!(refusal.contains(wanted), "{refusal}");
        }
        Endpoint::from_url("http://a:1").expect_err("not https");
    }
}
