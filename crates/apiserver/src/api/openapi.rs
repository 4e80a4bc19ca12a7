//! OpenAPI v3, as much of it as kubectl needs to apply and create.

use serde_json::Value;

/// `GET /openapi/v3`: the index.
pub fn index() -> Value {
    Value::Null
}

/// `GET /openapi/v3/PATH`, where PATH is `api/v1` or `apis/GROUP/VERSION`; none if there is no such version.
pub fn document(_path: &str) -> Option<Value> {
    None
}
