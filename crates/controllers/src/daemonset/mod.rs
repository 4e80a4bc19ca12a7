//! DaemonSets: one pod on every node that fits, replaced gently when the template changes.

mod failures;
mod history;
mod placement;
mod rollout;
mod status;
mod template;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec},
        core::v1::{Node, Pod},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use serde_json::json;

use self::{failures::Failures, placement::Placement};
use crate::{
    frame::{
        Controller, Input, Note, Plan, Precondition, Severity, Store, Target, Write, versioned,
    },
    matching, pods,
    world::World,
};

/// The label that tells which template a pod was made from.
const HASH_LABEL: &str = "controller-revision-hash";
/// Name in events, as Kubernetes' own.
const COMPONENT: &str = "daemonset-controller";

pub(crate) struct DaemonSets {
    sets: Store<DaemonSet>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    revisions: Store<ControllerRevision>,
    failures: Failures,
}

impl DaemonSets {
    pub fn new(world: &World) -> Self {
        Self {
            sets: world.daemon_sets.clone(),
            pods: world.pods.clone(),
            nodes: world.nodes.clone(),
            revisions: world.revisions.clone(),
            failures: Failures::default(),
        }
    }
}

impl Controller for DaemonSets {
    type Action = Write;
    const NAME: &'static str = "daemon-sets";

    fn inputs(&self) -> Vec<Input> {
        vec![
            self.sets.input(),
            self.pods.input(),
            self.nodes.input(),
            self.revisions.lifecycle(),
        ]
    }

    fn decide(&mut self, now: Timestamp) -> Plan<Write> {
        let mut plan = Plan::new();
        let sets = self.sets.list();
        let living: Vec<_> = sets
            .iter()
            .filter(|set| !pods::is_terminating(&set.metadata))
            .collect();
        if living.is_empty() {
            return plan;
        }
        let (nodes, pods) = (self.nodes.list(), self.pods.list());
        let revisions = self.revisions.list();
        for set in living {
            let Some(spec) = &set.spec else { continue };
            plan.extend(claim(set, spec, &pods));
            let view = View::new(set, spec, &nodes, &pods, now);
            view.manage(&mut self.failures, &mut plan);
            plan.extend(history::keep(&view, &revisions));
            status::report(&view, &mut plan);
        }
        plan
    }
}

/// One set and what belongs to it.
struct View<'a> {
    set: &'a DaemonSet,
    spec: &'a DaemonSetSpec,
    /// Of the current template.
    hash: String,
    /// Every node, and the set's pods on it or on their way to it, oldest first.
    nodes: Vec<(&'a Node, Placement, Vec<&'a Pod>)>,
    now: Timestamp,
}

impl<'a> View<'a> {
    fn new(
        set: &'a DaemonSet,
        spec: &'a DaemonSetSpec,
        nodes: &'a [Arc<Node>],
        pods: &'a [Arc<Pod>],
        now: Timestamp,
    ) -> Self {
        let mut by_node: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| owns(set, pod) && fits(spec, pod)) {
            if let Some(node) = placement::target(pod) {
                by_node.entry(node).or_default().push(pod);
            }
        }
        let order = |pod: &&Pod| {
            (
                pods::created(&pod.metadata),
                pods::name(&pod.metadata).to_owned(),
            )
        };
        by_node
            .values_mut()
            .for_each(|pods| pods.sort_by_key(order));
        let tolerations = template::tolerations(spec);
        let nodes = nodes.iter().map(|node| {
            let pods = by_node
                .remove(pods::name(&node.metadata))
                .unwrap_or_default();
            (&**node, placement::place(spec, &tolerations, node), pods)
        });
        Self {
            set,
            spec,
            hash: template::hash(&spec.template),
            nodes: nodes.collect(),
            now,
        }
    }

    /// Creates missing pods and deletes those that are too many, failed or out of date.
    fn manage(&self, failures: &mut Failures, plan: &mut Plan<Write>) {
        let mut missing = Vec::new();
        for (node, placement, pods) in &self.nodes {
            let living = pods
                .iter()
                .filter(|pod| !pods::is_terminating(&pod.metadata));
            match placement {
                Placement::Leave => plan.extend(living.map(|pod| self.delete(pod))),
                Placement::Stay => {}
                Placement::Run if pods.is_empty() => missing.push(*node),
                Placement::Run => {
                    let (failed, well): (Vec<&Pod>, Vec<&Pod>) =
                        living.copied().partition(|pod| pods::is_finished(pod));
                    let name = pods::name(&node.metadata);
                    failures.watch(
                        (pods::uid(&self.set.metadata), name),
                        &well,
                        &failed,
                        self.now,
                    );
                    for pod in failed {
                        match failures.replace_at((pods::uid(&self.set.metadata), name)) {
                            Some(when) if when > self.now => plan.wake(when),
                            _ => plan.push(self.delete(pod)),
                        }
                    }
                    plan.extend(self.surplus(&well).map(|pod| self.delete(pod)));
                }
            }
        }
        let step = rollout::next(self);
        plan.extend(step.delete.into_iter().map(|pod| self.delete(pod)));
        missing.extend(step.surge);
        if let Some(when) = step.again {
            plan.wake(when);
        }
        let maker = template::Maker::new(self.set, self.spec, &self.hash);
        plan.extend(missing.into_iter().map(|node| maker.create(node)));
    }

    /// All but one pod of a node; a rolling update that surges has one of each template.
    fn surplus<'b>(&self, pods: &'b [&'a Pod]) -> impl Iterator<Item = &'a Pod> + 'b {
        let surges = rollout::limits(self).surge > 0;
        let first_of_kind = |pod: &&Pod| {
            let kind = self.is_current(pod);
            pods.iter().position(|other| self.is_current(other) == kind)
        };
        let keep = match surges {
            true => pods.iter().filter_map(first_of_kind).collect(),
            false => vec![0],
        };
        let numbered = pods.iter().enumerate();
        numbered
            .filter(move |(index, _)| !keep.contains(index))
            .map(|(_, pod)| *pod)
    }

    /// Whether a pod was made from the current template.
    fn is_current(&self, pod: &Pod) -> bool {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(HASH_LABEL)) == Some(&self.hash)
    }

    /// Whether a pod has been ready for long enough.
    fn is_available(&self, pod: &Pod) -> bool {
        let seconds = self.spec.min_ready_seconds.unwrap_or(0);
        pods::available_at(pod, seconds).is_some_and(|when| when <= self.now)
    }

    fn delete(&self, pod: &Pod) -> Write {
        let message = format!("Deleted pod: {}", pods::name(&pod.metadata));
        let note = Note::new(self.set, Severity::Normal, "SuccessfulDelete", message).by(COMPONENT);
        Write::delete(Target::of(pod), &Precondition::same(pod)).note(note)
    }
}

fn owns(set: &DaemonSet, pod: &Pod) -> bool {
    pods::namespace(&pod.metadata) == pods::namespace(&set.metadata)
        && pods::controller_of(&pod.metadata)
            .is_some_and(|owner| owner.uid == pods::uid(&set.metadata))
}

fn fits(spec: &DaemonSetSpec, pod: &Pod) -> bool {
    matching::selects(&spec.selector, pod.metadata.labels.as_ref())
}

/// Pods without a master that the selector matches become the set's, such as an orphaning deletion leaves behind; pods
/// that it does not match any more are let go, so that somebody can look into them.
fn claim(set: &DaemonSet, spec: &DaemonSetSpec, pods: &[Arc<Pod>]) -> Vec<Write> {
    let here = pods.iter().filter(|pod| {
        pods::namespace(&pod.metadata) == pods::namespace(&set.metadata)
            && !pods::is_terminating(&pod.metadata)
    });
    here.filter_map(|pod| {
        let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
        let master = pods::controller_of(&pod.metadata);
        match (master.is_some(), fits(spec, pod)) {
            (false, true) if !pods::is_finished(pod) => owners.push(owner(set)),
            (true, false) if owns(set, pod) => {
                owners.retain(|owner| owner.uid != pods::uid(&set.metadata));
            }
            _ => return None,
        }
        let patch = versioned(&**pod, json!({"metadata": {"ownerReferences": owners}}));
        Some(Write::patch(Target::of(&**pod), patch))
    })
    .collect()
}

fn owner(set: &DaemonSet) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".into(),
        kind: "DaemonSet".into(),
        name: pods::name(&set.metadata).to_owned(),
        uid: pods::uid(&set.metadata).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
