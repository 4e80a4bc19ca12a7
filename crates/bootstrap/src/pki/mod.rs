//! The cluster's public key infrastructure: one CA, and what it signs.
//!
//! Every certificate, whether from a request or from a key made here, goes through one function (`issue`): it keeps
//! the subject as DER, because each organization in a subject is a Kubernetes group and a name built from a map
//! would lose all but one. Certificates start five minutes in the past, so that a machine with a clock slightly
//! behind can join.
//!
//! Keys are EC P-256; an RSA CA made by kubeadm signs just as well.

mod cluster;
mod issue;

use std::{fmt, time::Duration};

use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use x509_cert::{
    Certificate,
    der::{DecodePem, Encode, EncodePem, pem::LineEnding},
};

pub use cluster::{
    CLUSTER_ADMINS_GROUP, ClusterPki, ServingNames, admin_client, apiserver_client,
    apiserver_serving,
};
pub use issue::{Issue, Purpose};

use crate::{csr, names::Subject};

/// How far in the past certificates start.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// A CA lives ten years, as kubeadm's.
pub const CA_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Other certificates live one year.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why a certificate cannot be made or read. Never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// Input that does not parse.
    #[error("cannot read {what}: {reason}")]
    Read {
        /// Which input.
        what: &'static str,
        /// The parser's words.
        reason: String,
    },
    /// Output that cannot be built.
    #[error("cannot build {what}: {reason}")]
    Encode {
        /// Which output.
        what: &'static str,
        /// The library's words.
        reason: String,
    },
    /// The request was not signed with the key it names.
    #[error("the certificate request is not signed by its own key")]
    BadSelfSignature,
    /// A usage that certificates do not have.
    #[error("unknown key usage {0:?} in the certificate request")]
    UnknownUsage(String),
    /// The CA certificate and the key do not belong together.
    #[error("the CA's private key does not belong to the CA certificate")]
    KeyMismatch,
    /// Nothing this CA signs could be valid.
    #[error("the CA certificate has expired: it was valid until {0}")]
    CaExpired(String),
}

impl PkiError {
    pub(crate) fn read(what: &'static str, reason: &dyn fmt::Display) -> Self {
        PkiError::Read {
            what,
            reason: reason.to_string(),
        }
    }

    pub(crate) fn encode(what: &'static str, reason: &dyn fmt::Display) -> Self {
        PkiError::Encode {
            what,
            reason: reason.to_string(),
        }
    }
}

/// A private key and the certificate for it, both PEM. `Debug` does not show the key.
#[derive(Clone)]
pub struct KeyedCertificate {
    /// Certificate.
    pub cert_pem: String,
    /// Private key, PKCS#8.
    pub key_pem: String,
}

impl fmt::Debug for KeyedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCertificate")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}

/// Key pair that signs service account tokens: PKCS#8 private and PKIX public PEM, EC P-256 (JWT `ES256`).
#[derive(Clone)]
pub struct SigningKeyPair {
    /// `sa.key`.
    pub private_pem: String,
    /// `sa.pub`.
    pub public_pem: String,
}

impl SigningKeyPair {
    /// A fresh pair.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub fn generate() -> Result<Self, PkiError> {
        let key = generate_key()?;
        Ok(Self {
            private_pem: key.serialize_pem(),
            public_pem: key.public_key_pem(),
        })
    }
}

/// A CA that can sign.
pub struct CertificateAuthority {
    pub(crate) certificate: Certificate,
    pub(crate) key: KeyPair,
}

impl CertificateAuthority {
    /// A new self-signed CA, EC P-256, valid for [`CA_LIFETIME`].
    ///
    /// # Errors
    /// When key or certificate cannot be made.
    pub fn generate(common_name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let key = generate_key()?;
        let certificate = issue::self_signed_ca(&Subject::user(common_name), &key, now)?;
        Ok(Self { certificate, key })
    }

    /// A CA from its files: the first certificate of `cert_pem`, and a key in PKCS#8, PKCS#1 or SEC 1 PEM.
    ///
    /// # Errors
    /// When either does not parse or they do not belong together.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let certificate = Certificate::from_pem(cert_pem.as_bytes())
            .map_err(|e| PkiError::read("the CA certificate", &e))?;
        let key =
            KeyPair::from_pem(key_pem).map_err(|e| PkiError::read("the CA's private key", &e))?;
        let named = certificate.tbs_certificate().subject_public_key_info();
        let named = named
            .to_der()
            .map_err(|e| PkiError::read("the CA certificate", &e))?;
        if named != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(PkiError::KeyMismatch);
        }
        Ok(Self { certificate, key })
    }

    /// The certificate as PEM.
    pub fn cert_pem(&self) -> String {
        self.certificate.to_pem(LineEnding::LF).unwrap_or_default()
    }

    /// The private key as PKCS#8 PEM: a secret.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Makes a key and a certificate for it.
    ///
    /// # Errors
    /// When the key cannot be made, or as [`issue::Issue`] does.
    pub fn issue_keyed(
        &self,
        request: &Issue<'_>,
        now: Timestamp,
    ) -> Result<KeyedCertificate, PkiError> {
        let key = generate_key()?;
        let public = rcgen::PublicKeyData::subject_public_key_info(&key);
        let certificate = issue::issue(self, request, &public, now)?;
        Ok(KeyedCertificate {
            cert_pem: to_pem(&certificate)?,
            key_pem: key.serialize_pem(),
        })
    }

    /// [`sign_csr`] as a method.
    ///
    /// # Errors
    /// As [`sign_csr`].
    pub fn sign_csr(
        &self,
        csr_pem: &str,
        now: Timestamp,
        ttl: Duration,
        usages: &[String],
    ) -> Result<String, PkiError> {
        sign_csr(self, csr_pem, now, ttl, usages)
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CertificateAuthority({})",
            self.certificate.tbs_certificate().subject()
        )
    }
}

/// Signs a certificate request: the request's subject with every organization and its DNS and address SANs are
/// kept, its self-signature is verified, the result is valid from five minutes before `now` for `ttl` (never
/// beyond the CA), and its usages are `usages` in Kubernetes' words (`digital signature`, `client auth`, …).
///
/// Whether the request *should* be signed is the caller's decision (see [`csr::inspect`]).
///
/// # Errors
/// When the request is broken or not self-signed, a usage is unknown, or the CA has expired.
pub fn sign_csr(
    ca: &CertificateAuthority,
    csr_pem: &str,
    now: Timestamp,
    ttl: Duration,
    usages: &[String],
) -> Result<String, PkiError> {
    let info = csr::inspect(csr_pem)?;
    let der = csr::request_der(csr_pem)?;
    let certificate =
        issue::issue_for_request(ca, &info, &der, &issue::Terms { now, ttl, usages })?;
    to_pem(&certificate)
}

/// A fresh EC P-256 key.
pub(crate) fn generate_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|e| PkiError::encode("a private key", &e))
}

fn to_pem(certificate: &Certificate) -> Result<String, PkiError> {
    certificate
        .to_pem(LineEnding::LF)
        .map_err(|e| PkiError::encode("a certificate", &e))
}
