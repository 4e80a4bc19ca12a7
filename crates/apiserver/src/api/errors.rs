//! Refusals with Kubernetes' shapes and texts, beyond the common ones of [`crate::status`].

use serde_json::{Value, json};

use super::resources::Resource;
use crate::status::Status;

/// One thing that is wrong with an object: a cause of a 422.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// `FieldValueInvalid`, `FieldValueRequired`, …
    pub reason: &'static str,
    /// The path of the field, for example `spec.containers[0].name`.
    pub field: String,
    /// What is wrong, value included.
    pub message: String,
}

impl FieldError {
    fn new(reason: &'static str, field: impl Into<String>, message: String) -> Self {
        Self {
            reason,
            field: field.into(),
            message,
        }
    }

    /// The field is missing.
    pub fn required(field: impl Into<String>, why: &str) -> Self {
        let message = match why {
            "" => "Required value".to_owned(),
            why => format!("Required value: {why}"),
        };
        Self::new("FieldValueRequired", field, message)
    }

    /// The value is malformed, or may not change.
    pub fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        Self::new(
            "FieldValueInvalid",
            field,
            format!("Invalid value: {value}: {why}"),
        )
    }

    /// The value is none of those that exist.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let list: Vec<_> = supported.iter().map(|s| format!("\"{s}\"")).collect();
        Self::new(
            "FieldValueNotSupported",
            field,
            format!(
                "Unsupported value: {value}: supported values: {}",
                list.join(", ")
            ),
        )
    }

    /// The same value stands in a list twice.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self::new(
            "FieldValueDuplicate",
            field,
            format!("Duplicate value: {value}"),
        )
    }

    /// The field may not be set here.
    pub fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self::new("FieldValueForbidden", field, format!("Forbidden: {why}"))
    }

    /// What the field refers to does not exist.
    pub fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self::new("FieldValueNotFound", field, format!("Not found: {value}"))
    }

    /// The value is longer than it may be.
    pub fn too_long(field: impl Into<String>, limit: usize) -> Self {
        Self::new(
            "FieldValueTooLong",
            field,
            format!("Too long: may not be more than {limit} bytes"),
        )
    }
}

/// 422 for an object; none if nothing is wrong.
///
/// # Errors
/// 422 with every error as a cause.
pub fn check(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(invalid(group, kind, name, errors))
}

/// 422: the object is understood, but wrong.
pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Status {
    let texts: Vec<_> = errors
        .iter()
        .map(|e| format!("{}: {}", e.field, e.message))
        .collect();
    let what = match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let qualified = match group {
        "" => kind.to_owned(),
        group => format!("{kind}.{group}"),
    };
    let causes: Vec<_> = errors
        .iter()
        .map(|e| json!({"reason": e.reason, "message": e.message, "field": e.field}))
        .collect();
    let mut details = json!({"name": name, "kind": kind, "causes": causes});
    if !group.is_empty() {
        details["group"] = group.into();
    }
    Status {
        details,
        ..Status::new(
            422,
            "Invalid",
            format!("{qualified} \"{name}\" is invalid: {what}"),
        )
    }
}

/// 409: somebody else wrote first.
pub fn conflict(resource: &Resource, name: &str, why: &str) -> Status {
    Status {
        details: details(resource, name),
        ..Status::new(
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on {} \"{name}\": {why}",
                resource.qualified()
            ),
        )
    }
}

/// 409 for a stale `resourceVersion`.
pub fn modified(resource: &Resource, name: &str) -> Status {
    conflict(
        resource,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )
}

/// 404 for an object of a resource.
pub fn not_found(resource: &Resource, name: &str) -> Status {
    Status {
        details: details(resource, name),
        ..Status::not_found(&resource.qualified(), name)
    }
}

/// 409 for a name that is taken.
pub fn already_exists(resource: &Resource, name: &str) -> Status {
    Status {
        details: details(resource, name),
        ..Status::already_exists(&resource.qualified(), name)
    }
}

/// 404 for a path below a known group-version that names no resource.
pub fn no_such_resource() -> Status {
    Status {
        details: json!({}),
        ..Status::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }
}

/// 405 for a verb that the resource does not have.
pub fn method_not_allowed() -> Status {
    Status {
        details: json!({}),
        ..Status::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }
}

/// 406: none of the accepted media types can be served.
pub fn not_acceptable() -> Status {
    Status::new(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml",
    )
}

/// 415 for a body; `accepted` are the media types that would have been read.
pub fn unsupported_body(accepted: &str) -> Status {
    Status::new(
        415,
        "UnsupportedMediaType",
        format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        ),
    )
}

fn details(resource: &Resource, name: &str) -> Value {
    let mut details = json!({"name": name, "kind": resource.plural});
    if !resource.group.is_empty() {
        details["group"] = resource.group.into();
    }
    details
}
