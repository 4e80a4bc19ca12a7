//! Metadata.

use serde_json::Value;

use super::{errors::Errors, names};
use crate::{
    api::resources::Resource,
    auth::fields::{items, strings, text},
};

/// Bytes of all keys and values of an object's annotations.
const MAX_ANNOTATIONS: usize = 256 * 1024;

pub(super) fn check(resource: &Resource, object: &Value, errors: &mut Errors) {
    let name = text(object, "/metadata/name");
    let whys = match resource.storage {
        ("", "namespaces") => names::dns_label(name),
        ("", "services") => names::dns_1035_label(name),
        ("rbac.authorization.k8s.io", _) => names::path_segment(name),
        _ => names::dns_subdomain(name),
    };
    errors.texts("metadata.name", name, whys);
    labels("metadata.labels", &object["metadata"]["labels"], errors);
    annotations(
        "metadata.annotations",
        &object["metadata"]["annotations"],
        errors,
    );
    for finalizer in strings(object, "/metadata/finalizers") {
        let whys = names::qualified_name(finalizer);
        errors.texts("metadata.finalizers", finalizer, whys);
    }
    owners(object, errors);
}

/// A map of labels, here or in a template.
pub(super) fn labels(field: &str, labels: &Value, errors: &mut Errors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or("");
        errors.texts(field, key, names::qualified_name(key));
        errors.texts(field, value, names::label_value(value));
    }
}

fn annotations(field: &str, annotations: &Value, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        size += key.len() + value.as_str().unwrap_or("").len();
        let whys = names::qualified_name(&key.to_lowercase());
        errors.texts(field, key, whys);
    }
    if size > MAX_ANNOTATIONS {
        errors.push(crate::api::errors::FieldError::too_long(
            field,
            MAX_ANNOTATIONS,
        ));
    }
}

fn owners(object: &Value, errors: &mut Errors) {
    let mut controllers = 0;
    for (index, owner) in items(object, "/metadata/ownerReferences")
        .iter()
        .enumerate()
    {
        let field = format!("metadata.ownerReferences[{index}]");
        for key in ["apiVersion", "kind", "name", "uid"] {
            if text(owner, &format!("/{key}")).is_empty() {
                errors.invalid(format!("{field}.{key}"), &"".into(), "must not be empty");
            }
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        let owners = &object["metadata"]["ownerReferences"];
        let why = "Only one reference can have Controller set to true";
        errors.invalid("metadata.ownerReferences", owners, why);
    }
}

/// An object that is being deleted can lose finalizers only.
pub(super) fn check_change(old: &Value, new: &Value, errors: &mut Errors) {
    if text(old, "/metadata/deletionTimestamp").is_empty() {
        return;
    }
    let had: Vec<_> = strings(old, "/metadata/finalizers").collect();
    let added: Vec<_> = strings(new, "/metadata/finalizers")
        .filter(|f| !had.contains(f))
        .collect();
    if !added.is_empty() {
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
        );
        errors.forbidden("metadata.finalizers", &why);
    }
}
