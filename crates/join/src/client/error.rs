//! Why a request had no answer: cause and remedy, from what the system and the TLS library say.

use std::{error::Error as _, io};

use jiff::Timestamp;
use rustls::{CertificateError, pki_types::UnixTime};

use crate::endpoint::Endpoint;

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The host's name leads nowhere.
    #[error(
        "cannot find the address of {name:?}: {reason}; check the name, or use the server's address"
    )]
    UnknownName {
        /// The name.
        name: String,
        /// The resolver's words.
        reason: String,
    },
    /// No name server answers.
    #[error(
        "cannot find the address of {name:?}: no name server answered within {seconds} s; check /etc/resolv.conf, or use \
         the server's address"
    )]
    SilentNames {
        /// The name.
        name: String,
        /// How long was waited.
        seconds: f32,
    },
    /// Nothing listens.
    #[error(
        "cannot reach the API server at {0}: connection refused, nothing listens there; check address and port, and \
         that the control plane runs"
    )]
    Refused(Endpoint),
    /// No way to the host.
    #[error(
        "cannot reach the API server at {endpoint}: {reason}; check the address and this machine's routes (ip route)"
    )]
    NoRoute {
        /// Who was asked.
        endpoint: Endpoint,
        /// The system's words.
        reason: String,
    },
    /// Silence.
    #[error(
        "the API server at {endpoint} is silent: no {what} within {seconds} s; check the address, that the machine is \
         up, and that no firewall drops packets to it"
    )]
    Timeout {
        /// Who was asked.
        endpoint: Endpoint,
        /// What did not come.
        what: &'static str,
        /// How long was waited.
        seconds: f32,
    },
    /// Somebody else's port.
    #[error(
        "what listens at {0} does not speak TLS; check the port (an API server's is usually 6443)"
    )]
    NotTls(Endpoint),
    /// The server's certificate was not accepted.
    #[error("the certificate of the API server at {endpoint} {fault}")]
    Certificate {
        /// Who was asked.
        endpoint: Endpoint,
        /// What is wrong with it.
        fault: CertificateFault,
    },
    /// The server did not accept this client's certificate.
    #[error(
        "the API server at {0} does not accept this machine's client certificate ({1}); join again after: malha reset"
    )]
    ClientCertificate(Endpoint, String),
    /// The connection broke, or the answer was no HTTP.
    #[error("the connection to the API server at {endpoint} broke: {reason}; try again")]
    Broken {
        /// Who was asked.
        endpoint: Endpoint,
        /// The library's words.
        reason: String,
    },
}

/// What is wrong with a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// Another CA, or none.
    #[error(
        "was not signed by the cluster's CA: somebody else answers there, or the control plane was created anew; check the address"
    )]
    OtherCa,
    /// Another name.
    #[error(
        "is not for {wanted}, only for {names}; use one of these, or give {wanted} to malha init --apiserver-cert-extra-sans"
    )]
    OtherName {
        /// The host asked for.
        wanted: String,
        /// What the certificate is for.
        names: String,
    },
    /// Valid in the future.
    #[error(
        "is not valid before {from}, and this machine's clock says {now}; set this machine's clock"
    )]
    NotYet {
        /// Start of its validity.
        from: Timestamp,
        /// This machine's clock.
        now: Timestamp,
    },
    /// Valid in the past.
    #[error(
        "was valid until {until}, and this machine's clock says {now}; set this machine's clock if it is wrong, else renew the certificate on the control plane"
    )]
    Expired {
        /// End of its validity.
        until: Timestamp,
        /// This machine's clock.
        now: Timestamp,
    },
    /// Anything else.
    #[error("cannot be verified: {0}; check that this is the cluster's API server")]
    Other(String),
}

impl RequestError {
    /// Whether the same request may succeed in a moment: a server that is starting.
    pub fn may_heal(&self) -> bool {
        matches!(self, RequestError::Refused(_) | RequestError::Broken { .. })
    }

    /// Whether a wrong clock on this machine would explain it.
    pub fn is_about_time(&self) -> bool {
        use CertificateFault::{Expired, NotYet};
        let RequestError::Certificate { fault, .. } = self else {
            return false;
        };
        matches!(fault, NotYet { .. } | Expired { .. })
    }
}

/// From the system's refusal of a TCP connection.
pub(super) fn of_connect(endpoint: &Endpoint, error: &io::Error) -> RequestError {
    use io::ErrorKind;
    let endpoint = endpoint.clone();
    match error.kind() {
        ErrorKind::ConnectionRefused => RequestError::Refused(endpoint),
        ErrorKind::HostUnreachable => RequestError::NoRoute {
            endpoint,
            reason: "no route to host".into(),
        },
        ErrorKind::NetworkUnreachable => RequestError::NoRoute {
            endpoint,
            reason: "network is unreachable".into(),
        },
        // EINVAL, EADDRNOTAVAIL, EACCES: an address that cannot be a server's, or a local rule against it.
        _ => RequestError::NoRoute {
            endpoint,
            reason: error.to_string(),
        },
    }
}

/// From a failed TLS handshake.
pub(super) fn of_handshake(endpoint: &Endpoint, error: &io::Error) -> RequestError {
    let broken = |reason: String| RequestError::Broken {
        endpoint: endpoint.clone(),
        reason,
    };
    match tls_error(error) {
        Some(found) => of_tls(endpoint, found),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            broken("closed during the TLS handshake".to_owned())
        }
        None => broken(error.to_string()),
    }
}

/// From an exchange that broke: with TLS 1.3 the server's refusal of a client certificate comes only now.
pub(super) fn of_exchange(endpoint: &Endpoint, error: &hyper::Error) -> Option<RequestError> {
    let mut source = error.source();
    while let Some(current) = source {
        if let Some(found) = current.downcast_ref::<io::Error>().and_then(tls_error) {
            return Some(of_tls(endpoint, found));
        }
        source = current.source();
    }
    None
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn of_tls(endpoint: &Endpoint, error: &rustls::Error) -> RequestError {
    let endpoint = endpoint.clone();
    match error {
        rustls::Error::InvalidCertificate(fault) => {
            let fault = of_certificate(&endpoint, fault);
            RequestError::Certificate { endpoint, fault }
        }
        rustls::Error::InvalidMessage(_) => RequestError::NotTls(endpoint),
        rustls::Error::AlertReceived(alert) => {
            RequestError::ClientCertificate(endpoint, format!("{alert:?}"))
        }
        other => RequestError::Broken {
            endpoint,
            reason: other.to_string(),
        },
    }
}

fn of_certificate(endpoint: &Endpoint, error: &CertificateError) -> CertificateFault {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            CertificateFault::OtherCa
        }
        CertificateError::NotValidYetContext { time, not_before } => CertificateFault::NotYet {
            from: timestamp(*not_before),
            now: timestamp(*time),
        },
        CertificateError::ExpiredContext { time, not_after } => CertificateFault::Expired {
            until: timestamp(*not_after),
            now: timestamp(*time),
        },
        CertificateError::NotValidForNameContext { presented, .. } => CertificateFault::OtherName {
            wanted: endpoint.host.to_string(),
            names: names(presented),
        },
        other => CertificateFault::Other(other.to_string()),
    }
}

/// The verifier writes `DnsName("a")` and `IpAddress(1.2.3.4)`.
fn names(presented: &[String]) -> String {
    let plain = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest);
        inner.trim_end_matches(')').trim_matches('"').to_owned()
    };
    if presented.is_empty() {
        return "no name at all".to_owned();
    }
    presented.iter().map(plain).collect::<Vec<_>>().join(", ")
}

fn timestamp(time: UnixTime) -> Timestamp {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}
