//! The Node object: is the name free, has the node registered itself.

use std::net::IpAddr;

use ::http::Method;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::cluster::{get, token_rejected};
use crate::{
    client::{RequestError, Verified},
    preflight::is_own_address,
};

/// kubeadm's note about the container runtime.
const CRI_SOCKET: &str = "kubeadm.alpha.kubernetes.io/cri-socket";

/// What was there under the node's name before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing.
    Absent,
    /// A Node of this machine, or of one that is gone; and when it last renewed its lease.
    Left(Option<String>),
}

impl Before {
    /// Completes what [`check_name`] found, as the node itself: its token may not read leases.
    pub(super) async fn with_lease(self, client: &Verified, name: &str) -> Result<Self> {
        match self {
            Before::Absent => Ok(self),
            Before::Left(_) => Ok(Before::Left(renewal(client, name).await?)),
        }
    }
}

/// Refuses a name that another machine runs under.
///
/// kubeadm looks whether that node is Ready; but before a pod network exists no node is. So what counts is whether it
/// lives (the control plane says `Unknown` of nodes it does not hear from) and whether its address is this machine's.
pub(super) async fn check_name(client: &Verified, name: &str) -> Result<Before> {
    let answer = get(client, &path(name)).await?;
    match answer.status.as_u16() {
        404 => return Ok(Before::Absent),
        200 => {}
        401 => bail!("{}", token_rejected(&answer)),
        // Without the right to look, the control plane's own checks have to do.
        403 => return Ok(Before::Absent),
        _ => bail!(
            "the API server refused to look the node {name:?} up: {}; look at its log",
            answer.message()
        ),
    }
    let node = answer
        .json()
        .context("the API server did not answer with JSON")?;
    let alive = ready(&node).is_some_and(|ready| ready["status"] != "Unknown");
    let addresses = addresses(&node);
    if alive && !addresses.iter().any(|address| is_own_address(*address)) {
        let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        bail!(
            "a node named {name:?} is already in the cluster and alive (at {}); give this machine another name with \
             --node-name, or delete that one with: kubectl delete node {name}",
            if addresses.is_empty() {
                "an unknown address".to_owned()
            } else {
                addresses.join(", ")
            }
        );
    }
    Ok(Before::Left(None))
}

/// Whether the Node exists and lives; the error says why not yet.
pub(super) async fn registered(
    client: &Verified,
    name: &str,
    before: &Before,
) -> Result<(), String> {
    let answer = client.get(&path(name)).await.map_err(|e| e.to_string())?;
    if answer.status.as_u16() != 200 {
        return Err(answer.message());
    }
    let Before::Left(last) = before else {
        return Ok(());
    };
    // The Node object is from before: a renewed lease, timed in microseconds, is what tells that somebody runs it now.
    match renewal(client, name).await {
        Ok(now) if now != *last => Ok(()),
        Ok(_) => Err(format!("the node {name:?} has not renewed its lease")),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// When the node last renewed its lease.
async fn renewal(client: &Verified, name: &str) -> Result<Option<String>, RequestError> {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}");
    let answer = get(client, &path).await?;
    let lease = answer.json().unwrap_or_default();
    let time = lease.pointer("/spec/renewTime").and_then(Value::as_str);
    Ok(time.map(str::to_owned))
}

/// Notes the container runtime's socket, as kubeadm does.
pub(super) async fn annotate(client: &Verified, name: &str, socket: &str) -> Result<()> {
    let patch = json!({"metadata": {"annotations": {CRI_SOCKET: socket}}});
    let body = serde_json::to_vec(&patch).context("cannot write an annotation")?;
    let kind = "application/strategic-merge-patch+json";
    let answer = client
        .send(Method::PATCH, &path(name), Some((kind, body)))
        .await?;
    if !answer.status.is_success() {
        bail!(
            "cannot note the container runtime's socket on the node {name:?} ({}), which kubeadm upgrade looks for; do it \
             with: kubectl annotate node {name} {CRI_SOCKET}={socket}",
            answer.message()
        );
    }
    Ok(())
}

fn path(name: &str) -> String {
    format!("/api/v1/nodes/{name}?timeout=10s")
}

fn ready(node: &Value) -> Option<&Value> {
    let conditions = node.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|c| c["type"] == "Ready")
}

fn addresses(node: &Value) -> Vec<IpAddr> {
    let list = node.pointer("/status/addresses").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter(|entry| entry["type"] == "InternalIP")
        .filter_map(|entry| entry["address"].as_str()?.parse().ok())
        .collect()
}
