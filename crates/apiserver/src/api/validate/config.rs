//! Config maps and secrets.

use base64::{Engine, engine::general_purpose::STANDARD};
use malha_bootstrap::token::TokenId;
use serde_json::{Map, Value};

use super::{errors::Errors, names};
use crate::{api::errors::FieldError, auth::fields::text};

/// Bytes of all values of one object.
const MAX_SIZE: usize = 1024 * 1024;
/// The type of tokens that nodes join with.
const BOOTSTRAP_TOKEN: &str = "bootstrap.kubernetes.io/token";

/// Keys that a secret of a type must have.
const REQUIRED_KEYS: [(&str, &[&str]); 4] = [
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

pub(super) fn config_map(map: &Value, errors: &mut Errors) {
    let (data, binary) = (object(map, "data"), object(map, "binaryData"));
    let mut size = 0;
    for (field, entries) in [("data", data), ("binaryData", binary)] {
        for (key, value) in entries.into_iter().flatten() {
            size += value.as_str().unwrap_or("").len();
            errors.texts(&format!("{field}[{key}]"), key, names::config_key(key));
            if field == "binaryData" {
                base64_value(&format!("{field}[{key}]"), value, errors);
            }
        }
    }
    let both = |key: &&String| binary.is_some_and(|b| b.contains_key(*key));
    for key in data.into_iter().flat_map(Map::keys).filter(both) {
        let why = "duplicate of key present in binaryData";
        errors.invalid(format!("data[{key}]"), &key.as_str().into(), why);
    }
    if size > MAX_SIZE {
        errors.push(FieldError::too_long("", MAX_SIZE));
    }
}

pub(super) fn secret(secret: &Value, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in object(secret, "data").into_iter().flatten() {
        size += value.as_str().unwrap_or("").len() / 4 * 3;
        errors.texts(&format!("data[{key}]"), key, names::config_key(key));
        base64_value(&format!("data[{key}]"), value, errors);
    }
    if size > MAX_SIZE {
        errors.push(FieldError::too_long("data", MAX_SIZE));
    }
    let kind = text(secret, "/type");
    let keys = REQUIRED_KEYS.iter().find(|(of, _)| *of == kind);
    for key in keys.into_iter().flat_map(|(_, keys)| *keys) {
        if secret
            .pointer("/data")
            .and_then(|data| data.get(key))
            .is_none()
        {
            errors.required(format!("data[{key}]"));
        }
    }
    let account = "/metadata/annotations/kubernetes.io~1service-account.name";
    match kind {
        "kubernetes.io/service-account-token" if text(secret, account).is_empty() => {
            errors.required("metadata.annotations[kubernetes.io/service-account.name]");
        }
        BOOTSTRAP_TOKEN => bootstrap_token(secret, errors),
        _ => {}
    }
}

/// A token that could never be used is refused. Kubernetes stores it, and joins fail with no reason given.
fn bootstrap_token(secret: &Value, errors: &mut Errors) {
    let value = |key: &str| {
        let encoded = text(secret, &format!("/data/{key}"));
        let decoded = STANDARD.decode(encoded).unwrap_or_default();
        String::from_utf8(decoded).unwrap_or_default()
    };
    let id = value("token-id");
    if id.parse::<TokenId>().is_err() {
        let why = "must be six characters of a-z and 0-9";
        errors.invalid("data[token-id]", &id.as_str().into(), why);
    }
    let name = text(secret, "/metadata/name");
    if name != format!("bootstrap-token-{id}") {
        let why = "must be \"bootstrap-token-\" and the token's id";
        errors.invalid("metadata.name", &name.into(), why);
    }
    let shape = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let token = value("token-secret");
    if token.len() != 16 || !token.bytes().all(shape) {
        // Never the value: it may be a mistyped secret.
        let why = "must be sixteen characters of a-z and 0-9";
        errors.invalid("data[token-secret]", &"<redacted>".into(), why);
    }
}

fn base64_value(field: &str, value: &Value, errors: &mut Errors) {
    if STANDARD.decode(value.as_str().unwrap_or("")).is_err() {
        let why = "illegal base64 data";
        errors.invalid(field, &"<redacted>".into(), why);
    }
}

fn object<'a>(object: &'a Value, field: &str) -> Option<&'a Map<String, Value>> {
    object.get(field).and_then(Value::as_object)
}
