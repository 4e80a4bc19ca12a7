//! Patches: JSON patch, merge patch, strategic merge patch, apply.

mod apply;
mod keys;
mod strategic;

use serde_json::{Value, json};

use super::{convert, errors, negotiate::Body, resources::Resource};
use crate::{auth::fields::text, status::Status};

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
    pub fn parse(content_type: Option<&str>) -> Result<Self, Status> {
        let media_type = content_type.unwrap_or("").split(';').next().unwrap_or("");
        match media_type.trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(errors::unsupported_body(
                "application/json-patch+json, application/merge-patch+json, \
                 application/strategic-merge-patch+json, application/apply-patch+yaml",
            )),
        }
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
    /// The whole object, in the stored version; continue with `fields::check`, then as with an update (or a creation).
    pub object: Value,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
    /// Fields that stood in the patch twice, for `fields::check`.
    pub duplicates: Vec<String>,
}

/// Applies a patch to the stored object; only [`PatchType::Apply`] can do without one, and then creates.
///
/// # Errors
/// 400 for a patch that cannot be read, 404 when there is no object, 409 for a conflict of apply, 422 when it does not
/// fit the object.
pub fn apply(
    resource: &'static Resource,
    patch_type: PatchType,
    current: Option<&Value>,
    patch: &[u8],
    options: Options<'_>,
) -> Result<Patched, Status> {
    if patch_type == PatchType::Apply {
        return apply::apply(resource, current, patch, options);
    }
    let current = current.ok_or_else(|| errors::not_found(resource, ""))?;
    // A patch speaks the version of its URL, not the stored one.
    let mut shown = convert::from_stored(resource, current).into_owned();
    let duplicates = merge(patch_type, &mut shown, patch)?;
    same_type(resource, &shown)?;
    convert::to_stored(resource, &mut shown);
    super::json::strip_nulls(&mut shown);
    Ok(Patched {
        object: shown,
        warnings: Vec::new(),
        duplicates,
    })
}

/// Applies a patch to any document, such as a `Scale`; returns the fields that stood in the patch twice.
///
/// # Errors
/// 400 for a patch that cannot be read, 422 when it does not fit the document.
pub fn merge(
    patch_type: PatchType,
    document: &mut Value,
    patch: &[u8],
) -> Result<Vec<String>, Status> {
    let body =
        Body::json(patch).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    match patch_type {
        PatchType::Json => json_patch(document, body.value)?,
        PatchType::Merge => {
            require_object(&body.value)?;
            json_patch::merge(document, &body.value);
        }
        PatchType::Strategic | PatchType::Apply => {
            require_object(&body.value)?;
            strategic::merge(document, body.value)?;
        }
    }
    Ok(body.duplicates)
}

fn require_object(patch: &Value) -> Result<(), Status> {
    if patch.is_object() {
        return Ok(());
    }
    Err(Status::bad_request("the patch must be a JSON object"))
}

fn json_patch(object: &mut Value, patch: Value) -> Result<(), Status> {
    let patch: json_patch::Patch = serde_json::from_value(patch)
        .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    json_patch::patch(object, &patch).map_err(|e| unfit(&e.to_string()))
}

/// 422 in the shape that clients know from failed `test` operations.
fn unfit(why: &str) -> Status {
    Status {
        details: json!({"causes": [{"reason": "UnexpectedServerResponse", "message": why}]}),
        ..Status::new(
            422,
            "Invalid",
            format!("the server rejected our request due to an error in our request: {why}"),
        )
    }
}

fn same_type(resource: &Resource, object: &Value) -> Result<(), Status> {
    let (api_version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
    if api_version == resource.api_version() && kind == resource.kind {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "the patch makes the object a {api_version} {kind}, but it must stay a {} {}",
        resource.api_version(),
        resource.kind
    )))
}

#[cfg(test)]
mod tests;
