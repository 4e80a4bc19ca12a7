//! Object metadata: what the server writes itself and what never changes.

use jiff::Timestamp;
use serde_json::Value;

use super::write::Target;
use crate::status::Status;

/// What is new with every object: the moment, a uid, the random end of a generated name.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// The server's clock.
    pub now: Timestamp,
    /// A random UUID.
    pub uid: String,
    /// Five characters for `generateName`.
    pub suffix: String,
}

impl Fresh {
    /// Draws uid and suffix at random.
    pub fn random(now: Timestamp) -> Self {
        Self {
            now,
            uid: uuid::Uuid::new_v4().to_string(),
            suffix: String::new(),
        }
    }
}

/// Checks the body's name and namespace against the URL's and fills them in.
///
/// # Errors
/// 400 when they differ.
pub fn address(_target: &Target<'_>, _object: &mut Value) -> Result<(), Status> {
    Ok(())
}

/// Metadata of a new object.
///
/// # Errors
/// 422 when there is neither a name nor `generateName`.
pub fn create(_target: &Target<'_>, _object: &mut Value, _fresh: &Fresh) -> Result<(), Status> {
    Ok(())
}

/// Compares `resourceVersion` and `uid` in the new object, where given, with the stored object's.
///
/// # Errors
/// 409 when they differ; 422 when a `resourceVersion` is needed and missing.
pub fn preconditions(_target: &Target<'_>, _old: &Value, _new: &Value) -> Result<(), Status> {
    Ok(())
}

/// Takes over what an update cannot touch: server-owned metadata; the status, or everything but the status.
pub fn update(_target: &Target<'_>, _old: &Value, _new: &mut Value) {}

/// Counts `metadata.generation` up when the spec changed.
pub fn count_generation(_target: &Target<'_>, _old: &Value, _new: &mut Value) {}
