//! Who is asking, and may they.
//!
//! [`authenticate`] turns a request's credentials into a [`UserInfo`]: a client certificate wins over a bearer token;
//! a credential that is offered and bad is 401 (never silently anonymous); none at all is `system:anonymous`.
//! [`authorize`] then asks in turn the superuser group, the Node authorizer and RBAC; the first that allows decides.
//! Nothing is cached: both read the stored objects at every request, so a deleted token or binding stops at once.

mod bootstrap;
pub mod defaults;
pub mod fields;
mod impersonate;
mod jwt;
mod node;
pub mod rbac;
pub mod reviews;
mod token_request;
mod x509;

use http::{HeaderMap, header::AUTHORIZATION};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;

pub use defaults::default_objects;
pub use jwt::{DEFAULT_ISSUER, ServiceAccountKeys, Verified};
pub(crate) use node::{names_config_maps, names_secrets, node_name};
pub use token_request::token_request;
pub use x509::{ClientCa, client_verifier};

use crate::{
    attributes::{Attributes, Objects, UserInfo},
    status::Status,
};

/// The group that passes every authorization check.
pub const SUPERUSERS: &str = "system:masters";
/// The group of every user that showed a credential.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of users that showed none.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";

/// What credentials are checked against.
pub struct AuthConfig {
    /// The certificate authorities whose client certificates name users.
    pub client_ca: ClientCa,
    /// The keys that sign and verify service account tokens.
    pub service_account: ServiceAccountKeys,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The PEM bundle of client CAs cannot be read.
    #[error("cannot read the client CA bundle: {0}; give one or more PEM certificates")]
    ClientCa(String),
    /// A service account key cannot be read.
    #[error("cannot read the service account key: {0}; give an RSA or EC P-256 key in PEM")]
    Key(String),
}

impl AuthConfig {
    /// Reads a PEM bundle of client CAs and the service account keys.
    ///
    /// # Errors
    /// When a PEM text cannot be read.
    pub fn new(client_ca_pem: &str, keys: ServiceAccountKeys) -> Result<Self, ConfigError> {
        Ok(Self {
            client_ca: ClientCa::from_pem(client_ca_pem)?,
            service_account: keys,
        })
    }
}

/// Finds out who sends a request.
///
/// `peer_cert` is the certificate of the TLS client, whose possession of the key TLS has already proven
/// (see [`client_verifier`]). Impersonation headers are honoured for users that may `impersonate`.
///
/// # Errors
/// 401 for a credential that is not valid; 403 for impersonation that is not allowed.
pub fn authenticate(
    config: &AuthConfig,
    peer_cert: Option<&CertificateDer<'_>>,
    headers: &HeaderMap,
    objects: &dyn Objects,
    now: Timestamp,
) -> Result<UserInfo, Status> {
    let user = authenticate_credentials(config, peer_cert, headers, objects, now)?;
    impersonate::impersonate(user, headers, objects)
}

fn authenticate_credentials(
    config: &AuthConfig,
    peer_cert: Option<&CertificateDer<'_>>,
    headers: &HeaderMap,
    objects: &dyn Objects,
    now: Timestamp,
) -> Result<UserInfo, Status> {
    let mut failed = None;
    if let Some(cert) = peer_cert {
        match config.client_ca.user(cert, now) {
            Ok(user) => return Ok(authenticated(user)),
            Err(reason) => failed = Some(reason),
        }
    }
    if let Some(token) = bearer(headers) {
        match token_user(config, token, objects, now) {
            Ok(user) => return Ok(authenticated(user)),
            Err(reason) => failed = Some(reason),
        }
    }
    match failed {
        Some(reason) => {
            tracing::debug!(%reason, "credentials refused");
            Err(Status::unauthorized())
        }
        None => Ok(anonymous()),
    }
}

/// The user of a bearer token; the error is for the log only and holds no secret.
pub(crate) fn token_user(
    config: &AuthConfig,
    token: &str,
    objects: &dyn Objects,
    now: Timestamp,
) -> Result<UserInfo, String> {
    if is_bootstrap_token(token) {
        return bootstrap::user(token, objects, now);
    }
    let audiences = [config.service_account.issuer().to_owned()];
    config
        .service_account
        .verify(token, &audiences, objects, now)
        .map(|verified| verified.user)
}

/// A service account token has three parts, a bootstrap token two.
pub(crate) fn is_bootstrap_token(token: &str) -> bool {
    token.matches('.').count() == 1
}

/// The bearer token of an `Authorization` header, if there is one with something in it.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    // A header that is not text is still an offered credential: it must fail, not become anonymous.
    let header = headers.get(AUTHORIZATION)?;
    let text = header.to_str().unwrap_or("Bearer \u{fffd}");
    let (scheme, token) = text.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn authenticated(mut user: UserInfo) -> UserInfo {
    if !user.groups.iter().any(|group| group == AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

/// The user of a request without credentials.
pub fn anonymous() -> UserInfo {
    UserInfo {
        name: "system:anonymous".to_owned(),
        groups: vec![UNAUTHENTICATED.to_owned()],
        ..UserInfo::default()
    }
}

/// The privileged user of the program's own in-process client.
pub fn superuser(name: &str) -> UserInfo {
    UserInfo {
        name: name.to_owned(),
        groups: vec![SUPERUSERS.to_owned(), AUTHENTICATED.to_owned()],
        ..UserInfo::default()
    }
}

/// Decides whether a user may do something.
///
/// # Errors
/// 403 with the text a real API server gives, including the Node authorizer's reason where it has one.
pub fn authorize(
    user: &UserInfo,
    attributes: &Attributes,
    objects: &dyn Objects,
) -> Result<(), Status> {
    decide(user, attributes, objects).map_err(|reason| forbidden(user, attributes, &reason))
}

/// The verdict alone: `Err` holds the reasons for a refusal, possibly empty.
pub(crate) fn decide(
    user: &UserInfo,
    attributes: &Attributes,
    objects: &dyn Objects,
) -> Result<(), String> {
    if user.groups.iter().any(|group| group == SUPERUSERS) {
        return Ok(());
    }
    let node_reason = match node::authorize(user, attributes, objects) {
        Ok(()) => return Ok(()),
        Err(reason) => reason,
    };
    if rbac::allows(user, attributes, objects) {
        return Ok(());
    }
    Err(node_reason)
}

/// The refusal as a real API server words it.
fn forbidden(user: &UserInfo, attributes: &Attributes, reason: &str) -> Status {
    let tail = if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    };
    let a = attributes;
    if a.resource.is_empty() {
        let message = format!(
            "forbidden: User \"{}\" cannot {} path \"{}\"{tail}",
            user.name, a.verb, a.path
        );
        return Status {
            details: serde_json::json!({}),
            ..Status::forbidden(message)
        };
    }
    let mut resource = a.resource.clone();
    if !a.subresource.is_empty() {
        resource = format!("{resource}/{}", a.subresource);
    }
    let scope = if a.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", a.namespace)
    };
    refuse(
        &a.group,
        &a.resource,
        &a.name,
        &format!(
            "User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {scope}{tail}",
            user.name, a.verb, a.group
        ),
    )
}

/// 403 about one object: `pods "x" is forbidden: WHY`, with the details clients look at.
pub(crate) fn refuse(group: &str, resource: &str, name: &str, why: &str) -> Status {
    let qualified = if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    };
    let mut details = serde_json::json!({"kind": resource});
    if !group.is_empty() {
        details["group"] = group.into();
    }
    let subject = if name.is_empty() {
        qualified
    } else {
        details["name"] = name.into();
        format!("{qualified} \"{name}\"")
    };
    Status {
        details,
        ..Status::forbidden(format!("{subject} is forbidden: {why}"))
    }
}

#[cfg(test)]
mod credential_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
