//! ServiceAccount: every pod runs as one, and finds its token, the CA and its namespace mounted.
//!
//! The volume is what Kubernetes projects since 1.22: a token of about an hour that the node renews, the ConfigMap
//! `kube-root-ca.crt` and the namespace from the downward API.

use rand::RngExt;
use serde_json::{Value, json};

use super::Request;
use crate::{
    auth::fields::{items, text},
    status::Status,
};

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Kubernetes' lifetime of a mounted token: an hour, and seven seconds by which it is told from others.
const TOKEN_SECONDS: u32 = 3607;
pub(super) const MIRROR: &str = "/metadata/annotations/kubernetes.io~1config.mirror";

pub(super) fn admit(request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    if !request.creates("", "pods") || !pod.get("spec").is_some_and(Value::is_object) {
        return Ok(());
    }
    if pod.pointer(MIRROR).is_some() {
        return check_mirror(request, pod);
    }
    let name = account_name(pod);
    pod["spec"]["serviceAccountName"] = name.clone().into();
    pod["spec"]["serviceAccount"] = name.clone().into();
    let namespace = &request.attributes.namespace;
    let account = request.objects.get("", "serviceaccounts", namespace, &name);
    let account = account.ok_or_else(|| {
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
        request.forbid(pod, why)
    })?;
    let pull_secrets = items(&account, "/imagePullSecrets");
    if items(pod, "/spec/imagePullSecrets").is_empty() && !pull_secrets.is_empty() {
        pod["spec"]["imagePullSecrets"] = pull_secrets.into();
    }
    let wish = |v: &Value, pointer: &str| v.pointer(pointer).and_then(Value::as_bool);
    let mount = wish(pod, "/spec/automountServiceAccountToken")
        .or_else(|| wish(&account, "/automountServiceAccountToken"))
        .unwrap_or(true);
    if mount {
        mount_token(pod);
    }
    Ok(())
}

fn account_name(pod: &Value) -> String {
    let names = [
        text(pod, "/spec/serviceAccountName"),
        text(pod, "/spec/serviceAccount"),
    ];
    names
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or("default")
        .to_owned()
}

fn check_mirror(request: &Request<'_>, pod: &Value) -> Result<(), Status> {
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Err(request.forbid(pod, "a mirror pod may not reference service accounts"));
    }
    if crate::auth::names_secrets(pod) {
        return Err(request.forbid(pod, "a mirror pod may not reference secrets"));
    }
    let projects_token = items(pod, "/spec/volumes").iter().any(|volume| {
        let mut sources = items(volume, "/projected/sources").iter();
        sources.any(|source| source.get("serviceAccountToken").is_some())
    });
    if projects_token {
        let why = "a mirror pod may not use ServiceAccountToken volume projections";
        return Err(request.forbid(pod, why));
    }
    Ok(())
}

/// Adds the volume, and its mount to every container that has nothing mounted there.
fn mount_token(pod: &mut Value) {
    let volume = format!("kube-api-access-{}", suffix());
    let mut used = false;
    for list in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter(|c| c.is_object()) {
            let mounts = items(container, "/volumeMounts");
            if mounts
                .iter()
                .any(|mount| text(mount, "/mountPath") == MOUNT_PATH)
            {
                continue;
            }
            push(
                &mut container["volumeMounts"],
                json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}),
            );
            used = true;
        }
    }
    if used {
        push(&mut pod["spec"]["volumes"], token_volume(&volume));
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    })
}

pub(super) fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = Value::Array(vec![item]),
    }
}

/// Five letters as the API server appends to generated names: no vowels, nothing easily confused.
fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    (0..5)
        .map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]))
        .collect()
}
