//! Patches: JSON patch, merge patch, strategic merge patch, apply.

use serde_json::Value;

use super::resources::Resource;
use crate::status::Status;

/// How a patch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902: `application/json-patch+json`
    Json,
    /// RFC 7386: `application/merge-patch+json`
    Merge,
    /// Lists of objects are merged by key: `application/strategic-merge-patch+json`
    Strategic,
    /// Server-side apply: `application/apply-patch+yaml`
    Apply,
}

impl PatchType {
    /// By the request's content type.
    ///
    /// # Errors
    /// 415 for any other media type.
    pub fn parse(_content_type: Option<&str>) -> Result<Self, Status> {
        Ok(Self::Merge)
    }
}

/// Parameters of a patch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// `force=true`: take fields over.
    pub force: bool,
    /// `fieldManager=…`.
    pub field_manager: &'a str,
}

/// A patched object.
#[derive(Debug, Clone, PartialEq)]
pub struct Patched {
    /// The whole object, in the stored version; continue as with an update (or a creation).
    pub object: Value,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
    /// Fields that stood in the patch twice or that its type does not have are reported by `fields::check` on `object`.
    pub duplicates: Vec<String>,
}

/// Applies a patch to the stored object; only [`PatchType::Apply`] can do without one, and then creates.
///
/// # Errors
/// 400 for a patch that cannot be read, 404 when there is no object, 409 for a conflict of apply, 422 when it does not
/// fit the object.
pub fn apply(
    _resource: &'static Resource,
    _patch_type: PatchType,
    current: Option<&Value>,
    _patch: &[u8],
    _options: Options<'_>,
) -> Result<Patched, Status> {
    Ok(Patched {
        object: current.cloned().unwrap_or(Value::Null),
        warnings: Vec::new(),
        duplicates: Vec::new(),
    })
}
