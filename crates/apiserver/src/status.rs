//! The Kubernetes `Status` object: how every refusal reads on the wire.
//!
//! Shapes and texts follow the API conventions (`meta/v1 Status`): clients match on `reason`, people read `message`.

use serde_json::{Value, json};

/// A refusal: HTTP code, machine-readable reason and a sentence for people.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// `metav1.StatusReason`; empty where Kubernetes leaves it out.
    pub reason: &'static str,
    /// What was attempted and why it was refused.
    pub message: String,
    /// `details` as on the wire, or null.
    pub details: Value,
}

impl Status {
    /// A refusal without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Value::Null,
        }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401: nobody we know.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403: known, but not allowed.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    /// 404 for an object; `resource` is the plural as in the URL (`configmaps`, `daemonsets.apps`).
    pub fn not_found(resource: &str, name: &str) -> Self {
        Self {
            details: json!({"name": name, "kind": resource}),
            ..Self::new(404, "NotFound", format!("{resource} \"{name}\" not found"))
        }
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &str, name: &str) -> Self {
        Self {
            details: json!({"name": name, "kind": resource}),
            ..Self::new(
                409,
                "AlreadyExists",
                format!("{resource} \"{name}\" already exists"),
            )
        }
    }

    /// 500: our own failure; the message says what was attempted.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message)
    }

    /// The object as sent to the client.
    pub fn to_json(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}
