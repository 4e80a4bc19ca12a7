//! Tables: objects as kubectl prints them. Columns and cells are those of Kubernetes (`pkg/printers/internalversion`).

mod access;
mod age;
mod cluster;
mod column;
mod config;
mod network;
mod node;
mod pod;
mod workload;

use jiff::Timestamp;
use serde_json::{Value, json};

use self::column::Column;
use super::resources::Resource;
use crate::auth::fields::text;

/// The `includeObject` parameter: what a row carries beside its cells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

/// How objects of one kind are printed.
struct Printer {
    columns: &'static [Column],
    /// One cell for each column.
    cells: fn(&Value, Timestamp) -> Vec<Value>,
}

/// A table of stored objects; `revision` is the list's `resourceVersion` (for one object: its own).
pub fn render<'a>(
    resource: &'static Resource,
    objects: impl IntoIterator<Item = &'a Value>,
    revision: &str,
    include: Include,
    now: Timestamp,
) -> Value {
    let printer = printer(resource);
    let columns: Vec<Value> = printer.columns.iter().map(Column::to_json).collect();
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let mut row = json!({
                "cells": (printer.cells)(object, now),
                "object": included(resource, object, include),
            });
            if let Some(reason) = completed(resource, object) {
                row["conditions"] = json!([{"type": "Completed", "status": "True", "reason": reason,
                    "message": "The pod has completed."}]);
            }
            row
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": revision},
        "columnDefinitions": columns, "rows": rows,
    })
}

fn included(resource: &'static Resource, object: &Value, include: Include) -> Value {
    match include {
        Include::None => Value::Null,
        Include::Metadata => json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
        }),
        Include::Object => super::convert::from_stored(resource, object).into_owned(),
    }
}

/// Clients may leave out rows of pods that are done.
fn completed<'a>(resource: &Resource, object: &'a Value) -> Option<&'a str> {
    let phase = text(object, "/status/phase");
    (resource.kind == "Pod" && ["Succeeded", "Failed"].contains(&phase)).then_some(phase)
}

fn printer(resource: &Resource) -> Printer {
    match resource.storage {
        ("", "configmaps") => config::CONFIG_MAPS,
        ("", "endpoints") => network::ENDPOINTS,
        ("", "events") => cluster::EVENTS,
        ("", "namespaces") => cluster::NAMESPACES,
        ("", "nodes") => node::NODES,
        ("", "pods") => pod::PODS,
        ("", "secrets") => config::SECRETS,
        ("", "serviceaccounts") => config::SERVICE_ACCOUNTS,
        ("", "services") => network::SERVICES,
        ("apps", "controllerrevisions") => workload::CONTROLLER_REVISIONS,
        ("apps", "daemonsets") => workload::DAEMON_SETS,
        ("apps", "deployments") => workload::DEPLOYMENTS,
        ("apps", "replicasets") => workload::REPLICA_SETS,
        ("certificates.k8s.io", _) => access::SIGNING_REQUESTS,
        ("coordination.k8s.io", "leases") => cluster::LEASES,
        ("discovery.k8s.io", "endpointslices") => network::ENDPOINT_SLICES,
        ("networking.k8s.io", "networkpolicies") => network::POLICIES,
        ("node.k8s.io", "runtimeclasses") => cluster::RUNTIME_CLASSES,
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => access::ROLES,
        ("rbac.authorization.k8s.io", _) => access::BINDINGS,
        ("scheduling.k8s.io", "priorityclasses") => cluster::PRIORITY_CLASSES,
        ("storage.k8s.io", "csidrivers") => node::CSI_DRIVERS,
        ("storage.k8s.io", "csinodes") => node::CSI_NODES,
        _ => GENERIC,
    }
}

/// For kinds without a printer of their own.
const GENERIC: Printer = Printer {
    columns: &[Column::NAME, Column::AGE],
    cells: |object, now| vec![name(object), age::created(object, now)],
};

fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

/// The number of members or items at a pointer; zero where there is nothing.
fn count(object: &Value, pointer: &str) -> usize {
    match object.pointer(pointer) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    }
}

/// The whole number at a pointer; zero where there is none.
fn number(object: &Value, pointer: &str) -> i64 {
    let value = object.pointer(pointer);
    value.and_then(Value::as_i64).unwrap_or(0)
}

fn or<'a>(text: &'a str, instead: &'a str) -> &'a str {
    if text.is_empty() { instead } else { text }
}

/// A map of labels as `a=b,c=d`, or `<none>`.
fn labels(map: &Value) -> String {
    let pairs: Vec<_> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    or(&pairs.join(","), "<none>").to_owned()
}

/// A `metav1.LabelSelector` as text, or `<none>`.
fn selector(selector: &Value) -> String {
    let mut parts = Vec::new();
    if count(selector, "/matchLabels") > 0 {
        parts.push(labels(&selector["matchLabels"]));
    }
    for expression in crate::auth::fields::items(selector, "/matchExpressions") {
        let key = text(expression, "/key");
        let values: Vec<_> = crate::auth::fields::strings(expression, "/values").collect();
        let values = values.join(",");
        parts.push(match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    or(&parts.join(","), "<none>").to_owned()
}

/// A `metav1.LabelSelector` as the text of a query; empty if it selects everything.
pub(super) fn selector_text(of: &Value) -> String {
    match selector(of).as_str() {
        "<none>" => String::new(),
        text => text.to_owned(),
    }
}

/// A list of which at most `max` items are shown.
fn with_more(shown: &[String], total: usize) -> String {
    let list = shown.join(",");
    if total > shown.len() {
        return format!("{list} + {} more...", total - shown.len());
    }
    list
}

#[cfg(test)]
mod tests;
