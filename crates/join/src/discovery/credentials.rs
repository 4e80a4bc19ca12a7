//! As whom a machine asks for its certificate.

use malha_bootstrap::token::Token;
use secrecy::{ExposeSecret, SecretString};

use super::Found;
use crate::{
    client::{Limits, TlsError, Verified},
    clock::Clock,
};

/// As whom a machine asks for its certificate. Shown nowhere.
#[derive(Clone, Debug)]
pub struct Credentials(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Bearer(SecretString),
    /// Certificate and key in one PEM text.
    Certificate(SecretString),
}

impl Credentials {
    /// A bootstrap token.
    pub fn token(token: &Token) -> Self {
        Self::bearer(&token.expose())
    }

    /// Any bearer token.
    pub fn bearer(token: &str) -> Self {
        Self(Kind::Bearer(token.to_owned().into()))
    }

    /// A client certificate.
    pub fn certificate(certificate_pem: &str, key_pem: &str) -> Self {
        Self(Kind::Certificate(
            format!("{}\n{key_pem}", certificate_pem.trim_end()).into(),
        ))
    }
}

impl Found {
    /// A client with the credentials.
    ///
    /// # Errors
    /// When CA, certificate or key cannot be used.
    pub fn client(&self, clock: Clock, limits: Limits) -> Result<Verified, TlsError> {
        let (server, ca) = (self.server.clone(), self.ca_pem.as_str());
        match &self.credentials.0 {
            Kind::Bearer(token) => {
                Ok(Verified::new(server, ca, clock, limits)?.with_bearer(token.expose_secret()))
            }
            Kind::Certificate(pem) => {
                Verified::with_identity(server, ca, pem.expose_secret(), clock, limits)
            }
        }
    }
}
