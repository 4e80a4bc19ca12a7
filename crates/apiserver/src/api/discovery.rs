//! Discovery documents: what the server has, the old way (a document per group and version) and the new (one for all).

use serde_json::Value;

use super::negotiate::DiscoveryFormat;

/// `GET /api`; `address` is `host:port` for clients.
pub fn api(_format: DiscoveryFormat, _address: &str) -> Value {
    Value::Null
}

/// `GET /apis`.
pub fn apis(_format: DiscoveryFormat) -> Value {
    Value::Null
}

/// `GET /apis/GROUP`; none if there is no such group.
pub fn group(_group: &str) -> Option<Value> {
    None
}

/// `GET /api/v1` and `GET /apis/GROUP/VERSION`; none if there is no such version (404 as plain text).
pub fn resources(_group: &str, _version: &str) -> Option<Value> {
    None
}

/// `GET /`: the paths below.
pub fn paths() -> Value {
    Value::Null
}
