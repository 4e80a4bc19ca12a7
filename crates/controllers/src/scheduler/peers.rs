//! Rules between pods: affinity, anti-affinity and spreading over topology domains (the hard ones).

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Namespace, Pod, PodAffinityTerm, TopologySpreadConstraint};

use super::usage::Usage;
use crate::{
    matching::{self, selects},
    pods,
};

const AFFINITY: &str = "node(s) didn't match pod affinity rules";
const ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
const OTHERS_ANTI_AFFINITY: &str = "node(s) didn't satisfy existing pods anti-affinity rules";
const SPREAD: &str = "node(s) didn't match pod topology spread constraints";
const SPREAD_LABEL: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";

/// The cluster as one pod's rules see it, counted once and asked for every node.
pub(super) struct Peers<'a> {
    pod: &'a Pod,
    /// Of every required affinity term: topology key, the domains with a matching pod, and whether the pod may be the
    /// first of its kind.
    near: Vec<(&'a str, Vec<&'a str>, bool)>,
    /// Domains to stay out of by the pod's own rules, and by those of others.
    away: Vec<(&'a str, &'a str)>,
    repelled: Vec<(&'a str, &'a str)>,
    spread: Vec<(&'a TopologySpreadConstraint, BTreeMap<&'a str, i32>)>,
}

impl<'a> Peers<'a> {
    pub fn new(pod: &'a Pod, nodes: &'a [Usage], namespaces: &[Arc<Namespace>]) -> Self {
        let running = || {
            nodes
                .iter()
                .flat_map(|node| node.pods.iter().map(move |pod| (node, pod)))
        };
        let domains = |owner: &Pod, term: &'a PodAffinityTerm| -> Vec<&'a str> {
            let matching =
                running().filter(|(_, other)| term_selects(term, owner, other, namespaces));
            matching
                .filter_map(|(node, _)| node.label(&term.topology_key))
                .collect()
        };
        let near = required_affinity(pod).iter().map(|term| {
            let found = domains(pod, term);
            let first = found.is_empty() && term_selects(term, pod, pod, namespaces);
            (term.topology_key.as_str(), found, first)
        });
        let away = required_anti_affinity(pod).iter().flat_map(|term| {
            let found = domains(pod, term);
            found
                .into_iter()
                .map(|domain| (term.topology_key.as_str(), domain))
        });
        let repelled = running().flat_map(|(node, other)| {
            let terms = required_anti_affinity(other).iter();
            let repelling = terms.filter(|term| term_selects(term, other, pod, namespaces));
            repelling.filter_map(|term| {
                Some((term.topology_key.as_str(), node.label(&term.topology_key)?))
            })
        });
        Self {
            near: near.collect(),
            away: away.collect(),
            repelled: repelled.collect(),
            spread: spread(pod, nodes),
            pod,
        }
    }

    /// Why the pod may not go to a node, if so.
    pub fn refuse(&self, node: &Usage) -> Option<&'static str> {
        let inside = |(key, domain): &(&str, &str)| node.label(key) == Some(*domain);
        if self.away.iter().any(inside) {
            return Some(ANTI_AFFINITY);
        }
        if self.repelled.iter().any(inside) {
            return Some(OTHERS_ANTI_AFFINITY);
        }
        let is_near = |(key, domains, first): &(&str, Vec<&str>, bool)| {
            node.label(key)
                .is_some_and(|domain| *first || domains.contains(&domain))
        };
        if !self.near.iter().all(is_near) {
            return Some(AFFINITY);
        }
        self.spread
            .iter()
            .find_map(|(constraint, counts)| self.skews(constraint, counts, node))
    }

    fn skews(
        &self,
        constraint: &TopologySpreadConstraint,
        counts: &BTreeMap<&str, i32>,
        node: &Usage,
    ) -> Option<&'static str> {
        let Some(domain) = node.label(&constraint.topology_key) else {
            return Some(SPREAD_LABEL);
        };
        let selector = constraint.label_selector.as_ref();
        let counts_itself = selector.is_some_and(|s| selects(s, self.pod.metadata.labels.as_ref()));
        let enough =
            i32::try_from(counts.len()).unwrap_or(i32::MAX) >= constraint.min_domains.unwrap_or(1);
        let least = if enough {
            counts.values().min().copied().unwrap_or(0)
        } else {
            0
        };
        let here = counts.get(domain).copied().unwrap_or(0) + i32::from(counts_itself);
        (here - least > constraint.max_skew).then_some(SPREAD)
    }
}

/// Matching pods in every domain that the pod could go to.
fn spread<'a>(
    pod: &'a Pod,
    nodes: &'a [Usage],
) -> Vec<(&'a TopologySpreadConstraint, BTreeMap<&'a str, i32>)> {
    let constraints = pods::spec(pod).and_then(|spec| spec.topology_spread_constraints.as_deref());
    let hard = constraints
        .unwrap_or_default()
        .iter()
        .filter(|c| c.when_unsatisfiable == "DoNotSchedule");
    hard.map(|constraint| {
        let eligible = nodes
            .iter()
            .filter(|node| pods::spec(pod).is_some_and(|s| matching::wants_node(s, &node.node)));
        let mut counts = BTreeMap::new();
        for node in eligible {
            let Some(domain) = node.label(&constraint.topology_key) else {
                continue;
            };
            let alike = node.pods.iter().filter(|other| {
                pods::namespace(&other.metadata) == pods::namespace(&pod.metadata)
                    && !pods::is_terminating(&other.metadata)
                    && constraint
                        .label_selector
                        .as_ref()
                        .is_some_and(|s| selects(s, other.metadata.labels.as_ref()))
            });
            *counts.entry(domain).or_default() += i32::try_from(alike.count()).unwrap_or(i32::MAX);
        }
        (constraint, counts)
    })
    .collect()
}

fn required_affinity(pod: &Pod) -> &[PodAffinityTerm] {
    let affinity = pods::spec(pod).and_then(|spec| spec.affinity.as_ref()?.pod_affinity.as_ref());
    let terms = affinity.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_deref()
    });
    terms.unwrap_or_default()
}

fn required_anti_affinity(pod: &Pod) -> &[PodAffinityTerm] {
    let affinity =
        pods::spec(pod).and_then(|spec| spec.affinity.as_ref()?.pod_anti_affinity.as_ref());
    let terms = affinity.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_deref()
    });
    terms.unwrap_or_default()
}

/// Whether a term of `owner` speaks of `other`.
fn term_selects(
    term: &PodAffinityTerm,
    owner: &Pod,
    other: &Pod,
    namespaces: &[Arc<Namespace>],
) -> bool {
    let place = pods::namespace(&other.metadata);
    let listed = term.namespaces.as_deref().unwrap_or_default();
    let by_selector = term.namespace_selector.as_ref().is_some_and(|selector| {
        let namespace = namespaces.iter().find(|n| pods::name(&n.metadata) == place);
        namespace.is_some_and(|n| selects(selector, n.metadata.labels.as_ref()))
    });
    let own = listed.is_empty()
        && term.namespace_selector.is_none()
        && place == pods::namespace(&owner.metadata);
    let labels = other.metadata.labels.as_ref();
    (own || by_selector || listed.iter().any(|name| name == place))
        && term
            .label_selector
            .as_ref()
            .is_some_and(|selector| selects(selector, labels))
}
