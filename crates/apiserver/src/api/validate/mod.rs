//! Validation: what is wrong with an object.

pub mod names;

use serde_json::Value;

use super::{errors::FieldError, resources::Resource, write::Target};

/// Everything that is wrong with a new object.
pub fn create(_resource: &'static Resource, _object: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// Everything that is wrong with a change, immutable fields included.
pub fn update(_target: &Target<'_>, _old: &Value, _new: &Value) -> Vec<FieldError> {
    Vec::new()
}
