//! Which of the nodes that fit is best.
//!
//! Four judgements, each from 0 to 100 and weighted as in Kubernetes: tainted against its wish (3), preferred by the
//! pod (2), few pods of the same owner (2), and much left (1).

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::usage::{Demand, Usage};
use crate::{
    matching::{self, PREFER_NO_SCHEDULE, term_matches, tolerates},
    pods,
};

/// The best of the nodes: the highest score, then the fewest pods, then the first name.
pub(super) fn best<'a>(pod: &Pod, demand: &Demand, nodes: &[&'a Usage]) -> Option<&'a Usage> {
    let spec = pods::spec(pod)?;
    let counts =
        |judge: &dyn Fn(&Usage) -> i128| nodes.iter().map(|node| judge(node)).collect::<Vec<_>>();
    let taints = counts(&|node| disliked(spec, node));
    let wishes = counts(&|node| preferred(spec, node));
    let siblings = counts(&|node| siblings(pod, node));
    let ranked = nodes.iter().enumerate().map(|(index, node)| {
        let score = 3 * (100 - share(&taints, index))
            + 2 * share(&wishes, index)
            + 2 * (100 - share(&siblings, index))
            + free(demand, node);
        (
            score,
            std::cmp::Reverse(node.pods.len()),
            std::cmp::Reverse(node.name()),
            *node,
        )
    });
    let best = ranked.max_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)));
    best.map(|(.., node)| node)
}

/// One count as percentage of the largest.
fn share(counts: &[i128], index: usize) -> i128 {
    let most = counts.iter().max().copied().unwrap_or(0);
    if most == 0 {
        0
    } else {
        counts[index] * 100 / most
    }
}

/// Taints that ask pods like this to stay away if they can.
fn disliked(spec: &PodSpec, node: &Usage) -> i128 {
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let soft = matching::taints(&node.node)
        .iter()
        .filter(|taint| taint.effect == PREFER_NO_SCHEDULE);
    soft.filter(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
        .count() as i128
}

/// The weight of the pod's wishes that the node meets.
fn preferred(spec: &PodSpec, node: &Usage) -> i128 {
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref());
    let terms = affinity.and_then(|a| {
        a.preferred_during_scheduling_ignored_during_execution
            .as_deref()
    });
    let met = terms
        .unwrap_or_default()
        .iter()
        .filter(|term| term_matches(&term.preference, &node.node));
    met.map(|term| i128::from(term.weight)).sum()
}

/// Pods of the same owner on the node.
fn siblings(pod: &Pod, node: &Usage) -> i128 {
    let Some(owner) = pods::controller_of(&pod.metadata) else {
        return 0;
    };
    let same = |other: &&std::sync::Arc<Pod>| {
        pods::controller_of(&other.metadata).is_some_and(|o| o.uid == owner.uid)
    };
    node.pods.iter().filter(same).count() as i128
}

/// What is left of CPU and memory with the pod on the node, in percent.
fn free(demand: &Demand, node: &Usage) -> i128 {
    let left = |name: &str, used: i128| {
        let has = node.allocatable.get(name).copied().unwrap_or(0);
        if has <= 0 {
            0
        } else {
            ((has - used) * 100 / has).clamp(0, 100)
        }
    };
    let cpu = left("cpu", node.weight.0 + demand.weight.0);
    let memory = left("memory", node.weight.1 + demand.weight.1);
    (cpu + memory) / 2
}
