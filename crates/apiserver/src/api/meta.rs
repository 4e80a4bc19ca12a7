//! Object metadata: what the server writes itself and what never changes.

use jiff::Timestamp;
use rand::RngExt;
use serde_json::{Map, Value};

use super::{
    errors::{self, FieldError},
    json::{as_object, child, copy},
    write::Target,
};
use crate::{auth::fields::text, status::Status};

/// Letters of generated names: no vowels, so that no words appear, and nothing that looks like something else.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// A generated name, suffix included, is a DNS label.
const MAX_GENERATED: usize = 63;

/// Metadata that a client's text never decides: dropped from new objects, kept as stored in changed ones.
const SERVER_OWNED: [&str; 7] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
    "managedFields",
];

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
        let mut rng = rand::rng();
        let mut letter = || char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]);
        Self {
            now,
            uid: uuid::Uuid::new_v4().to_string(),
            suffix: (0..SUFFIX_LENGTH).map(|_| letter()).collect(),
        }
    }
}

/// Checks the body's name and namespace against the URL's and fills them in.
///
/// # Errors
/// 400 when they differ.
pub fn address(target: &Target<'_>, object: &mut Value) -> Result<(), Status> {
    if object
        .get("metadata")
        .is_some_and(|m| !m.is_object() && !m.is_null())
    {
        return Err(Status::bad_request("metadata must be an object"));
    }
    namespace(target, child(object, "metadata"))?;
    let name = text(object, "/metadata/name");
    if target.name.is_empty() || name == target.name {
        return Ok(());
    }
    let foreign = target
        .part()
        .is_some_and(|part| part.kind != target.resource.kind);
    match (name, foreign) {
        ("", true) => {
            child(object, "metadata").insert("name".to_owned(), target.name.into());
            Ok(())
        }
        ("", false) => Err(Status::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            target.name
        ))),
        (name, _) => Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        ))),
    }
}

fn namespace(target: &Target<'_>, metadata: &mut Map<String, Value>) -> Result<(), Status> {
    let given = metadata
        .get("namespace")
        .and_then(Value::as_str)
        .unwrap_or("");
    if given == target.namespace && !given.is_empty() {
        return Ok(());
    }
    if target.namespace.is_empty() {
        metadata.remove("namespace");
        return Ok(());
    }
    if !given.is_empty() {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    metadata.insert("namespace".to_owned(), target.namespace.into());
    Ok(())
}

/// Metadata of a new object.
///
/// # Errors
/// 400 when it claims a `resourceVersion`, 422 when there is neither a name nor `generateName`.
pub fn create(target: &Target<'_>, object: &mut Value, fresh: &Fresh) -> Result<(), Status> {
    let resource = target.resource;
    let metadata = child(object, "metadata");
    tidy(metadata);
    for field in SERVER_OWNED {
        metadata.remove(field);
    }
    let field = |metadata: &Map<String, Value>, key: &str| {
        let value = metadata.get(key).and_then(Value::as_str);
        value.unwrap_or("").to_owned()
    };
    if !field(metadata, "resourceVersion").is_empty() {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    metadata.remove("resourceVersion");
    let (name, base) = (field(metadata, "name"), field(metadata, "generateName"));
    if name.is_empty() && base.is_empty() {
        let why = "name or generateName is required";
        let error = [FieldError::required("metadata.name", why)];
        return Err(errors::invalid(resource.group, resource.kind, "", &error));
    }
    if name.is_empty() {
        let end = base
            .char_indices()
            .map(|(at, letter)| at + letter.len_utf8())
            .take_while(|end| *end <= MAX_GENERATED - SUFFIX_LENGTH)
            .last();
        let name = format!("{}{}", &base[..end.unwrap_or(0)], fresh.suffix);
        metadata.insert("name".to_owned(), name.into());
    }
    metadata.insert("uid".to_owned(), fresh.uid.as_str().into());
    let created = format!("{:.0}", fresh.now);
    metadata.insert("creationTimestamp".to_owned(), created.into());
    if resource.has_generation {
        metadata.insert("generation".to_owned(), 1.into());
    }
    // A node tells its state when it registers; everything else begins with the state its controller gives it.
    if resource.has_status() && resource.kind != "Node" {
        as_object(object).remove("status");
    }
    Ok(())
}

/// A patch can change the name in the object; an object cannot.
///
/// # Errors
/// 400 when name or namespace are not those of the URL.
pub fn same_object(target: &Target<'_>, new: &Value) -> Result<(), Status> {
    let name = text(new, "/metadata/name");
    if name != target.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    let namespace = text(new, "/metadata/namespace");
    if namespace != target.namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the URL ({})",
            target.namespace
        )));
    }
    Ok(())
}

/// Compares `resourceVersion` and `uid` in the new object, where given, with the stored object's.
///
/// # Errors
/// 409 when they differ; 422 when a `resourceVersion` is needed and missing.
pub fn preconditions(target: &Target<'_>, old: &Value, new: &Value) -> Result<(), Status> {
    let resource = target.resource;
    let name = text(old, "/metadata/name");
    let (uid, stored_uid) = (text(new, "/metadata/uid"), text(old, "/metadata/uid"));
    if !uid.is_empty() && uid != stored_uid {
        return Err(uid_conflict(target.resource, name, uid, stored_uid));
    }
    match text(new, "/metadata/resourceVersion") {
        "" if resource.unconditional_update => Ok(()),
        "" => {
            let why = "must be specified for an update";
            let error = FieldError::invalid("metadata.resourceVersion", &0.into(), why);
            Err(errors::invalid(
                resource.group,
                resource.kind,
                name,
                &[error],
            ))
        }
        version if version == text(old, "/metadata/resourceVersion") => Ok(()),
        _ => Err(errors::modified(resource, name)),
    }
}

/// 409: the object of this name is another one than the client means.
pub(super) fn uid_conflict(
    resource: &super::resources::Resource,
    name: &str,
    asked: &str,
    stored: &str,
) -> Status {
    let why =
        format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {stored}");
    errors::conflict(resource, name, &why)
}

/// Takes over what an update cannot touch: server-owned metadata; the status, or everything but the status.
pub fn update(target: &Target<'_>, old: &Value, new: &mut Value) {
    let metadata = child(new, "metadata");
    tidy(metadata);
    for field in SERVER_OWNED {
        copy(&old["metadata"], metadata, field);
    }
    copy(&old["metadata"], metadata, "resourceVersion");
    match target.subresource {
        // These are about the state only; labels and annotations may come along.
        "status" | "approval" => {
            copy(&old["metadata"], metadata, "ownerReferences");
            keep_all_but_status(old, new);
        }
        "finalize" => copy(old, as_object(new), "status"),
        _ if target.resource.has_status() => copy(old, as_object(new), "status"),
        _ => {}
    }
    // The finalizers that guard a namespace's content have a subresource of their own.
    if target.resource.kind == "Namespace" && target.subresource != "finalize" {
        copy(old, as_object(new), "spec");
    }
}

/// Empty is absent, and shown as that.
fn tidy(metadata: &mut Map<String, Value>) {
    for field in ["annotations", "finalizers", "labels", "ownerReferences"] {
        let empty = match metadata.get(field) {
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            _ => false,
        };
        if empty {
            metadata.remove(field);
        }
    }
}

fn keep_all_but_status(old: &Value, new: &mut Value) {
    let new = as_object(new);
    new.retain(|key, _| key == "metadata" || key == "status");
    for (key, value) in old.as_object().into_iter().flatten() {
        if key != "metadata" && key != "status" {
            new.insert(key.clone(), value.clone());
        }
    }
}

/// Counts `metadata.generation` up when anything but metadata and status changed.
pub fn count_generation(target: &Target<'_>, old: &Value, new: &mut Value) {
    if !target.resource.has_generation || !differs(old, new) {
        return;
    }
    let generation = generation(old) + 1;
    child(new, "metadata").insert("generation".to_owned(), generation.into());
}

pub(super) fn generation(object: &Value) -> i64 {
    let generation = object.pointer("/metadata/generation");
    generation.and_then(Value::as_i64).unwrap_or(0)
}

fn differs(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return true;
    };
    let counts = |key: &&String| *key != "metadata" && *key != "status";
    let keys = old.keys().chain(new.keys()).filter(counts);
    keys.into_iter().any(|key| old.get(key) != new.get(key))
}

#[cfg(test)]
mod tests;
