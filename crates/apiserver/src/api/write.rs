//! What a write does to an object between the request's body and the store.
//!
//! The server calls these around admission; see [`super`] for the order.

use serde_json::Value;

use super::{
    convert, defaults, errors,
    json::strip_nulls,
    meta::{self, Fresh},
    resources::{Resource, Subresource},
    validate,
};
use crate::{auth::fields::text, status::Status};

/// What a write is aimed at, as the URL says it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The resource in the version of the URL.
    pub resource: &'static Resource,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty for cluster scope.
    pub namespace: &'a str,
    /// Empty for a POST to the collection.
    pub name: &'a str,
}

impl Target<'_> {
    /// The part of the resource that is addressed, if any.
    pub fn part(&self) -> Option<&'static Subresource> {
        self.resource.subresource(self.subresource)
    }

    /// `(apiVersion, kind)` a body has here.
    fn expected(&self) -> (String, &'static str) {
        match self.part() {
            None => (self.resource.api_version(), self.resource.kind),
            Some(part) => {
                let version = match part.group_version {
                    None => self.resource.api_version(),
                    Some(("", version)) => version.to_owned(),
                    Some((group, version)) => format!("{group}/{version}"),
                };
                (version, part.kind)
            }
        }
    }
}

/// Takes a body in; [`super::fields::check`] comes next. Checks its type, fills in `apiVersion` and `kind`, checks name and namespace against the URL, and
/// brings it to the stored version.
///
/// # Errors
/// 400 when the body is no object, of another type, or for another namespace or name than the URL's.
pub fn accept(target: &Target<'_>, mut body: Value) -> Result<Value, Status> {
    let (api_version, kind) = target.expected();
    let Some(object) = body.as_object_mut() else {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): the body must be an object"
        )));
    };
    check_type(object, &api_version, kind)?;
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    strip_nulls(&mut body);
    meta::address(target, &mut body)?;
    if target
        .part()
        .is_none_or(|part| part.group_version.is_none())
    {
        convert::to_stored(target.resource, &mut body);
    }
    Ok(body)
}

fn check_type(
    object: &serde_json::Map<String, Value>,
    api_version: &str,
    kind: &str,
) -> Result<(), Status> {
    let given = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or("");
    if !["", kind].contains(&given("kind")) {
        return Err(Status::bad_request(format!(
            "the kind in the data ({}) does not match the expected kind ({kind})",
            given("kind")
        )));
    }
    // Evictions exist in an older version too, with the same fields.
    let beta_eviction = kind == "Eviction" && given("apiVersion") == "policy/v1beta1";
    if !["", api_version].contains(&given("apiVersion")) && !beta_eviction {
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({api_version})",
            given("apiVersion")
        )));
    }
    Ok(())
}

/// Prepares a new object for admission: name, uid, times, defaults; drops what only the server writes.
///
/// # Errors
/// 422 when it has no name and asks for none to be made.
pub fn prepare_create(
    target: &Target<'_>,
    object: &mut Value,
    fresh: &Fresh,
) -> Result<(), Status> {
    meta::create(target, object, fresh)?;
    defaults::create(target.resource, object);
    Ok(())
}

/// Judges a new object after admission; afterwards it is ready to be stored.
///
/// # Errors
/// 422 with everything that is wrong.
pub fn finish_create(target: &Target<'_>, object: &mut Value) -> Result<(), Status> {
    check(target, object, &validate::create(target.resource, object))
}

/// Prepares a changed object for admission: what the request may not touch is taken from `old`, defaults are filled in.
///
/// # Errors
/// 409 when `resourceVersion` or `uid` in the body are not those of `old`; 422 when a needed `resourceVersion` is
/// missing or immutable metadata changed.
pub fn prepare_update(target: &Target<'_>, old: &Value, new: &mut Value) -> Result<(), Status> {
    meta::same_object(target, new)?;
    meta::preconditions(target, old, new)?;
    meta::update(target, old, new);
    defaults::update(target.resource, new);
    Ok(())
}

/// Judges a changed object after admission and counts its generation; afterwards it is ready to be stored.
///
/// # Errors
/// 422 with everything that is wrong.
pub fn finish_update(target: &Target<'_>, old: &Value, new: &mut Value) -> Result<(), Status> {
    check(target, new, &validate::update(target, old, new))?;
    meta::count_generation(target, old, new);
    Ok(())
}

/// Whether storing `new` would change nothing, so that it need not be stored and no watcher hears of it.
pub fn is_unchanged(old: &Value, new: &Value) -> bool {
    old == new
}

fn check(target: &Target<'_>, object: &Value, found: &[errors::FieldError]) -> Result<(), Status> {
    let r = target.resource;
    errors::check(r.group, r.kind, text(object, "/metadata/name"), found)
}
