//! Roles and bindings.

use serde_json::Value;

use super::{errors::Errors, names};
use crate::{
    api::{errors::FieldError, resources::Resource},
    auth::fields::{items, text},
};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn role(resource: &Resource, role: &Value, errors: &mut Errors) {
    for (index, rule) in items(role, "/rules").iter().enumerate() {
        let field = format!("rules[{index}]");
        let required = |errors: &mut Errors, key: &str, why: &str| {
            errors.push(FieldError::required(format!("{field}.{key}"), why));
        };
        if items(rule, "/verbs").is_empty() {
            required(errors, "verbs", "verbs must contain at least one value");
        }
        let has = |key: &str| !items(rule, key).is_empty();
        if has("/nonResourceURLs") {
            if resource.namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                let urls = &rule["nonResourceURLs"];
                errors.invalid(format!("{field}.nonResourceURLs"), urls, why);
            }
            if has("/apiGroups") || has("/resources") || has("/resourceNames") {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                let urls = &rule["nonResourceURLs"];
                errors.invalid(format!("{field}.nonResourceURLs"), urls, why);
            }
            continue;
        }
        if !has("/apiGroups") {
            let why = "resource rules must supply at least one api group";
            required(errors, "apiGroups", why);
        }
        if !has("/resources") {
            let why = "resource rules must supply at least one resource";
            required(errors, "resources", why);
        }
    }
}

pub(super) fn binding(resource: &Resource, binding: &Value, errors: &mut Errors) {
    let role = &binding["roleRef"];
    errors.one_of("roleRef", role, "apiGroup", &[GROUP]);
    let kinds: &[&str] = match resource.namespaced {
        true => &["Role", "ClusterRole"],
        false => &["ClusterRole"],
    };
    let kind = text(role, "/kind");
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported(
            "roleRef.kind",
            &kind.into(),
            kinds,
        ));
    }
    errors.name("roleRef", role, "name", names::path_segment);
    for (index, subject) in items(binding, "/subjects").iter().enumerate() {
        let field = format!("subjects[{index}]");
        if text(subject, "/name").is_empty() {
            errors.required(format!("{field}.name"));
        }
        match text(subject, "/kind") {
            "ServiceAccount" => {
                errors.one_of(&field, subject, "apiGroup", &[""]);
                if text(subject, "/namespace").is_empty() && !resource.namespaced {
                    errors.required(format!("{field}.namespace"));
                }
            }
            "User" | "Group" => errors.one_of(&field, subject, "apiGroup", &[GROUP]),
            other => {
                let kinds = ["Group", "ServiceAccount", "User"];
                let field = format!("{field}.kind");
                errors.push(FieldError::not_supported(field, &other.into(), &kinds));
            }
        }
    }
}
