//! Nodes: who is alive, what keeps pods away from them, who has to leave, and the pod ranges.

mod eviction;
mod ipam;
mod monitor;
mod taints;

use k8s_openapi::api::core::v1::{Node, NodeCondition};

pub(crate) use eviction::NodeEvictor;
pub(crate) use ipam::NodeIpam;
pub(crate) use monitor::NodeMonitor;
pub(crate) use taints::NodeTainter;

/// `node.kubernetes.io/not-ready`: the node says that it cannot run pods.
const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// `node.kubernetes.io/unreachable`: the node says nothing.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Name in events, as Kubernetes' own.
const COMPONENT: &str = "node-controller";

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// `True`, `False`, `Unknown`, or none if the node never said.
fn ready(node: &Node) -> Option<&str> {
    condition(node, "Ready").map(|condition| condition.status.as_str())
}
