//! Nobody hands out rights they do not hold: the escalation check on roles and bindings.
//!
//! A rule is taken apart into single rights (verb, group, resource, name), and each must be covered by a rule of the
//! writer's own. `escalate` on the role, or `bind` for a binding, lifts the check, as do the superusers.

use serde_json::{Value, json};

use super::{Operation, Request};
use crate::{
    attributes::Attributes,
    auth::{
        SUPERUSERS, decide,
        fields::{holds, items, strings, text},
        rbac::{self, GROUP},
    },
    status::Status,
};

pub(super) fn admit(request: &Request<'_>, object: &Value) -> Result<(), Status> {
    let a = request.attributes;
    let superuser = request.user.groups.iter().any(|group| group == SUPERUSERS);
    if a.group != GROUP || request.operation() == Operation::Delete || superuser {
        return match a.group == GROUP && request.operation() == Operation::Update {
            true => same_role(request, object),
            false => Ok(()),
        };
    }
    match a.resource.as_str() {
        "roles" | "clusterroles" => role(request, object),
        "rolebindings" | "clusterrolebindings" => {
            same_role(request, object)?;
            binding(request, object)
        }
        _ => Ok(()),
    }
}

/// What a binding binds to is fixed when it is made.
fn same_role(request: &Request<'_>, object: &Value) -> Result<(), Status> {
    let Some(old) = request.old.filter(|old| old.get("roleRef").is_some()) else {
        return Ok(());
    };
    if old["roleRef"] == object["roleRef"] {
        return Ok(());
    }
    let kind = text(object, "/kind");
    let name = &request.attributes.name;
    Err(Status {
        details: json!({"name": name, "group": GROUP, "kind": kind}),
        ..Status::new(
            422,
            "Invalid",
            format!(
                "{kind}.{GROUP} \"{name}\" is invalid: roleRef: Invalid value: {}: cannot change roleRef",
                object["roleRef"]
            ),
        )
    })
}

fn role(request: &Request<'_>, role: &Value) -> Result<(), Status> {
    let granting = |role: &Value| {
        (
            role.get("rules").cloned(),
            role.get("aggregationRule").cloned(),
        )
    };
    if request
        .old
        .is_some_and(|old| granting(old) == granting(role))
    {
        return Ok(());
    }
    if lifted(
        request,
        "escalate",
        &request.attributes.resource,
        text(role, "/metadata/name"),
    ) {
        return Ok(());
    }
    let mut wanted = items(role, "/rules").to_vec();
    if role
        .get("aggregationRule")
        .is_some_and(|rule| !rule.is_null())
    {
        // It may come to hold anything, so its writer must hold everything.
        wanted.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        wanted.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    check(request, role, &wanted)
}

fn binding(request: &Request<'_>, binding: &Value) -> Result<(), Status> {
    if request
        .old
        .is_some_and(|old| old.get("subjects") == binding.get("subjects"))
    {
        return Ok(());
    }
    let resource = match text(binding, "/roleRef/kind") {
        "Role" => "roles",
        _ => "clusterroles",
    };
    if lifted(request, "bind", resource, text(binding, "/roleRef/name")) {
        return Ok(());
    }
    let mut placed = binding.clone();
    placed["metadata"]["namespace"] = request.attributes.namespace.clone().into();
    if !rbac::role_exists(&placed, request.objects) {
        return Err(Status::not_found(
            &format!("{resource}.{GROUP}"),
            text(binding, "/roleRef/name"),
        ));
    }
    check(
        request,
        binding,
        &rbac::rules_of_binding(&placed, request.objects),
    )
}

/// Whether the writer may skip the check for this role.
fn lifted(request: &Request<'_>, verb: &str, resource: &str, name: &str) -> bool {
    let attributes = Attributes {
        verb: verb.to_owned(),
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        namespace: request.attributes.namespace.clone(),
        name: name.to_owned(),
        ..Attributes::default()
    };
    decide(request.user, &attributes, request.objects).is_ok()
}

fn check(request: &Request<'_>, object: &Value, wanted: &[Value]) -> Result<(), Status> {
    let own = rbac::rules_for(request.user, &request.attributes.namespace, request.objects);
    let missing: Vec<_> = wanted
        .iter()
        .filter(|rule| !covered(rule, &own))
        .map(compact)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let groups: Vec<_> = request
        .user
        .groups
        .iter()
        .map(|group| format!("\"{group}\""))
        .collect();
    Err(request.forbid(
        object,
        format!(
            "user \"{}\" (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            request.user.name,
            groups.join(" "),
            missing.join("\n")
        ),
    ))
}

/// Whether every single right of a rule is held through some rule of `own`.
fn covered(rule: &Value, own: &[Value]) -> bool {
    let any = |list: &str, wanted: &str, rule: &Value| {
        holds(rule, list, "*") || holds(rule, list, wanted)
    };
    let names: Vec<_> = match items(rule, "/resourceNames") {
        [] => vec![None],
        _ => strings(rule, "/resourceNames").map(Some).collect(),
    };
    strings(rule, "/verbs").all(|verb| {
        let own: Vec<_> = own
            .iter()
            .filter(|rule| any("/verbs", verb, rule))
            .collect();
        let paths = strings(rule, "/nonResourceURLs").all(|path| {
            own.iter().any(|rule| {
                strings(rule, "/nonResourceURLs").any(|held| rbac::url_matches(held, path))
            })
        });
        paths
            && strings(rule, "/apiGroups").all(|group| {
                strings(rule, "/resources").all(|resource| {
                    names.iter().all(|name| {
                        own.iter().any(|rule| {
                            any("/apiGroups", group, rule)
                                && strings(rule, "/resources")
                                    .any(|held| covers_resource(held, resource))
                                && (items(rule, "/resourceNames").is_empty()
                                    || name.is_some_and(|name| holds(rule, "/resourceNames", name)))
                        })
                    })
                })
            })
    })
}

fn covers_resource(held: &str, wanted: &str) -> bool {
    let sub = |text: &str| text.split_once('/').map(|(_, sub)| sub.to_owned());
    held == "*" || held == wanted || (held.starts_with("*/") && sub(held) == sub(wanted))
}

/// A rule as Kubernetes prints it: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
fn compact(rule: &Value) -> String {
    let fields = [
        ("nonResourceURLs", "NonResourceURLs"),
        ("apiGroups", "APIGroups"),
        ("resources", "Resources"),
        ("resourceNames", "ResourceNames"),
        ("verbs", "Verbs"),
    ];
    let shown: Vec<_> = fields
        .iter()
        .filter_map(|(field, title)| {
            let list: Vec<_> = strings(rule, &format!("/{field}"))
                .map(|s| format!("\"{s}\""))
                .collect();
            (!list.is_empty()).then(|| format!("{title}:[{}]", list.join(" ")))
        })
        .collect();
    format!("{{{}}}", shown.join(", "))
}
