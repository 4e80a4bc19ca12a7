//! The Node authorizer: a node may read what the pods bound to it refer to, and little else.
//!
//! The graph node ← pod → {secret, configmap, claim, service account} is not kept: the question is always about one
//! object in one namespace, and the pods of that namespace answer it. Mirror pods give nothing, else a node could make
//! one that names a secret and then read it. Rules and texts follow Kubernetes' `node` authorizer.

use serde_json::Value;

use super::{
    fields::{items, text},
    rbac::rule_allows,
};
use crate::attributes::{Attributes, Objects, UserInfo};

const LEASE_NAMESPACE: &str = "kube-node-lease";
const MIRROR: &str = "/metadata/annotations/kubernetes.io~1config.mirror";

/// The node a user is, if it is one: `system:node:NAME` in group `system:nodes`.
pub(crate) fn node_name(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    (!name.is_empty() && user.groups.iter().any(|group| group == "system:nodes")).then_some(name)
}

/// The node's own verdict; the reason is empty for users that are not nodes.
pub(super) fn authorize(
    user: &UserInfo,
    a: &Attributes,
    objects: &dyn Objects,
) -> Result<(), String> {
    let Some(node) = node_name(user) else {
        return Err(String::new());
    };
    match (a.group.as_str(), a.resource.as_str()) {
        ("", "secrets" | "configmaps") => read_referenced(node, a, objects),
        ("", "persistentvolumeclaims") if a.subresource == "status" => {
            claim_status(node, a, objects)
        }
        ("", "persistentvolumeclaims" | "persistentvolumes") => get_referenced(node, a, objects),
        ("storage.k8s.io", "volumeattachments") => attachment(node, a, objects),
        ("", "serviceaccounts") => create_token(node, a, objects),
        ("coordination.k8s.io", "leases") => lease(node, a),
        ("storage.k8s.io", "csinodes") => csi_node(node, a),
        _ if super::defaults::node_rules()
            .iter()
            .any(|rule| rule_allows(rule, a)) =>
        {
            Ok(())
        }
        _ => Err(String::new()),
    }
}

fn read_referenced(node: &str, a: &Attributes, objects: &dyn Objects) -> Result<(), String> {
    if !matches!(a.verb.as_str(), "get" | "list" | "watch") {
        return refused("can only read resources of this type");
    }
    if !a.subresource.is_empty() {
        return refused("cannot read subresource");
    }
    if a.namespace.is_empty() {
        return refused("can only read namespaced object of this type");
    }
    related(node, a, objects)
}

fn get_referenced(node: &str, a: &Attributes, objects: &dyn Objects) -> Result<(), String> {
    if a.verb != "get" {
        return refused("can only get individual resources of this type");
    }
    if !a.subresource.is_empty() {
        return refused("cannot get subresource");
    }
    related(node, a, objects)
}

fn claim_status(node: &str, a: &Attributes, objects: &dyn Objects) -> Result<(), String> {
    if !matches!(a.verb.as_str(), "update" | "patch") {
        return refused("can only update status for individual resources of this type");
    }
    related(node, a, objects)
}

fn attachment(node: &str, a: &Attributes, objects: &dyn Objects) -> Result<(), String> {
    if a.verb != "get" || !a.subresource.is_empty() {
        return refused("can only get individual resources of this type");
    }
    let attached = objects.get(&a.group, &a.resource, "", &a.name);
    if attached.is_some_and(|object| text(&object, "/spec/nodeName") == node) {
        return Ok(());
    }
    unrelated(node)
}

fn create_token(node: &str, a: &Attributes, objects: &dyn Objects) -> Result<(), String> {
    if a.verb != "create" || a.subresource != "token" || a.name.is_empty() {
        return refused("can only create tokens for individual service accounts");
    }
    related(node, a, objects)
}

fn lease(node: &str, a: &Attributes) -> Result<(), String> {
    if !matches!(
        a.verb.as_str(),
        "get" | "create" | "update" | "patch" | "delete"
    ) {
        return refused("can only get, create, update, patch, or delete a node lease");
    }
    if a.namespace != LEASE_NAMESPACE {
        return Err(format!(
            "can only access leases in the \"{LEASE_NAMESPACE}\" system namespace"
        ));
    }
    // A creation does not carry the name; admission checks the object's.
    if a.name != node && (a.verb != "create" || !a.name.is_empty()) {
        return refused("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

fn csi_node(node: &str, a: &Attributes) -> Result<(), String> {
    if !matches!(
        a.verb.as_str(),
        "get" | "create" | "update" | "patch" | "delete"
    ) {
        return refused("can only get, create, update, patch, or delete a CSINode");
    }
    if !a.subresource.is_empty() {
        return refused("cannot authorize CSINode subresources");
    }
    if a.name != node && (a.verb != "create" || !a.name.is_empty()) {
        return refused("can only access CSINode with the same name as the requesting node");
    }
    Ok(())
}

/// Whether a pod bound to the node refers to the object.
fn related(node: &str, a: &Attributes, objects: &dyn Objects) -> Result<(), String> {
    if a.name.is_empty() {
        return refused("No Object name found");
    }
    let (resource, namespace, name) = if a.resource == "persistentvolumes" {
        match claim_of_volume(&a.name, objects) {
            Some((namespace, name)) => ("persistentvolumeclaims", namespace, name),
            None => return unrelated(node),
        }
    } else {
        (a.resource.as_str(), a.namespace.clone(), a.name.clone())
    };
    let bound = objects.list("", "pods", &namespace).into_iter().any(|pod| {
        text(&pod, "/spec/nodeName") == node
            && pod.pointer(MIRROR).is_none()
            && refers(&pod, resource, &name)
    });
    if bound { Ok(()) } else { unrelated(node) }
}

fn claim_of_volume(volume: &str, objects: &dyn Objects) -> Option<(String, String)> {
    let volume = objects.get("", "persistentvolumes", "", volume)?;
    let namespace = text(&volume, "/spec/claimRef/namespace");
    let name = text(&volume, "/spec/claimRef/name");
    (!namespace.is_empty() && !name.is_empty()).then(|| (namespace.to_owned(), name.to_owned()))
}

/// Whether a pod names this object anywhere its node would have to read it.
pub(crate) fn refers(pod: &Value, resource: &str, name: &str) -> bool {
    match resource {
        "serviceaccounts" => text(pod, "/spec/serviceAccountName") == name,
        "persistentvolumeclaims" => items(pod, "/spec/volumes").iter().any(|volume| {
            text(volume, "/persistentVolumeClaim/claimName") == name
                || (volume.get("ephemeral").is_some()
                    && format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name")) == name)
        }),
        "secrets" => references(pod, &SECRETS).any(|found| found == name),
        "configmaps" => references(pod, &CONFIG_MAPS).any(|found| found == name),
        _ => false,
    }
}

/// Whether a pod names any Secret, or any ConfigMap, at all.
pub(crate) fn names_secrets(pod: &Value) -> bool {
    references(pod, &SECRETS).next().is_some()
}

/// Whether a pod names any ConfigMap at all.
pub(crate) fn names_config_maps(pod: &Value) -> bool {
    references(pod, &CONFIG_MAPS).next().is_some()
}

/// Where a kind's names stand in a pod.
struct Places {
    pod_lists: &'static [(&'static str, &'static str)],
    volume: &'static [&'static str],
    projected: &'static str,
    env: &'static str,
    env_from: &'static str,
}

const SECRETS: Places = Places {
    pod_lists: &[("/spec/imagePullSecrets", "/name")],
    volume: &[
        "/secret/secretName",
        "/csi/nodePublishSecretRef/name",
        "/azureFile/secretName",
        "/cephfs/secretRef/name",
        "/cinder/secretRef/name",
        "/flexVolume/secretRef/name",
        "/iscsi/secretRef/name",
        "/rbd/secretRef/name",
        "/scaleIO/secretRef/name",
        "/storageos/secretRef/name",
    ],
    projected: "/secret/name",
    env: "/valueFrom/secretKeyRef/name",
    env_from: "/secretRef/name",
};

const CONFIG_MAPS: Places = Places {
    pod_lists: &[],
    volume: &["/configMap/name"],
    projected: "/configMap/name",
    env: "/valueFrom/configMapKeyRef/name",
    env_from: "/configMapRef/name",
};

fn references<'a>(pod: &'a Value, places: &'static Places) -> impl Iterator<Item = &'a str> {
    let lists = places
        .pod_lists
        .iter()
        .flat_map(|(list, name)| items(pod, list).iter().map(|item| text(item, name)));
    let volumes = items(pod, "/spec/volumes").iter().flat_map(|volume| {
        let projected = items(volume, "/projected/sources");
        places
            .volume
            .iter()
            .map(|pointer| text(volume, pointer))
            .chain(
                projected
                    .iter()
                    .map(|source| text(source, places.projected)),
            )
    });
    let containers = [
        "/spec/initContainers",
        "/spec/containers",
        "/spec/ephemeralContainers",
    ]
    .into_iter()
    .flat_map(|list| items(pod, list));
    let environment = containers.flat_map(|container| {
        let env = items(container, "/env").iter().map(|e| text(e, places.env));
        let from = items(container, "/envFrom")
            .iter()
            .map(|e| text(e, places.env_from));
        env.chain(from)
    });
    lists
        .chain(volumes)
        .chain(environment)
        .filter(|name| !name.is_empty())
}

fn refused(why: &str) -> Result<(), String> {
    Err(why.to_owned())
}

fn unrelated(node: &str) -> Result<(), String> {
    Err(format!(
        "no relationship found between node '{node}' and this object"
    ))
}
