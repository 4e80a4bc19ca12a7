//! Server-side apply, as far as this server can be honest about it.
//!
//! Real apply remembers which manager set which field. This server keeps no such record (`managedFields`), so it cannot
//! remove a field that a manager stopped applying, and it cannot know whose a field is. Therefore: an apply that creates
//! the object, or changes nothing that is already set, is done; one that would change a value somebody set is a
//! conflict unless `force=true`; and every apply is answered with a `Warning` that says what is missing.

use serde_json::{Value, json};

use super::{Options, Patched, same_type, strategic};
use crate::{
    api::{convert, errors, json::strip_nulls, negotiate::yaml, resources::Resource},
    status::Status,
};

const WARNING: &str = "server-side apply here merges fields and keeps no record of managers: \
    fields that are left out stay as they are";
/// Conflicts listed in one answer.
const MAX_CAUSES: usize = 16;

pub(super) fn apply(
    resource: &'static Resource,
    current: Option<&Value>,
    patch: &[u8],
    options: Options<'_>,
) -> Result<Patched, Status> {
    let mut wanted =
        yaml(patch).map_err(|why| Status::bad_request(format!("error decoding YAML: {why}")))?;
    if !wanted.is_object() {
        return Err(Status::bad_request(
            "the applied configuration must be an object",
        ));
    }
    if options.field_manager.is_empty() {
        return Err(errors::invalid(
            "meta.k8s.io",
            "PatchOptions",
            "",
            &[errors::FieldError::required(
                "fieldManager",
                "is required for apply patch",
            )],
        ));
    }
    same_type(resource, &wanted)?;
    let warnings = vec![WARNING.to_owned()];
    let done = |mut object: Value| {
        convert::to_stored(resource, &mut object);
        strip_nulls(&mut object);
        Ok(Patched {
            object,
            warnings,
            duplicates: Vec::new(),
        })
    };
    strip_nulls(&mut wanted);
    let Some(current) = current else {
        return done(wanted);
    };
    let shown = convert::from_stored(resource, current).into_owned();
    let mut merged = shown.clone();
    strategic::merge(&mut merged, wanted)?;
    if !options.force {
        let mut changed = Vec::new();
        changes(&shown, &merged, String::new(), &mut changed);
        if !changed.is_empty() {
            return Err(conflict(&changed));
        }
    }
    done(merged)
}

/// The paths whose set value `new` changes; what is only added is no change.
fn changes(old: &Value, new: &Value, path: String, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                let path = format!("{path}.{key}");
                match new.get(key) {
                    Some(new) => changes(value, new, path, found),
                    None => found.push(path),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() <= new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                changes(old, new, format!("{path}[{index}]"), found);
            }
        }
        (old, new) if old == new => {}
        _ => found.push(path),
    }
}

fn conflict(paths: &[String]) -> Status {
    let causes: Vec<_> = paths
        .iter()
        .take(MAX_CAUSES)
        .map(|path| {
            json!({"reason": "FieldManagerConflict", "message": "conflict with an unrecorded manager", "field": path})
        })
        .collect();
    let noun = if paths.len() == 1 {
        "conflict"
    } else {
        "conflicts"
    };
    Status {
        details: json!({"causes": causes}),
        ..Status::new(
            409,
            "Conflict",
            format!(
                "Apply failed with {} {noun}: this server records no field managers, and values are already set: {}",
                paths.len(),
                paths.join(", ")
            ),
        )
    }
}
