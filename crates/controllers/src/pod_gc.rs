//! The pod collector: pods that no node will ever finish are removed.
//!
//! These are pods bound to a node that does not exist any more, and pods that were deleted before they were bound. The
//! first are kept for a while (the node may register again) and the node is asked for once more before they go.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::{
    frame::{ActError, Action, Api, Controller, Input, Plan, Precondition, Store, Target, Write},
    pods,
    world::World,
};

pub(crate) struct PodCollector {
    pods: Store<Pod>,
    nodes: Store<Node>,
    missing: Missing,
}

/// Since when nodes that pods are bound to are missing.
struct Missing {
    quarantine: Duration,
    since: HashMap<String, Timestamp>,
}

impl PodCollector {
    pub fn new(world: &World, quarantine: Duration) -> Self {
        Self {
            pods: world.pods.clone(),
            nodes: world.nodes.clone(),
            missing: Missing {
                quarantine,
                since: HashMap::new(),
            },
        }
    }
}

impl Controller for PodCollector {
    type Action = Removal;
    const NAME: &'static str = "pod-collector";

    fn inputs(&self) -> Vec<Input> {
        vec![self.pods.input(), self.nodes.lifecycle()]
    }

    fn decide(&mut self, now: Timestamp) -> Plan<Removal> {
        let nodes = self.nodes.list();
        let nodes: HashSet<&str> = nodes
            .iter()
            .map(|node| pods::name(&node.metadata))
            .collect();
        self.missing
            .collect(&self.pods.list(), |name| nodes.contains(name), now)
    }
}

/// The removal of a pod; with a node's name if that node has to be gone.
#[derive(Debug)]
pub(crate) struct Removal {
    pod: Arc<Pod>,
    node: Option<String>,
}

impl Missing {
    fn collect(
        &mut self,
        pods: &[Arc<Pod>],
        exists: impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> Plan<Removal> {
        let mut plan = Plan::new();
        let bound = pods
            .iter()
            .filter_map(|pod| Some((pod, pods::node_name(pod)?)));
        let orphans: Vec<_> = bound.filter(|(_, node)| !exists(node)).collect();
        let absent: HashSet<&str> = orphans.iter().map(|(_, node)| *node).collect();
        self.since.retain(|node, _| absent.contains(node.as_str()));
        for (pod, node) in orphans {
            let since = *self.since.entry(node.to_owned()).or_insert(now);
            let end = since.checked_add(self.quarantine).unwrap_or(Timestamp::MAX);
            if end > now {
                plan.wake(end);
            } else {
                plan.push(Removal {
                    pod: pod.clone(),
                    node: Some(node.to_owned()),
                });
            }
        }
        let unbound = pods.iter().filter(|pod| pods::node_name(pod).is_none());
        let deleted = unbound.filter(|pod| pods::is_terminating(&pod.metadata));
        plan.extend(deleted.map(|pod| Removal {
            pod: pod.clone(),
            node: None,
        }));
        plan
    }
}

impl Action for Removal {
    fn key(&self) -> String {
        pods::uid(&self.pod.metadata).to_owned()
    }

    async fn perform(&self, api: &Api) -> Result<(), ActError> {
        let pod = &*self.pod;
        if let Some(node) = &self.node {
            let found: Option<Value> = api.look(&Target::all::<Node>(None).named(node)).await?;
            if found.is_some() {
                return Err(ActError::NotYet(format!("node {node} is back")));
            }
            if !pods::is_finished(pod) {
                let failed = json!({"status": {"phase": "Failed"}});
                api.write(&Write::patch(Target::of(pod).sub("status"), failed))
                    .await?;
            }
            tracing::info!(
                pod = pods::name(&pod.metadata),
                node,
                "removing a pod of a node that is gone"
            );
        }
        let delete = Write::delete(Target::of(pod), &Precondition::same(pod)).now();
        api.write(&delete).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, object};

    fn pod(name: &str, node: &str, deleted: bool) -> Arc<Pod> {
        let mut pod =
            json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": []}});
        if deleted {
            pod["metadata"]["deletionTimestamp"] = "2026-11-25T11:00:00Z".into();
        }
        object(pod)
    }

    #[test]
    fn hopeless_pods_go() {
        let mut missing = Missing {
            quarantine: Duration::from_secs(40),
            since: HashMap::new(),
        };
        let pods = [
            pod("orphan", "gone", false),
            pod("running", "w1", false),
            pod("stopping", "w1", true),
            pod("waiting", "", false),
            pod("given-up", "", true),
        ];
        let mut at = |now: &str, nodes: &[&str]| {
            let plan = missing.collect(&pods, |name| nodes.contains(&name), at(now));
            let names = plan
                .actions
                .iter()
                .map(|removal| pods::name(&removal.pod.metadata).to_owned());
            (names.collect::<Vec<_>>(), plan.again.map(|t| t.to_string()))
        };
        let quarantined = |end: &str| (vec!["given-up".to_owned()], Some(end.to_owned()));
        assert_eq!(
            at("2026-11-25T12:00:00Z", &["w1"]),
            quarantined("2026-11-25T12:00:40Z")
        );
        assert_eq!(
            at("2026-11-25T12:00:30Z", &["w1", "gone"]),
            (vec!["given-up".to_owned()], None)
        );
        assert_eq!(
            at("2026-11-25T12:00:35Z", &["w1"]),
            quarantined("2026-11-25T12:01:15Z")
        );
        assert_eq!(
            at("2026-11-25T12:01:15Z", &["w1"]).0,
            ["orphan", "given-up"]
        );
    }
}
