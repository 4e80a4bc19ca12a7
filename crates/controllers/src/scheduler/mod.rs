//! The scheduler: every pod without a node gets the best one that fits, or learns why none does.
//!
//! Pods are taken by priority and age; within one decision each placement counts for the next. Nothing is preempted.

mod filter;
mod peers;
mod quantity;
mod score;
mod usage;

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Namespace, Node, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;

use self::{filter::Refusals, peers::Peers, usage::Usage};
use crate::{
    frame::{Controller, Input, Note, Plan, Severity, Store, Target, Write, versioned},
    pods,
    world::World,
};

/// The name that pods know this scheduler by, as Kubernetes' own.
const SCHEDULER: &str = "default-scheduler";

pub(crate) struct Scheduler {
    pods: Store<Pod>,
    nodes: Store<Node>,
    namespaces: Store<Namespace>,
}

impl Scheduler {
    pub fn new(world: &World) -> Self {
        Self {
            pods: world.pods.clone(),
            nodes: world.nodes.clone(),
            namespaces: world.namespaces.clone(),
        }
    }
}

impl Controller for Scheduler {
    type Action = Write;
    const NAME: &'static str = "scheduler";

    fn inputs(&self) -> Vec<Input> {
        vec![
            self.pods.input(),
            self.nodes.input(),
            self.namespaces.lifecycle(),
        ]
    }

    fn decide(&mut self, now: Timestamp) -> Plan<Write> {
        let mut plan = Plan::new();
        let pods = self.pods.list();
        if pods.iter().any(|pod| waits(pod)) {
            plan.extend(schedule(
                &pods,
                &self.nodes.list(),
                &self.namespaces.list(),
                now,
            ));
        }
        plan
    }
}

/// Whether a pod is ours to place.
fn waits(pod: &Pod) -> bool {
    let ours = pods::spec(pod)
        .is_some_and(|spec| spec.scheduler_name.as_deref().unwrap_or(SCHEDULER) == SCHEDULER);
    ours && pods::node_name(pod).is_none()
        && !pods::is_terminating(&pod.metadata)
        && !pods::is_finished(pod)
}

fn schedule(
    pods: &[Arc<Pod>],
    nodes: &[Arc<Node>],
    namespaces: &[Arc<Namespace>],
    now: Timestamp,
) -> Vec<Write> {
    let mut nodes: Vec<Usage> = nodes.iter().map(|node| Usage::new(node.clone())).collect();
    let index: HashMap<String, usize> = nodes
        .iter()
        .enumerate()
        .map(|(index, node)| (node.name().to_owned(), index))
        .collect();
    for pod in pods.iter().filter(|pod| !pods::is_finished(pod)) {
        if let Some(index) = pods::node_name(pod).and_then(|name| index.get(name)) {
            nodes[*index].add(pod.clone());
        }
    }
    let mut waiting: Vec<&Arc<Pod>> = pods.iter().filter(|pod| waits(pod)).collect();
    waiting.sort_by_key(|pod| {
        let priority = pods::spec(pod).and_then(|spec| spec.priority).unwrap_or(0);
        (Reverse(priority), pods::created(&pod.metadata))
    });
    let mut writes = Vec::new();
    for pod in waiting {
        match place(pod, &nodes, namespaces) {
            Ok(name) => {
                writes.push(bind(pod, &name));
                nodes[index[&name]].add(pod.clone());
            }
            Err(reason) => writes.extend(explain(pod, &reason, now)),
        }
    }
    writes
}

/// Why a pod stays where it is.
#[derive(Debug, PartialEq)]
enum Unplaced {
    /// It waits for somebody else.
    Gated,
    /// No node fits.
    Unschedulable(String),
}

/// The name of the best node for the pod.
fn place(pod: &Pod, nodes: &[Usage], namespaces: &[Arc<Namespace>]) -> Result<String, Unplaced> {
    let gates = pods::spec(pod).and_then(|spec| spec.scheduling_gates.as_ref());
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return Err(Unplaced::Gated);
    }
    let demand = usage::demand(pod);
    let peers = Peers::new(pod, nodes, namespaces);
    let mut refusals = Refusals::default();
    let mut fitting = Vec::new();
    for node in nodes {
        let reasons = filter::refuse(pod, &demand, &peers, node);
        if reasons.is_empty() {
            fitting.push(node);
        } else {
            refusals.add(reasons);
        }
    }
    let best = score::best(pod, &demand, &fitting);
    best.map(|node| node.name().to_owned())
        .ok_or_else(|| Unplaced::Unschedulable(refusals.message(nodes.len())))
}

fn bind(pod: &Pod, node: &str) -> Write {
    let meta = &pod.metadata;
    let body = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let (namespace, name) = (pods::namespace(meta), pods::name(meta));
    let message = format!("Successfully assigned {namespace}/{name} to {node}");
    let note = Note::new(pod, Severity::Normal, "Scheduled", message).by(SCHEDULER);
    Write::create(Target::of(pod).sub("binding"), body).note(note)
}

/// Says in the pod's status, and in an event, why it has no node; once for every new reason.
fn explain(pod: &Pod, reason: &Unplaced, now: Timestamp) -> Option<Write> {
    let (reason, message) = match reason {
        Unplaced::Gated => (
            "SchedulingGated",
            "Scheduling is blocked due to non-empty scheduling gates",
        ),
        Unplaced::Unschedulable(message) => ("Unschedulable", message.as_str()),
    };
    let known = pods::condition(pod, "PodScheduled");
    let is_known = known.is_some_and(|known| {
        known.status == "False"
            && known.reason.as_deref() == Some(reason)
            && known.message.as_deref() == Some(message)
    });
    if is_known {
        return None;
    }
    let since = known
        .filter(|known| known.status == "False")
        .and_then(|known| known.last_transition_time.clone());
    let condition = PodCondition {
        type_: "PodScheduled".into(),
        status: "False".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: Some(since.unwrap_or(Time(now))),
        ..PodCondition::default()
    };
    let old = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone());
    let mut conditions = old.unwrap_or_default();
    conditions.retain(|condition| condition.type_ != "PodScheduled");
    conditions.push(condition);
    let patch = versioned(pod, json!({"status": {"conditions": conditions}}));
    let write = Write::patch(Target::of(pod).sub("status"), patch);
    Some(match reason {
        "Unschedulable" => {
            write.note(Note::new(pod, Severity::Warning, "FailedScheduling", message).by(SCHEDULER))
        }
        _ => write,
    })
}

#[cfg(test)]
mod tests;
