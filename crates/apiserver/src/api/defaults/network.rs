//! Services, endpoints, policies.

use serde_json::{Value, json};

use crate::{
    api::json::{as_object, child, each, fill},
    auth::fields::items,
};

/// Seconds a client stays with its endpoint under `sessionAffinity: ClientIP`.
const AFFINITY_SECONDS: u32 = 3 * 3600;

pub(super) fn service(service: &mut Value) {
    let spec = child(service, "spec");
    fill(spec, "type", "ClusterIP");
    fill(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "ClientIP" {
        let config = as_object(spec.entry("sessionAffinityConfig").or_insert(Value::Null));
        let client = as_object(config.entry("clientIP").or_insert(Value::Null));
        fill(client, "timeoutSeconds", AFFINITY_SECONDS);
    }
    for port in each(spec, "ports") {
        fill(port, "protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or(Value::Null);
        let unset = matches!(port.get("targetPort"), None | Some(Value::Null))
            || [Some(&json!(0)), Some(&json!(""))].contains(&port.get("targetPort"));
        if unset {
            port.insert("targetPort".to_owned(), number);
        }
    }
    let kind = spec["type"].as_str().unwrap_or("").to_owned();
    if kind != "ExternalName" {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    if ["NodePort", "LoadBalancer"].contains(&kind.as_str()) {
        fill(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
}

pub(super) fn endpoints(endpoints: &mut Value) {
    for subset in each(as_object(endpoints), "subsets") {
        for port in each(subset, "ports") {
            fill(port, "protocol", "TCP");
        }
    }
}

pub(super) fn endpoint_slice(slice: &mut Value) {
    for port in each(as_object(slice), "ports") {
        fill(port, "protocol", "TCP");
        port.entry("name").or_insert_with(|| "".into());
    }
}

/// A policy that does not say is about what comes in, and about what goes out if it has rules for that.
pub(super) fn policy(policy: &mut Value) {
    let has_egress = !items(policy, "/spec/egress").is_empty();
    let spec = child(policy, "spec");
    for direction in ["ingress", "egress"] {
        for rule in each(spec, direction) {
            for port in each(rule, "ports") {
                fill(port, "protocol", "TCP");
            }
        }
    }
    let unset = spec
        .get("policyTypes")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty);
    if unset {
        let types = match has_egress {
            true => json!(["Ingress", "Egress"]),
            false => json!(["Ingress"]),
        };
        spec.insert("policyTypes".to_owned(), types);
    }
}
