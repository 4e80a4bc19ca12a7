//! Why a control plane was not found or not believed, each in one line with its remedy.

use jiff::Timestamp;
use malha_bootstrap::{
    kubeconfig::KubeconfigError,
    pin::{CaPin, CertificateError},
    token::TokenId,
};

use crate::{
    client::{RequestError, TlsError},
    endpoint::{Endpoint, EndpointError},
};

/// How to get a token that works.
const NEW_TOKEN: &str =
    "create a new one on the control plane with: malha token create --print-join-command";

/// Why a control plane was not found or not believed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server has no signature by this token: it does not tell which of the three it is.
    #[error(
        "the control plane does not know the token {0}: it has expired, was deleted or never existed; {NEW_TOKEN}"
    )]
    TokenUnknown(TokenId),
    /// The token exists, with another secret.
    #[error(
        "cluster-info is not signed with this token: the part after the dot is wrong for the token {0}, or somebody \
         answers in the control plane's place; check the token, or {NEW_TOKEN}"
    )]
    WrongSecret(TokenId),
    /// Another cluster, or somebody between.
    #[error(
        "the CA of the API server at {endpoint} is not the pinned one: it has {}, pinned is {}; check that this is the \
         right control plane, and if its CA was replaced, take the new command from: malha token create \
         --print-join-command", list(.found), list(.pinned)
    )]
    PinMismatch {
        /// Who was asked.
        endpoint: Endpoint,
        /// The CA's pins.
        found: Vec<CaPin>,
        /// What the user gave.
        pinned: Vec<CaPin>,
    },
    /// The clocks differ by more than certificates allow for.
    #[error(
        "this machine's clock is {} the control plane's (here {ours:.0}, there {theirs:.0}); set the clocks (for example \
         with systemd-timesyncd) and join again", difference(*.ours, *.theirs)
    )]
    ClockSkew {
        /// This machine's clock.
        ours: Timestamp,
        /// The server's clock.
        theirs: Timestamp,
    },
    /// The CA's validity begins in the future.
    #[error(
        "the cluster's CA certificate is not valid before {from}, and this machine's clock says {now:.0}{}; set the \
         clocks and join again", theirs(*.server)
    )]
    CaNotYetValid {
        /// Start of its validity.
        from: Timestamp,
        /// This machine's clock.
        now: Timestamp,
        /// The server's clock.
        server: Option<Timestamp>,
    },
    /// The CA's validity has ended.
    #[error(
        "the cluster's CA certificate was valid until {until}, and this machine's clock says {now:.0}{}; set this \
         machine's clock if it is wrong, else renew the cluster's CA", theirs(*.server)
    )]
    CaExpired {
        /// End of its validity.
        until: Timestamp,
        /// This machine's clock.
        now: Timestamp,
        /// The server's clock.
        server: Option<Timestamp>,
    },
    /// The answer over verified TLS differs from the first one.
    #[error(
        "the API server at {0} gave another cluster-info over verified TLS than before; if the cluster was not just changed, somebody is between; join again"
    )]
    Changed(Endpoint),
    /// No such ConfigMap.
    #[error(
        "the API server has no cluster-info ({0}); it was not set up by kubeadm or malha init: create it with: kubeadm init phase bootstrap-token"
    )]
    NoClusterInfo(String),
    /// Anonymous requests are refused.
    #[error(
        "the API server does not show cluster-info to joining machines ({0}); allow anonymous reading of it with: kubeadm init phase bootstrap-token"
    )]
    Closed(String),
    /// Another refusal.
    #[error("the API server refused to give cluster-info: {0}; look at its log")]
    Refused(String),
    /// An HTTPS server, but another one.
    #[error("what answers is not a Kubernetes API server ({0}); check address and port")]
    NotKubernetes(String),
    /// The kubeconfig in `cluster-info`.
    #[error("cluster-info is unusable: {0}; correct it on the control plane")]
    Kubeconfig(#[from] KubeconfigError),
    /// The server in it.
    #[error("cluster-info is unusable: {0}; correct it on the control plane")]
    Server(#[from] EndpointError),
    /// A discovery file's place that cannot be one.
    #[error(
        "{0:?} is neither a file nor an https URL without a password; give --discovery-file one of these"
    )]
    Location(String),
    /// A discovery file that cannot be read or used.
    #[error(
        "cannot use the discovery file {location}: {reason}; give --discovery-file a kubeconfig with the cluster's server and CA"
    )]
    File {
        /// Which file.
        location: String,
        /// Why.
        reason: String,
    },
    /// A discovery file without a user that can ask for a certificate.
    #[error(
        "the discovery file {0} holds no token or client certificate to join with; give one with --tls-bootstrap-token"
    )]
    NoCredentials(String),
    /// The CA in it.
    #[error("cluster-info is unusable: {0}; correct it on the control plane")]
    Ca(#[from] CertificateError),
}

impl Failure {
    /// Whether asking again in a moment may help.
    pub(super) fn may_heal(&self) -> bool {
        match self {
            Failure::Request(error) => error.may_heal(),
            // The signature follows a new token by some seconds in kubeadm's clusters; `kube-public` a new cluster.
            Failure::TokenUnknown(_) | Failure::NoClusterInfo(_) => true,
            _ => false,
        }
    }
}

fn list(pins: &[CaPin]) -> String {
    let texts: Vec<String> = pins.iter().map(CaPin::to_string).collect();
    texts.join(" or ")
}

fn theirs(server: Option<Timestamp>) -> String {
    server.map_or(String::new(), |at| format!(", the control plane's {at:.0}"))
}

/// `2 h 5 min behind`, or `ahead of`.
fn difference(ours: Timestamp, theirs: Timestamp) -> String {
    let seconds = ours.as_second() - theirs.as_second();
    let (days, hours, minutes) = (
        seconds.unsigned_abs() / 86_400,
        seconds.unsigned_abs() / 3600 % 24,
        seconds.unsigned_abs() / 60 % 60,
    );
    let length = match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    };
    let direction = if seconds < 0 { "behind" } else { "ahead of" };
    format!("{length} {direction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_clocks_reads_well() {
        let at = |s| Timestamp::from_second(s).expect("a time");
        assert_eq!(difference(at(0), at(7500)), "2 h 5 min behind");
        assert_eq!(difference(at(7 * 60), at(0)), "7 min ahead of");
        assert_eq!(difference(at(0), at(90_000)), "1 d 1 h behind");
    }
}
