//! The server's side of TLS: 1.2 and later, HTTP/2 or HTTP/1.1 by ALPN, client certificates welcome.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use secrecy::ExposeSecret;

use super::config::{Config, StartError};
use crate::auth;

/// Reads the serving certificate and key.
///
/// # Errors
/// When one cannot be read, or they do not belong together.
pub(super) fn server_config(config: &Config) -> Result<Arc<ServerConfig>, StartError> {
    let bad = |what, why: &dyn ToString| StartError::Credential {
        what,
        why: why.to_string(),
    };
    const CERT: &str = "the serving certificate (apiserver.crt)";
    const KEY: &str = "the serving key (apiserver.key)";
    let certs = CertificateDer::pem_slice_iter(config.serving_cert.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| bad(CERT, &e))?;
    if certs.is_empty() {
        return Err(bad(CERT, &"there is no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_slice(config.serving_key.expose_secret().as_bytes())
        .map_err(|e| bad(KEY, &e))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad("the TLS versions", &e))?
        .with_client_cert_verifier(auth::client_verifier())
        .with_single_cert(certs, key)
        .map_err(|e| bad("the serving certificate and key", &e))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}
