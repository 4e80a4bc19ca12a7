//! Deletion: at once, after a grace period, or when the last finalizer is done.

use jiff::Timestamp;
use serde_json::Value;

use super::resources::Resource;
use crate::status::Status;

/// What becomes of the dependents of a deleted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They stay and lose their owner.
    Orphan,
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
}

/// `metav1.DeleteOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds until a pod is killed; zero removes it at once.
    pub grace_period_seconds: Option<i64>,
    /// Delete only the object with this uid.
    pub uid: Option<String>,
    /// Delete only this version of the object.
    pub resource_version: Option<String>,
    /// What becomes of dependents; none is the resource's default.
    pub propagation: Option<Propagation>,
    /// Everything but the deletion itself.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Reads a body (null if there is none), then the decoded query's parameters, which fill in what the body leaves
    /// out.
    ///
    /// # Errors
    /// 400 for a body that is no DeleteOptions, 422 for values that are not valid.
    pub fn parse(_body: &Value, _query: &[(String, String)]) -> Result<Self, Status> {
        Ok(Self::default())
    }
}

/// What a deletion does to the store.
#[derive(Debug, Clone, PartialEq)]
pub enum Deletion {
    /// The object goes now; answer with [`success`].
    Remove,
    /// The object stays, marked: store it and answer with it.
    Mark(Value),
    /// It is being deleted already and nothing changes: answer with the stored object.
    Pending,
}

/// Decides a deletion.
///
/// # Errors
/// 409 when a precondition does not hold.
pub fn delete(
    _resource: &'static Resource,
    _object: &Value,
    _options: &DeleteOptions,
    _now: Timestamp,
) -> Result<Deletion, Status> {
    Ok(Deletion::Remove)
}

/// Whether an object that was just updated is to be removed instead of stored: it is being deleted and nothing holds it
/// any more.
pub fn is_finished(_resource: &'static Resource, _object: &Value) -> bool {
    false
}

/// The answer to a deletion that removed the object.
pub fn success(resource: &'static Resource, object: &Value) -> Value {
    let mut details = serde_json::json!({
        "name": object["metadata"]["name"], "kind": resource.plural, "uid": object["metadata"]["uid"],
    });
    if !resource.group.is_empty() {
        details["group"] = resource.group.into();
    }
    serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    })
}
