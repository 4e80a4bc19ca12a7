//! NodeRestriction: a node writes to itself and its own pods; and TaintNodesByCondition for new nodes.
//!
//! The Node authorizer says which kinds a node may write; here the object itself is looked at. Together they are the
//! point of giving every node its own identity: who owns one node does not own the others. Texts are Kubernetes'.

use serde_json::{Value, json};

use super::{
    Operation::{Create, Delete, Update},
    Request,
    service_account::{MIRROR, push},
};
use crate::{
    auth::{
        fields::{items, text},
        names_config_maps, names_secrets, node_name,
    },
    status::Status,
};

const LEASE_NAMESPACE: &str = "kube-node-lease";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Labels of Kubernetes' own domains that a node may set on itself.
const OWN_LABELS: [&str; 12] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "node.kubernetes.io/windows-build",
];

/// Refuses a node's write to what is not its own.
pub(super) fn restrict(request: &Request<'_>, object: &Value) -> Result<(), Status> {
    let Some(node) = node_name(request.user) else {
        return Ok(());
    };
    let a = request.attributes;
    let verdict = match (
        a.group.as_str(),
        a.resource.as_str(),
        a.subresource.as_str(),
    ) {
        ("", "pods", "") => pod(node, request, object),
        ("", "pods", "status") => pod_status(node, request, object),
        ("", "pods", "eviction") => eviction(node, request, object),
        ("", "nodes", _) => own_node(node, request, object),
        ("", "serviceaccounts", "token") => return token(node, request, object),
        ("coordination.k8s.io", "leases", _) => lease(node, request, object),
        ("storage.k8s.io", "csinodes", _) => csi_node(node, request, object),
        _ => Ok(()),
    };
    verdict.map_err(|why| request.forbid(object, why))
}

fn pod(node: &str, request: &Request<'_>, pod: &Value) -> Result<(), String> {
    match request.operation() {
        Create => mirror_pod(node, pod),
        Delete => match request.old {
            Some(old) if text(old, "/spec/nodeName") == node => Ok(()),
            _ => Err(format!(
                "node \"{node}\" can only delete pods with spec.nodeName set to itself"
            )),
        },
        Update => Err(format!(
            "unexpected operation \"UPDATE\", node \"{node}\" can only create and delete mirror pods"
        )),
    }
}

/// The one kind of pod a node makes: the API's image of a static pod, which can give it no new rights.
fn mirror_pod(node: &str, pod: &Value) -> Result<(), String> {
    if pod.pointer(MIRROR).is_none() {
        return Err(format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"{node}\" can only create mirror pods"
        ));
    }
    if text(pod, "/spec/nodeName") != node {
        return Err(format!(
            "node \"{node}\" can only create pods with spec.nodeName set to itself"
        ));
    }
    let owners = items(pod, "/metadata/ownerReferences");
    let own = |owner: &Value| text(owner, "/kind") == "Node" && text(owner, "/name") == node;
    if owners.len() > 1 {
        return Err(format!(
            "node \"{node}\" can only create pods with a single owner reference set to itself"
        ));
    }
    if !owners.iter().all(own) {
        return Err(format!(
            "node \"{node}\" can only create pods with an owner reference set to itself"
        ));
    }
    let claims = |volume: &Value| volume.get("persistentVolumeClaim").is_some();
    let named = [
        (
            !text(pod, "/spec/serviceAccountName").is_empty(),
            "a service account",
        ),
        (names_secrets(pod), "secrets"),
        (names_config_maps(pod), "configmaps"),
        (
            items(pod, "/spec/volumes").iter().any(claims),
            "persistentvolumeclaims",
        ),
    ];
    match named.iter().find(|(does, _)| *does) {
        Some((_, what)) => Err(format!(
            "node \"{node}\" can not create pods that reference {what}"
        )),
        None => Ok(()),
    }
}

fn pod_status(node: &str, request: &Request<'_>, pod: &Value) -> Result<(), String> {
    let Some(old) = request.old.filter(|_| request.operation() == Update) else {
        return Err(format!(
            "unexpected operation, node \"{node}\" can only update pod status"
        ));
    };
    if text(old, "/spec/nodeName") != node {
        return Err(format!(
            "node \"{node}\" can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if labels(old) != labels(pod) {
        return Err(format!(
            "node \"{node}\" cannot update labels through pod status"
        ));
    }
    Ok(())
}

fn eviction(node: &str, request: &Request<'_>, eviction: &Value) -> Result<(), String> {
    let name = match request.attributes.name.as_str() {
        "" => text(eviction, "/metadata/name"),
        name => name,
    };
    let pod = request
        .objects
        .get("", "pods", &request.attributes.namespace, name);
    match pod {
        // A pod that is gone is answered with 404 by the eviction itself.
        None => Ok(()),
        Some(pod) if text(&pod, "/spec/nodeName") == node => Ok(()),
        Some(_) => Err(format!(
            "node {node} can only evict pods with spec.nodeName set to itself"
        )),
    }
}

fn own_node(node: &str, request: &Request<'_>, object: &Value) -> Result<(), String> {
    let name = match request.attributes.name.as_str() {
        "" => text(object, "/metadata/name"),
        name => name,
    };
    if name != node {
        return Err(format!(
            "node \"{node}\" is not allowed to modify node \"{name}\""
        ));
    }
    match (request.operation(), request.old) {
        (Create, _) => forbidden_labels(&Value::Null, object).map_err(|list| {
            format!("node \"{node}\" is not allowed to set the following labels: {list}")
        }),
        (Delete, _) | (_, None) => Ok(()),
        (Update, Some(old)) => {
            if non_null(old, "/spec/taints") != non_null(object, "/spec/taints") {
                return Err(format!("node \"{node}\" is not allowed to modify taints"));
            }
            let owners = "/metadata/ownerReferences";
            if non_null(old, owners) != non_null(object, owners) {
                return Err(format!(
                    "node \"{node}\" is not allowed to modify ownerReferences"
                ));
            }
            forbidden_labels(old, object)
                .map_err(|list| format!("node \"{node}\" is not allowed to modify labels: {list}"))
        }
    }
}

/// The list or object at a pointer; an empty or null one reads as absent.
fn non_null<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    value
        .pointer(pointer)
        .filter(|v| !v.is_null() && **v != json!([]) && **v != json!({}))
}

fn labels(object: &Value) -> Option<&Value> {
    non_null(object, "/metadata/labels")
}

/// The labels that differ and are not the node's to change, as a list for people.
fn forbidden_labels(old: &Value, new: &Value) -> Result<(), String> {
    let label = |object: &'_ Value, key: &str| labels(object).and_then(|l| l.get(key)).cloned();
    let keys = [old, new]
        .into_iter()
        .filter_map(|o| labels(o)?.as_object())
        .flat_map(|l| l.keys());
    let mut forbidden: Vec<_> = keys
        .filter(|key| label(old, key) != label(new, key) && !may_set(key))
        .map(String::as_str)
        .collect();
    forbidden.sort_unstable();
    forbidden.dedup();
    if forbidden.is_empty() {
        Ok(())
    } else {
        Err(forbidden.join(", "))
    }
}

fn may_set(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |parent: &str| {
        domain == parent
            || domain
                .strip_suffix(parent)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    if within("node-restriction.kubernetes.io") {
        return false;
    }
    if !within("kubernetes.io") && !within("k8s.io") {
        return true;
    }
    within("kubelet.kubernetes.io") || within("node.kubernetes.io") || OWN_LABELS.contains(&key)
}

/// A node gets tokens only for pods it runs, and only such as die with the pod.
fn token(node: &str, request: &Request<'_>, body: &Value) -> Result<(), Status> {
    let bound = |field: &str| text(body, &format!("/spec/boundObjectRef/{field}"));
    let refuse = |why: &str| Err(request.forbid(body, why));
    if bound("kind") != "Pod" || bound("name").is_empty() {
        return refuse("node requested token not bound to a pod");
    }
    if bound("uid").is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    let namespace = &request.attributes.namespace;
    let pod = request
        .objects
        .get("", "pods", namespace, bound("name"))
        .ok_or_else(|| Status::not_found("pods", bound("name")))?;
    if text(&pod, "/metadata/uid") != bound("uid") {
        return refuse(&format!(
            "the UID in the bound object reference ({}) does not match the UID in record. \
             The object might have been deleted and then recreated",
            bound("uid")
        ));
    }
    if text(&pod, "/spec/nodeName") != node {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    Ok(())
}

fn lease(node: &str, request: &Request<'_>, lease: &Value) -> Result<(), String> {
    let a = request.attributes;
    if a.namespace != LEASE_NAMESPACE {
        return Err(format!(
            "can only access leases in the \"{LEASE_NAMESPACE}\" system namespace"
        ));
    }
    same_name(node, request, lease).ok_or_else(|| {
        "can only access node lease with the same name as the requesting node".to_owned()
    })
}

fn csi_node(node: &str, request: &Request<'_>, object: &Value) -> Result<(), String> {
    same_name(node, request, object).ok_or_else(|| {
        "can only access CSINode with the same name as the requesting node".to_owned()
    })
}

/// For a creation the object's name counts (the URL has none), else the URL's.
fn same_name(node: &str, request: &Request<'_>, object: &Value) -> Option<()> {
    let created = request.operation() == Create;
    let name = if created {
        text(object, "/metadata/name")
    } else {
        &request.attributes.name
    };
    (name == node).then_some(())
}

/// A node starts as not ready: nothing is scheduled to it before it says otherwise.
pub(super) fn taint_new(request: &Request<'_>, node: &mut Value) {
    if !request.creates("", "nodes") || !node.is_object() {
        return;
    }
    let tainted = items(node, "/spec/taints")
        .iter()
        .any(|taint| text(taint, "/key") == NOT_READY && text(taint, "/effect") == "NoSchedule");
    if tainted {
        return;
    }
    if !node.get("spec").is_some_and(Value::is_object) {
        node["spec"] = json!({});
    }
    push(
        &mut node["spec"]["taints"],
        json!({"key": NOT_READY, "effect": "NoSchedule"}),
    );
}
