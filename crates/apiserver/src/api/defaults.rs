//! Defaults: what Kubernetes fills in when a client leaves it out.

use jiff::Timestamp;
use serde_json::Value;

use super::resources::Resource;

/// Fills in a new object.
pub fn create(_resource: &'static Resource, _object: &mut Value, _now: Timestamp) {}

/// Fills in a changed object.
pub fn update(_resource: &'static Resource, _object: &mut Value, _now: Timestamp) {}
