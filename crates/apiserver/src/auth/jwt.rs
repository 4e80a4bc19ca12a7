//! Service account tokens: JSON Web Tokens of our own signing, bound to objects that must still exist.
//!
//! A token is good while its signature, issuer, audience and times are good *and* the service account (by UID) and the
//! pod, secret or node it is bound to still exist: deleting the object revokes the token. Claims are Kubernetes'
//! (KEP-1205): `iss aud exp iat nbf sub jti` and `kubernetes.io {namespace, serviceaccount, pod|secret, node}`.

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde_json::Value;

use super::{ConfigError, fields::text};
use crate::attributes::{Objects, UserInfo};

/// The issuer clusters use unless told otherwise; the default audience as well.
pub const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// How long a deleted object still vouches for a token (the pod's own shutdown needs its token).
const DELETION_LEEWAY: SignedDuration = SignedDuration::from_secs(60);
/// Nothing a client sends as a token is longer than this.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The keys of service account tokens: one signs, several may verify (key rotation).
pub struct ServiceAccountKeys {
    issuer: String,
    signing: (Algorithm, EncodingKey),
    verifying: Vec<(Algorithm, DecodingKey)>,
}

/// A good token: whose it is and for which of the asked audiences.
pub struct Verified {
    /// The service account, with the objects the token is bound to in `extra`.
    pub user: UserInfo,
    /// The audiences both asked for and named in the token.
    pub audiences: Vec<String>,
}

impl ServiceAccountKeys {
    /// Reads keys in PEM: RSA (PKCS#1 or PKCS#8, used as RS256) or EC P-256 (PKCS#8, used as ES256).
    ///
    /// `public_pems` must include the public half of `private_pem`.
    ///
    /// # Errors
    /// When a key cannot be read.
    pub fn new(issuer: &str, private_pem: &str, public_pems: &[&str]) -> Result<Self, ConfigError> {
        let bad = |e: jsonwebtoken::errors::Error| ConfigError::Key(e.to_string());
        let private = private_pem.as_bytes();
        let signing = match EncodingKey::from_ec_pem(private) {
            Ok(key) => (Algorithm::ES256, key),
            Err(_) => (
                Algorithm::RS256,
                EncodingKey::from_rsa_pem(private).map_err(bad)?,
            ),
        };
        let mut verifying = Vec::new();
        for pem in public_pems.iter().map(|pem| pem.as_bytes()) {
            verifying.push(match DecodingKey::from_ec_pem(pem) {
                Ok(key) => (Algorithm::ES256, key),
                Err(_) => (
                    Algorithm::RS256,
                    DecodingKey::from_rsa_pem(pem).map_err(bad)?,
                ),
            });
        }
        Ok(Self {
            issuer: issuer.to_owned(),
            signing,
            verifying,
        })
    }

    /// The `iss` of every token, which is also the audience of the API server itself.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn sign(&self, claims: &Value) -> Result<String, jsonwebtoken::errors::Error> {
        encode(&Header::new(self.signing.0), claims, &self.signing.1)
    }

    /// Checks a token for one of `audiences`; the error names the rule that failed and holds no secret.
    pub(crate) fn verify(
        &self,
        token: &str,
        audiences: &[String],
        objects: &dyn Objects,
        now: Timestamp,
    ) -> Result<Verified, String> {
        let claims = self.claims(token)?;
        self.check_times(&claims, now)?;
        let named = audience_claim(&claims);
        let audiences: Vec<_> = audiences
            .iter()
            .filter(|a| named.contains(&a.as_str()))
            .cloned()
            .collect();
        if audiences.is_empty() {
            return Err("token is not for this audience".to_owned());
        }
        Ok(Verified {
            user: bound_user(&claims, objects, now)?,
            audiences,
        })
    }

    /// The claims of a token that one of our keys signed.
    fn claims(&self, token: &str) -> Result<Value, String> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err("token is too long".to_owned());
        }
        for (algorithm, key) in &self.verifying {
            let mut rules = Validation::new(*algorithm);
            // Times are checked against the caller's clock, audiences against the caller's list.
            rules.validate_exp = false;
            rules.validate_aud = false;
            rules.set_issuer(&[&self.issuer]);
            rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
            if let Ok(data) = decode::<Value>(token, key, &rules) {
                return Ok(data.claims);
            }
        }
        Err("token is not signed by this cluster's service account key".to_owned())
    }

    fn check_times(&self, claims: &Value, now: Timestamp) -> Result<(), String> {
        let second = |name: &str| claims.get(name).and_then(Value::as_f64);
        let now = now.as_second() as f64;
        let end = second("exp").ok_or("token has no expiry")?;
        if now >= end {
            return Err("token has expired".to_owned());
        }
        if second("nbf").is_some_and(|start| now < start) {
            return Err("token is not valid yet".to_owned());
        }
        Ok(())
    }
}

fn audience_claim(claims: &Value) -> Vec<&str> {
    match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The service account the claims name, if everything the token is bound to is still there.
fn bound_user(claims: &Value, objects: &dyn Objects, now: Timestamp) -> Result<UserInfo, String> {
    let private = claims
        .get("kubernetes.io")
        .ok_or("token has no kubernetes.io claim")?;
    let namespace = text(private, "/namespace");
    let (name, uid) = (
        text(private, "/serviceaccount/name"),
        text(private, "/serviceaccount/uid"),
    );
    let user = format!("system:serviceaccount:{namespace}:{name}");
    if namespace.is_empty() || name.is_empty() || text(claims, "/sub") != user {
        return Err("token's subject does not match its service account".to_owned());
    }
    still_there(objects, "serviceaccounts", namespace, (name, uid), now)?;
    let mut info = UserInfo {
        name: user,
        uid: uid.to_owned(),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ],
        ..UserInfo::default()
    };
    let mut extra = |key: &str, value: &str| {
        info.extra.insert(
            format!("authentication.kubernetes.io/{key}"),
            vec![value.to_owned()],
        );
    };
    for (kind, resource, namespace) in [
        ("pod", "pods", namespace),
        ("secret", "secrets", namespace),
        ("node", "nodes", ""),
    ] {
        let Some(bound) = private.get(kind) else {
            continue;
        };
        let (name, uid) = (text(bound, "/name"), text(bound, "/uid"));
        // A pod's token also says where the pod runs, for information: only a token bound to the node depends on it.
        if kind != "node" || private.get("pod").is_none() {
            still_there(objects, resource, namespace, (name, uid), now)?;
        }
        if kind != "secret" {
            extra(&format!("{kind}-name"), name);
            extra(&format!("{kind}-uid"), uid);
        }
    }
    if let Some(id) = claims.get("jti").and_then(Value::as_str) {
        extra("credential-id", &format!("JTI={id}"));
    }
    Ok(info)
}

fn still_there(
    objects: &dyn Objects,
    resource: &str,
    namespace: &str,
    (name, uid): (&str, &str),
    now: Timestamp,
) -> Result<(), String> {
    let object = objects
        .get("", resource, namespace, name)
        .ok_or_else(|| format!("token is bound to {resource} {namespace}/{name}, which is gone"))?;
    if uid.is_empty() || text(&object, "/metadata/uid") != uid {
        return Err(format!(
            "token is bound to an earlier {resource} {namespace}/{name}"
        ));
    }
    match object
        .pointer("/metadata/deletionTimestamp")
        .and_then(Value::as_str)
    {
        None => Ok(()),
        Some(deleted) => match deleted.parse::<Timestamp>() {
            Ok(deleted) if now < deleted + DELETION_LEEWAY => Ok(()),
            _ => Err(format!(
                "token is bound to {resource} {namespace}/{name}, which was deleted"
            )),
        },
    }
}
