//! Bootstrap tokens: `id.secret`, kept as Secrets `kube-system/bootstrap-token-ID`.
//!
//! Every rule of Kubernetes' bootstrap authenticator holds: type, matching id and secret (compared in constant time),
//! not being deleted, not expired (an expiration nobody can read is expired), meant for authentication, and extra groups
//! only below `system:bootstrappers:`. Read at every request: an expired token stops at once.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use malha_bootstrap::token::{BootstrapToken, NAMESPACE, SECRET_TYPE, Token, Usage};
use serde_json::Value;

use super::fields::text;
use crate::attributes::{Objects, UserInfo};

const GROUP: &str = "system:bootstrappers";

/// The user of a bootstrap token; the error names the rule that failed, never the secret.
pub(super) fn user(token: &str, objects: &dyn Objects, now: Timestamp) -> Result<UserInfo, String> {
    let token: Token = token
        .parse()
        .map_err(|_| "token has not the form of a bootstrap token")?;
    let name = token.id.secret_name();
    let id = token.id.clone();
    let refused = |why: &str| format!("bootstrap token {id}: {why}");
    let secret = objects
        .get("", "secrets", NAMESPACE, &name)
        .ok_or_else(|| refused("unknown"))?;
    let stored = stored(&secret, &name).map_err(|why| refused(&why))?;
    if stored.token.secret != token.secret {
        return Err(refused("wrong secret"));
    }
    if stored.expiry.is_expired(now) {
        return Err(refused("expired"));
    }
    if !stored.allows(Usage::Authentication, now) {
        return Err(refused("not for authentication"));
    }
    let mut groups = vec![GROUP.to_owned()];
    groups.extend(stored.groups);
    Ok(UserInfo {
        name: format!("system:bootstrap:{id}"),
        groups,
        ..UserInfo::default()
    })
}

/// The token a Secret describes, if it is a token's Secret and not going away.
fn stored(secret: &Value, name: &str) -> Result<BootstrapToken, String> {
    let deleted = secret.pointer("/metadata/deletionTimestamp");
    if deleted.is_some_and(|time| !time.is_null()) {
        return Err("is being deleted".to_owned());
    }
    if text(secret, "/type") != SECRET_TYPE {
        return Err("secret has the wrong type".to_owned());
    }
    let encoded = secret.get("data").and_then(Value::as_object);
    let data: HashMap<&str, Vec<u8>> = encoded
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), STANDARD.decode(value.as_str()?).ok()?)))
        .collect();
    BootstrapToken::from_data(name, |key| data.get(key).map(Vec::as_slice))
        .map_err(|e| e.to_string())
}
