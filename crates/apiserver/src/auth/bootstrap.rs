//! Bootstrap tokens: `id.secret`, kept as Secrets `kube-system/bootstrap-token-ID`.
//!
//! Every rule of Kubernetes' bootstrap authenticator holds: type, matching id and secret (compared in constant time),
//! not being deleted, not expired (an expiration nobody can read is expired), meant for authentication, and extra groups
//! only below `system:bootstrappers:`. Read at every request: an expired token stops at once.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::Value;

use super::fields::text;
use crate::attributes::{Objects, UserInfo};

const GROUP: &str = "system:bootstrappers";

/// The user of a bootstrap token; the error names the rule that failed, never the secret.
pub(super) fn user(token: &str, objects: &dyn Objects, now: Timestamp) -> Result<UserInfo, String> {
    let (id, secret) = parse(token).ok_or("token has not the form of a bootstrap token")?;
    let stored = objects
        .get(
            "",
            "secrets",
            "kube-system",
            &format!("bootstrap-token-{id}"),
        )
        .ok_or_else(|| format!("no secret for bootstrap token {id}"))?;
    check(&stored, id, secret, now).map_err(|why| format!("bootstrap token {id}: {why}"))?;
    let mut groups = vec![GROUP.to_owned()];
    let extra = data(&stored, "auth-extra-groups").unwrap_or_default();
    for group in extra.split(',').filter(|group| !group.is_empty()) {
        if !is_bootstrap_group(group) {
            return Err(format!("bootstrap token {id}: bad group {group:?}"));
        }
        groups.push(group.to_owned());
    }
    Ok(UserInfo {
        name: format!("system:bootstrap:{id}"),
        groups,
        ..UserInfo::default()
    })
}

fn check(stored: &Value, id: &str, secret: &str, now: Timestamp) -> Result<(), &'static str> {
    if stored
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|t| !t.is_null())
    {
        return Err("is being deleted");
    }
    if text(stored, "/type") != "bootstrap.kubernetes.io/token" {
        return Err("secret has the wrong type");
    }
    let expected = data(stored, "token-secret").filter(|s| !s.is_empty());
    let expected = expected.ok_or("secret has no token-secret")?;
    verify_slices_are_equal(expected.as_bytes(), secret.as_bytes()).map_err(|_| "wrong secret")?;
    if data(stored, "token-id").as_deref() != Some(id) {
        return Err("token-id does not match the name");
    }
    match data(stored, "expiration").filter(|text| !text.is_empty()) {
        None => {}
        Some(text) => match text.parse::<Timestamp>() {
            Ok(end) if now < end => {}
            Ok(_) => return Err("expired"),
            Err(_) => return Err("expiration cannot be read"),
        },
    }
    if data(stored, "usage-bootstrap-authentication").as_deref() != Some("true") {
        return Err("not for authentication");
    }
    Ok(())
}

/// One value of the Secret, decoded; none if absent or not base64 of UTF-8.
fn data(secret: &Value, key: &str) -> Option<String> {
    let encoded = secret.get("data")?.get(key)?.as_str()?;
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}

fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |s: &str| {
        s.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// `\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z`
fn is_bootstrap_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else {
        return false;
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    rest.len() <= 256
        && rest.bytes().all(|b| plain(b) || b == b':' || b == b'-')
        && rest.bytes().last().is_some_and(plain)
}
