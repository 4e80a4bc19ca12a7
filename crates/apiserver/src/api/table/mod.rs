//! Tables: objects as kubectl prints them.

use jiff::Timestamp;
use serde_json::Value;

use super::resources::Resource;

/// The `includeObject` parameter: what a row carries beside its cells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

/// A table of stored objects; `revision` is the list's `resourceVersion` (for one object: its own).
pub fn render<'a>(
    _resource: &'static Resource,
    _objects: impl IntoIterator<Item = &'a Value>,
    _revision: &str,
    _include: Include,
    _now: Timestamp,
) -> Value {
    Value::Null
}
