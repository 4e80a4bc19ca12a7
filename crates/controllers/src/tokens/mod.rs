//! Bootstrap tokens: cluster-info carries a signature by each of them, and they end.

mod cleaner;
mod signer;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use malha_bootstrap::token::{BootstrapToken, Expiry};

pub(crate) use cleaner::TokenCleaner;
pub(crate) use signer::BootstrapSigner;

/// The token that a Secret describes, if it is well-formed.
fn read(secret: &Secret) -> Option<BootstrapToken> {
    let name = secret.metadata.name.as_deref()?;
    BootstrapToken::from_data(name, |key| field(secret, key)).ok()
}

/// When the token ends, whatever else is wrong with its Secret.
fn expiry(secret: &Secret) -> Expiry {
    let Some(bytes) = field(secret, "expiration") else {
        return Expiry::Never;
    };
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<Timestamp>() {
        Ok(at) => Expiry::At(at),
        Err(_) => Expiry::Unreadable(text.into_owned()),
    }
}

fn field<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    let data = secret.data.as_ref()?;
    data.get(key).map(|bytes| bytes.0.as_slice())
}

#[cfg(test)]
pub(super) mod testing {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Secret;
    use serde_json::json;

    use crate::testing::object;

    /// A token Secret that ends at `expiration` (never, if empty); `extra` fields overwrite.
    pub fn token(id: &str, expiration: &str, extra: &[(&str, &str)]) -> Arc<Secret> {
        let mut data = json!({
            "token-id": id, "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
        });
        if !expiration.is_empty() {
            data["expiration"] = expiration.into();
        }
        for (key, value) in extra {
            data[key] = (*value).into();
        }
        let data: serde_json::Map<String, serde_json::Value> = data
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| {
                let bytes = k8s_openapi::ByteString(value.as_str().unwrap().into());
                (key.clone(), serde_json::to_value(bytes).unwrap())
            })
            .collect();
        object(json!({
            "metadata": {
                "name": format!("bootstrap-token-{id}"), "namespace": "kube-system",
                "uid": format!("uid-{id}"), "resourceVersion": "5",
            },
            "type": "bootstrap.kubernetes.io/token", "data": data,
        }))
    }
}
