//! Field selectors.

use serde_json::Value;

use crate::{api::resources::Resource, status::Status};

/// A field selector: all its requirements must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {}

impl Fields {
    /// Reads a `fieldSelector` parameter; empty selects everything.
    ///
    /// # Errors
    /// 400 for a text that cannot be read or a field that the resource cannot be selected by.
    pub fn parse(_resource: &'static Resource, _text: &str) -> Result<Self, Status> {
        Ok(Self::default())
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        true
    }

    /// The name that `metadata.name=…` pins; authorization counts it as the request's name.
    pub fn pinned_name(&self) -> Option<&str> {
        None
    }

    /// The namespace that `metadata.namespace=…` pins.
    pub fn pinned_namespace(&self) -> Option<&str> {
        None
    }

    /// Whether a stored object fits.
    pub fn matches(&self, _object: &Value) -> bool {
        true
    }
}
