//! Which nodes a pod fits on, and why it does not fit on the others.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Taint};

use super::{
    peers::Peers,
    usage::{Demand, Usage},
};
use crate::{
    matching::{self, NO_EXECUTE, NO_SCHEDULE, tolerates},
    pods,
};

/// Reasons and how many nodes have each.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Refusals(BTreeMap<String, usize>);

impl Refusals {
    pub fn add(&mut self, reasons: Vec<String>) {
        for reason in reasons {
            *self.0.entry(reason).or_default() += 1;
        }
    }

    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    pub fn message(&self, nodes: usize) -> String {
        if nodes == 0 {
            return "no nodes available to schedule pods".into();
        }
        let mut reasons: Vec<String> = self
            .0
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        reasons.sort();
        format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
    }
}

/// Why the pod does not fit on the node; in Kubernetes' words, and only the first kind of reason. Empty: it fits.
pub(super) fn refuse(pod: &Pod, demand: &Demand, peers: &Peers<'_>, node: &Usage) -> Vec<String> {
    let Some(spec) = pods::spec(pod) else {
        return vec!["node(s) cannot run a pod without a spec".into()];
    };
    let one = |reason: &str| vec![reason.to_owned()];
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let cordoned = node
        .node
        .spec
        .as_ref()
        .is_some_and(|spec| spec.unschedulable == Some(true));
    if cordoned && !tolerations.iter().any(|t| tolerates(t, &cordon())) {
        return one("node(s) were unschedulable");
    }
    let taints = matching::taints(&node.node);
    if let Some(taint) = matching::untolerated(taints, tolerations, &[NO_SCHEDULE, NO_EXECUTE]) {
        let value = taint.value.as_deref().unwrap_or_default();
        return vec![format!(
            "node(s) had untolerated taint {{{}: {value}}}",
            taint.key
        )];
    }
    if !matching::wants_node(spec, &node.node) {
        return one("node(s) didn't match Pod's node affinity/selector");
    }
    if !node.ports_are_free(&demand.ports) {
        return one("node(s) didn't have free ports for the requested pod ports");
    }
    let lacking = node.lacks(demand);
    if !lacking.is_empty() {
        return lacking;
    }
    peers.refuse(node).map(one).unwrap_or_default()
}

/// The taint that a cordoned node has, also before it has it.
fn cordon() -> Taint {
    Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: NO_SCHEDULE.into(),
        ..Taint::default()
    }
}
