//! Role based access control, evaluated on the stored objects at every request.
//!
//! Bindings whose subject is the user give their role's rules: ClusterRoleBindings everywhere, RoleBindings in their
//! namespace. A ClusterRole with an `aggregationRule` has no rules of its own: its rules are those of the ClusterRoles
//! its label selectors match, worked out here at each use (Kubernetes' controller writes them into the object instead).

use std::sync::Arc;

use serde_json::Value;

use super::{
    fields::{holds, items, strings, text},
    impersonate::service_account,
};
use crate::attributes::{Attributes, Objects, UserInfo};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Whether some role bound to the user allows this.
pub fn allows(user: &UserInfo, attributes: &Attributes, objects: &dyn Objects) -> bool {
    let mut allowed = false;
    visit_rules(user, &attributes.namespace, objects, &mut |rule| {
        allowed = rule_allows(rule, attributes);
        !allowed
    });
    allowed
}

/// Every rule that applies to the user in a namespace (empty: those that apply everywhere).
pub fn rules_for(user: &UserInfo, namespace: &str, objects: &dyn Objects) -> Vec<Value> {
    let mut rules = Vec::new();
    visit_rules(user, namespace, objects, &mut |rule| {
        rules.push(rule.clone());
        true
    });
    rules
}

/// Calls `visit` with each rule that applies, until it returns false.
fn visit_rules(
    user: &UserInfo,
    namespace: &str,
    objects: &dyn Objects,
    visit: &mut dyn FnMut(&Value) -> bool,
) {
    let mut bindings = objects.list(GROUP, "clusterrolebindings", "");
    if !namespace.is_empty() {
        bindings.extend(objects.list(GROUP, "rolebindings", namespace));
    }
    for binding in bindings {
        let namespace = text(&binding, "/metadata/namespace");
        let bound = items(&binding, "/subjects")
            .iter()
            .any(|subject| is_subject(user, subject, namespace));
        if !bound {
            continue;
        }
        for role in referenced(&binding, namespace, objects) {
            if !items(&role, "/rules").iter().all(&mut *visit) {
                return;
            }
        }
    }
}

fn is_subject(user: &UserInfo, subject: &Value, binding_namespace: &str) -> bool {
    let name = text(subject, "/name");
    match text(subject, "/kind") {
        "User" => user.name == name,
        "Group" => user.groups.iter().any(|group| group == name),
        "ServiceAccount" => {
            let namespace = match text(subject, "/namespace") {
                "" => binding_namespace,
                namespace => namespace,
            };
            service_account(&user.name) == Some((namespace, name))
        }
        _ => false,
    }
}

/// The roles whose rules a binding gives; more than one for an aggregated ClusterRole.
fn referenced(binding: &Value, namespace: &str, objects: &dyn Objects) -> Vec<Arc<Value>> {
    let name = text(binding, "/roleRef/name");
    let role = match text(binding, "/roleRef/kind") {
        "ClusterRole" => objects.get(GROUP, "clusterroles", "", name),
        "Role" if !namespace.is_empty() => objects.get(GROUP, "roles", namespace, name),
        _ => None,
    };
    role.map(|role| expand(role, objects)).unwrap_or_default()
}

/// The rules a RoleRef stands for, as the escalation check needs them; none if the role does not exist.
pub(crate) fn rules_of_binding(binding: &Value, objects: &dyn Objects) -> Vec<Value> {
    let namespace = text(binding, "/metadata/namespace");
    let roles = referenced(binding, namespace, objects);
    roles
        .iter()
        .flat_map(|role| items(role, "/rules").to_vec())
        .collect()
}

/// Whether the role a binding refers to exists.
pub(crate) fn role_exists(binding: &Value, objects: &dyn Objects) -> bool {
    let namespace = text(binding, "/metadata/namespace");
    let name = text(binding, "/roleRef/name");
    match text(binding, "/roleRef/kind") {
        "ClusterRole" => objects.get(GROUP, "clusterroles", "", name).is_some(),
        _ => objects.get(GROUP, "roles", namespace, name).is_some(),
    }
}

/// A role itself, or for an aggregated one every ClusterRole it takes in, however deep.
fn expand(role: Arc<Value>, objects: &dyn Objects) -> Vec<Arc<Value>> {
    if role.get("aggregationRule").is_none_or(Value::is_null) {
        return vec![role];
    }
    let all = objects.list(GROUP, "clusterroles", "");
    let mut seen = vec![text(&role, "/metadata/name").to_owned()];
    let mut pending = vec![role];
    let mut found = Vec::new();
    while let Some(role) = pending.pop() {
        if role.get("aggregationRule").is_none_or(Value::is_null) {
            found.push(role);
            continue;
        }
        for selector in items(&role, "/aggregationRule/clusterRoleSelectors") {
            for candidate in &all {
                let name = text(candidate, "/metadata/name");
                if !seen.iter().any(|known| known == name) && selects(selector, candidate) {
                    seen.push(name.to_owned());
                    pending.push(candidate.clone());
                }
            }
        }
    }
    found
}

/// Whether a label selector matches an object. An unknown operator matches nothing.
fn selects(selector: &Value, object: &Value) -> bool {
    let label = |key: &str| object.pointer("/metadata/labels")?.get(key)?.as_str();
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let equal = labels.into_iter().flatten().all(|(key, value)| {
        value
            .as_str()
            .is_some_and(|value| label(key) == Some(value))
    });
    equal
        && items(selector, "/matchExpressions")
            .iter()
            .all(|expression| {
                let value = label(text(expression, "/key"));
                let listed = value.is_some_and(|value| holds(expression, "/values", value));
                match text(expression, "/operator") {
                    "In" => listed,
                    "NotIn" => !listed,
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    _ => false,
                }
            })
}

/// Whether one policy rule allows this.
pub(crate) fn rule_allows(rule: &Value, a: &Attributes) -> bool {
    let verb = strings(rule, "/verbs").any(|verb| verb == "*" || verb == a.verb);
    if a.resource.is_empty() {
        return verb && strings(rule, "/nonResourceURLs").any(|url| url_matches(url, &a.path));
    }
    verb && strings(rule, "/apiGroups").any(|group| group == "*" || group == a.group)
        && strings(rule, "/resources").any(|r| resource_matches(r, &a.resource, &a.subresource))
        && (items(rule, "/resourceNames").is_empty()
            || (!a.name.is_empty() && holds(rule, "/resourceNames", &a.name)))
}

/// `*` is every resource and subresource; `*/scale` that subresource of every resource.
fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    match rule.split_once('/') {
        _ if rule == "*" => true,
        None => rule == resource && subresource.is_empty(),
        Some((of, sub)) => (of == "*" || of == resource) && !sub.is_empty() && sub == subresource,
    }
}

pub(crate) fn url_matches(rule: &str, path: &str) -> bool {
    match rule.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => rule == path,
    }
}
