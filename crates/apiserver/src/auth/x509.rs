//! Client certificates: CN is the user, every O a group.
//!
//! TLS proves that the client holds the key ([`client_verifier`] checks the handshake's signature only); who signed the
//! certificate, for which use and until when is checked here, at every request, so that a bad certificate is answered
//! with a 401 a client can read instead of a broken handshake, and an expired one stops on an open connection.
//! Certificates signed by an intermediate are not accepted: the CA itself must have signed, as kubeadm's does.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{
        WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use x509_parser::{extensions::ParsedExtension, prelude::*};

use super::ConfigError;
use crate::attributes::UserInfo;

/// The certificate authorities that may name users.
#[derive(Debug)]
pub struct ClientCa {
    roots: Vec<CertificateDer<'static>>,
}

impl ClientCa {
    /// Reads a PEM bundle; at least one certificate is needed.
    ///
    /// # Errors
    /// When the text holds no certificate, or one that cannot be parsed.
    pub fn from_pem(pem: &str) -> Result<Self, ConfigError> {
        let bad = |e: String| ConfigError::ClientCa(e);
        let roots: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| bad(e.to_string()))?;
        if roots.is_empty() {
            return Err(bad("it holds no certificate".to_owned()));
        }
        for root in &roots {
            X509Certificate::from_der(root).map_err(|e| bad(e.to_string()))?;
        }
        Ok(Self { roots })
    }

    /// The user a certificate names, if one of these authorities vouches for it now.
    pub(super) fn user(&self, cert: &[u8], now: Timestamp) -> Result<UserInfo, String> {
        let (rest, cert) = X509Certificate::from_der(cert)
            .map_err(|e| format!("client certificate cannot be parsed: {e}"))?;
        if !rest.is_empty() {
            return Err("client certificate has trailing bytes".to_owned());
        }
        let time = ASN1Time::from_timestamp(now.as_second())
            .map_err(|e| format!("the clock cannot be expressed: {e}"))?;
        within_validity(&cert, time, "client certificate")?;
        self.check_issuer(&cert, time)?;
        check_extensions(&cert)?;
        subject_user(&cert)
    }

    fn check_issuer(&self, cert: &X509Certificate<'_>, time: ASN1Time) -> Result<(), String> {
        for root in &self.roots {
            let Ok((_, ca)) = X509Certificate::from_der(root) else {
                continue;
            };
            if ca.subject().as_raw() == cert.issuer().as_raw()
                && cert.verify_signature(Some(ca.public_key())).is_ok()
            {
                return within_validity(&ca, time, "client CA certificate");
            }
        }
        Err("client certificate is not signed by a client CA".to_owned())
    }
}

fn within_validity(cert: &X509Certificate<'_>, time: ASN1Time, what: &str) -> Result<(), String> {
    if cert.validity().is_valid_at(time) {
        return Ok(());
    }
    Err(format!(
        "{what} is valid from {} to {} only",
        cert.validity().not_before,
        cert.validity().not_after
    ))
}

/// The certificate must be for client authentication, and say nothing critical that we do not understand.
fn check_extensions(cert: &X509Certificate<'_>) -> Result<(), String> {
    for extension in cert.extensions() {
        let understood = !matches!(
            extension.parsed_extension(),
            ParsedExtension::UnsupportedExtension { .. } | ParsedExtension::ParseError { .. }
        );
        if extension.critical && !understood {
            return Err(format!(
                "client certificate has an unknown critical extension {}",
                extension.oid
            ));
        }
    }
    match cert.extended_key_usage() {
        Ok(Some(usage)) if usage.value.client_auth || usage.value.any => Ok(()),
        // No extension at all restricts nothing (RFC 5280 4.2.1.12).
        Ok(None) => Ok(()),
        _ => Err("client certificate is not for client authentication".to_owned()),
    }
}

fn subject_user(cert: &X509Certificate<'_>) -> Result<UserInfo, String> {
    let text = |attribute: &AttributeTypeAndValue<'_>| {
        attribute
            .as_str()
            .map(str::to_owned)
            .map_err(|e| format!("client certificate's subject is not text: {e}"))
    };
    // The last CN counts, as Go's x509 reads a subject.
    let name = cert.subject().iter_common_name().last();
    let name = name.map(text).transpose()?.unwrap_or_default();
    if name.is_empty() {
        return Err("client certificate has no common name".to_owned());
    }
    let groups = cert.subject().iter_organization().map(text);
    Ok(UserInfo {
        name,
        groups: groups.collect::<Result<_, _>>()?,
        ..UserInfo::default()
    })
}

/// The TLS half of client certificates: asks for one, needs none, and proves possession of its key.
///
/// It does not decide about trust: [`super::authenticate`] does, per request.
pub fn client_verifier() -> Arc<dyn ClientCertVerifier> {
    Arc::new(Possession {
        algorithms: aws_lc_rs::default_provider().signature_verification_algorithms,
    })
}

#[derive(Debug)]
struct Possession {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Possession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
