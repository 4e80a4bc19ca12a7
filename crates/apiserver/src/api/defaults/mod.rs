//! Defaults: what Kubernetes fills in when a client leaves it out (`pkg/apis/*/v1/defaults.go`, as far as clients
//! notice).

mod network;
mod pods;
mod workloads;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    json::{as_object, child, each, fill},
    resources::Resource,
};
use crate::auth::fields::text;

/// Label that every namespace has, so that selectors can name it.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const RBAC: &str = "rbac.authorization.k8s.io";

/// Fills in a new object, the state it begins with included.
pub fn create(resource: &'static Resource, object: &mut Value) {
    update(resource, object);
    match resource.storage {
        ("", "pods") => pods::first_status(object),
        ("", "namespaces") => {
            let finalizers = json!(["kubernetes"]);
            child(object, "spec").insert("finalizers".to_owned(), finalizers);
            child(object, "status").insert("phase".to_owned(), "Active".into());
        }
        ("", "services") => {
            child(object, "status").insert("loadBalancer".to_owned(), json!({}));
        }
        ("", "nodes") => {
            child(object, "spec");
            child(object, "status");
        }
        ("apps", "daemonsets") => {
            object["status"] = json!({
                "currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0,
            });
        }
        ("apps", "replicasets") => object["status"] = json!({"replicas": 0}),
        _ if resource.has_status() => {
            child(object, "status");
        }
        _ => {}
    }
}

/// Fills in a changed object.
pub fn update(resource: &'static Resource, object: &mut Value) {
    match resource.storage {
        ("", "pods") => pods::pod(object),
        ("", "services") => network::service(object),
        ("", "endpoints") => network::endpoints(object),
        ("", "namespaces") => {
            let name = text(object, "/metadata/name").to_owned();
            let labels = as_object(
                child(object, "metadata")
                    .entry("labels")
                    .or_insert(Value::Null),
            );
            labels.insert(NAME_LABEL.to_owned(), name.into());
        }
        ("", "secrets") => secret(as_object(object)),
        ("apps", "daemonsets") => workloads::daemon_set(object),
        ("apps", "deployments") => workloads::deployment(object),
        ("apps", "replicasets") => workloads::replica_set(object),
        ("discovery.k8s.io", "endpointslices") => network::endpoint_slice(object),
        ("networking.k8s.io", "networkpolicies") => network::policy(object),
        (RBAC, "rolebindings" | "clusterrolebindings") => binding(as_object(object)),
        ("scheduling.k8s.io", "priorityclasses") => {
            fill(
                as_object(object),
                "preemptionPolicy",
                "PreemptLowerPriority",
            );
        }
        ("storage.k8s.io", "csidrivers") => csi_driver(child(object, "spec")),
        _ => {}
    }
}

/// `stringData` is a way to write `data` only.
fn secret(secret: &mut Map<String, Value>) {
    fill(secret, "type", "Opaque");
    let Some(Value::Object(plain)) = secret.remove("stringData") else {
        return;
    };
    let data = as_object(secret.entry("data").or_insert(Value::Null));
    for (key, value) in plain {
        let encoded = STANDARD.encode(value.as_str().unwrap_or(""));
        data.insert(key, encoded.into());
    }
}

fn binding(binding: &mut Map<String, Value>) {
    if let Some(Value::Object(role)) = binding.get_mut("roleRef") {
        fill(role, "apiGroup", RBAC);
    }
    for subject in each(binding, "subjects") {
        let kind = subject.get("kind").and_then(Value::as_str).unwrap_or("");
        if ["User", "Group"].contains(&kind) {
            fill(subject, "apiGroup", RBAC);
        }
    }
}

fn csi_driver(spec: &mut Map<String, Value>) {
    fill(spec, "attachRequired", true);
    fill(spec, "podInfoOnMount", false);
    fill(spec, "storageCapacity", false);
    fill(spec, "requiresRepublish", false);
    fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    fill(spec, "volumeLifecycleModes", json!(["Persistent"]));
}

#[cfg(test)]
mod tests;
