//! What may not change once it is there.

use serde_json::{Map, Value};

use super::errors::Errors;
use crate::{
    api::resources::Resource,
    auth::fields::{items, text},
};

const POD_TEXT: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` \
    (allow it to be set to 1 if it was previously negative)";

pub(super) fn check(resource: &Resource, old: &Value, new: &Value, errors: &mut Errors) {
    match resource.storage {
        ("", "configmaps") => sealed(old, new, &["data", "binaryData"], errors),
        ("", "secrets") => {
            errors.immutable("type", old, new);
            sealed(old, new, &["data"], errors);
        }
        ("", "nodes") => node(old, new, errors),
        ("", "pods") => pod(old, new, errors),
        ("", "services") => service(old, new, errors),
        ("apps", "controllerrevisions") => errors.immutable("data", old, new),
        ("apps", _) => errors.immutable("spec.selector", old, new),
        ("discovery.k8s.io", _) => errors.immutable("addressType", old, new),
        ("node.k8s.io", _) => errors.immutable("handler", old, new),
        ("rbac.authorization.k8s.io", _) if old.get("roleRef") != new.get("roleRef") => {
            errors.invalid("roleRef", &new["roleRef"], "cannot change roleRef");
        }
        ("scheduling.k8s.io", _) => {
            if old.get("value") != new.get("value") {
                errors.forbidden("value", "may not be changed in an update.");
            }
            errors.immutable("preemptionPolicy", old, new);
        }
        _ => {}
    }
}

/// What has been marked immutable stays so, with its data.
fn sealed(old: &Value, new: &Value, data: &[&str], errors: &mut Errors) {
    if old["immutable"] != true {
        return;
    }
    if new["immutable"] != true {
        errors.forbidden("immutable", "field is immutable when `immutable` is set");
    }
    for field in data {
        if old.get(field) != new.get(field) {
            errors.forbidden(*field, "field is immutable when `immutable` is set");
        }
    }
}

/// An address range is given to a node once; routes and leases hang on it.
fn node(old: &Value, new: &Value, errors: &mut Errors) {
    for field in ["podCIDR", "podCIDRs", "providerID"] {
        let (was, is) = (old["spec"].get(field), new["spec"].get(field));
        if was.is_some_and(|was| *was != "") && was != is {
            let why = format!("node updates may not change {field} except from \"\" to valid");
            errors.forbidden(format!("spec.{field}"), &why);
        }
    }
}

fn pod(old: &Value, new: &Value, errors: &mut Errors) {
    let (Some(was), Some(is)) = (old["spec"].as_object(), new["spec"].as_object()) else {
        return;
    };
    deadline(was, is, errors);
    let missing = items(old, "/spec/tolerations").iter().any(|toleration| {
        !items(new, "/spec/tolerations")
            .iter()
            .any(|t| same_toleration(t, toleration))
    });
    if missing || fixed(was) != fixed(is) {
        errors.forbidden("spec", POD_TEXT);
    }
}

/// The seconds of a toleration may change, the rest may not.
fn same_toleration(a: &Value, b: &Value) -> bool {
    ["key", "operator", "value", "effect"]
        .iter()
        .all(|key| a.get(key) == b.get(key))
}

fn deadline(was: &Map<String, Value>, is: &Map<String, Value>, errors: &mut Errors) {
    let field = "activeDeadlineSeconds";
    let (was, is) = (was.get(field), is.get(field));
    let longer = match (was.and_then(Value::as_i64), is.and_then(Value::as_i64)) {
        (Some(_), None) => true,
        (Some(was), Some(is)) => is > was,
        (None, _) => false,
    };
    if longer {
        let why = "must be less than or equal to previous value";
        let is = is.cloned().unwrap_or(Value::Null);
        errors.invalid(format!("spec.{field}"), &is, why);
    }
}

/// A pod's spec without what may change.
fn fixed(spec: &Map<String, Value>) -> Value {
    let mut spec = spec.clone();
    for key in ["activeDeadlineSeconds", "tolerations"] {
        spec.remove(key);
    }
    let negative = |v: &Value| v.as_i64().is_some_and(|s| s < 0);
    if spec
        .get("terminationGracePeriodSeconds")
        .is_some_and(negative)
    {
        spec.insert("terminationGracePeriodSeconds".to_owned(), 1.into());
    }
    for list in ["containers", "initContainers"] {
        for container in crate::api::json::each(&mut spec, list) {
            container.remove("image");
        }
    }
    Value::Object(spec)
}

fn service(old: &Value, new: &Value, errors: &mut Errors) {
    let external = |service: &Value| text(service, "/spec/type") == "ExternalName";
    let was = text(old, "/spec/clusterIP");
    if external(old) || external(new) || was.is_empty() || was == text(new, "/spec/clusterIP") {
        return;
    }
    let why = "may not change once set";
    errors.invalid("spec.clusterIPs[0]", &new["spec"]["clusterIP"], why);
}
