//! What a server is started with, and why it may not start.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use secrecy::SecretString;

/// What a server is started with. Certificates and keys are PEM texts, not paths.
pub struct Config {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The database's directory, made if missing.
    pub data_dir: PathBuf,
    /// The serving certificate, with intermediates if it has any (`apiserver.crt`).
    pub serving_cert: String,
    /// Its private key (`apiserver.key`).
    pub serving_key: SecretString,
    /// The CAs whose client certificates name users, nodes among them (`ca.crt`).
    pub client_ca: String,
    /// The key that signs service account tokens (`sa.key`).
    pub service_account_key: SecretString,
    /// The keys that verify them; must include the public half of the above (`sa.pub`).
    pub service_account_public_keys: Vec<String>,
    /// The certificate the server shows to nodes (`apiserver-kubelet-client.crt`).
    pub kubelet_client_cert: String,
    /// Its private key.
    pub kubelet_client_key: SecretString,
    /// Where Services get their addresses: one range, or one of each family; the first is the primary one.
    pub service_ranges: Vec<IpNet>,
    /// The address nodes and pods reach the server at: the endpoint of the `kubernetes` Service.
    pub advertise: IpAddr,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be opened; in particular another process has it.
    #[error(transparent)]
    Store(#[from] crate::store::OpenError),
    /// Somebody else has the port, or the address is not this machine's.
    #[error("cannot listen on {address}: {source}; {remedy}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The system's answer.
        source: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A certificate or key is not what it should be.
    #[error("cannot read {what}: {why}; give it in PEM")]
    Credential {
        /// Which one, with kubeadm's file name.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The service ranges cannot be used.
    #[error("cannot use the service range {range}: {why}")]
    ServiceRange {
        /// The range.
        range: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An object every cluster starts with could not be created.
    #[error("cannot create {what}: {why}")]
    Bootstrap {
        /// The object.
        what: String,
        /// The refusal.
        why: String,
    },
}
