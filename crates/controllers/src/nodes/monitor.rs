//! The monitor: a node that has not been heard of for a while is unknown, and its pods are not ready.
//!
//! A node is heard of when its Lease or its Ready condition changes. The time counts from when the change was *seen*
//! here: the node's clock may be wrong, and after a restart of the control plane every node gets its full time.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, Pod},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, Time},
};
use serde_json::{Value, json};

use super::{COMPONENT, condition, ready};
use crate::{
    Timings,
    frame::{Controller, Input, Note, Plan, Severity, Store, Target, Write, versioned},
    pods,
    world::World,
};

/// The namespace of nodes' leases.
const LEASES: &str = "kube-node-lease";
/// The conditions that a kubelet reports.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

pub(crate) struct NodeMonitor {
    nodes: Store<Node>,
    leases: Store<Lease>,
    pods: Store<Pod>,
    heard: Heard,
}

impl NodeMonitor {
    pub fn new(world: &World, timings: Timings) -> Self {
        Self {
            nodes: world.nodes.clone(),
            leases: world.leases.clone(),
            pods: world.pods.clone(),
            heard: Heard {
                timings,
                last: HashMap::new(),
            },
        }
    }
}

impl Controller for NodeMonitor {
    type Action = Write;
    const NAME: &'static str = "node-monitor";

    fn inputs(&self) -> Vec<Input> {
        vec![
            self.nodes.input(),
            self.leases.input(),
            self.pods.lifecycle(),
        ]
    }

    fn decide(&mut self, now: Timestamp) -> Plan<Write> {
        let nodes = self.nodes.list();
        let lease = |name: &str| self.leases.get(LEASES, name);
        let mut plan = self.heard.check(&nodes, lease, now);
        if nodes.iter().any(|node| ready(node) == Some("Unknown")) {
            plan.extend(silence_pods(&nodes, &self.pods.list(), now));
        }
        plan
    }
}

/// When every node was last heard of.
struct Heard {
    timings: Timings,
    last: HashMap<String, (Signs, Timestamp)>,
}

/// What changes when a node gives a sign of life.
#[derive(PartialEq)]
struct Signs {
    renewed: Option<MicroTime>,
    reported: Option<Time>,
}

impl Heard {
    fn check(
        &mut self,
        nodes: &[Arc<Node>],
        lease: impl Fn(&str) -> Option<Arc<Lease>>,
        now: Timestamp,
    ) -> Plan<Write> {
        let mut plan = Plan::new();
        self.last
            .retain(|uid, _| nodes.iter().any(|node| pods::uid(&node.metadata) == uid));
        for node in nodes {
            let lease = lease(pods::name(&node.metadata));
            let since = self.listen(node, lease.as_deref(), now);
            let grace = match ready(node) {
                None => self.timings.node_startup_grace,
                Some(_) => self.timings.node_grace,
            };
            let end = since.checked_add(grace).unwrap_or(Timestamp::MAX);
            if end > now {
                plan.wake(end);
            } else if let Some(write) = declare_unknown(node, now) {
                plan.push(write);
            }
        }
        plan
    }

    /// Since when the node has been silent.
    fn listen(&mut self, node: &Node, lease: Option<&Lease>, now: Timestamp) -> Timestamp {
        let ready = condition(node, "Ready").filter(|ready| ready.status != "Unknown");
        let signs = Signs {
            renewed: lease.and_then(|lease| lease.spec.as_ref()?.renew_time.clone()),
            reported: ready.and_then(|ready| ready.last_heartbeat_time.clone()),
        };
        let uid = pods::uid(&node.metadata).to_owned();
        let known = self.last.get_mut(&uid);
        // Our own verdict takes the report away; that is no sign of life.
        let is_news = |old: &Signs| {
            old.renewed != signs.renewed
                || (signs.reported.is_some() && old.reported != signs.reported)
        };
        match known {
            Some((old, since)) if !is_news(old) => *since,
            _ => {
                self.last.insert(uid, (signs, now));
                now
            }
        }
    }
}

/// Says of a silent node that nothing is known of it, once.
fn declare_unknown(node: &Node, now: Timestamp) -> Option<Write> {
    let old = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone());
    let mut conditions = json!(old.unwrap_or_default());
    let list = conditions.as_array_mut()?;
    let before = list.clone();
    for kind in REPORTED {
        match list.iter_mut().find(|condition| condition["type"] == kind) {
            Some(known) if known["status"] == "Unknown" => {}
            Some(known) => {
                let reason = ("NodeStatusUnknown", "Kubelet stopped posting node status.");
                let heartbeat = known["lastHeartbeatTime"].clone();
                *known = unknown(kind, reason, heartbeat, now);
            }
            None => {
                let reason = (
                    "NodeStatusNeverUpdated",
                    "Kubelet never posted node status.",
                );
                list.push(unknown(
                    kind,
                    reason,
                    json!(node.metadata.creation_timestamp),
                    now,
                ));
            }
        }
    }
    if *list == before {
        return None;
    }
    let patch = versioned(node, json!({"status": {"conditions": conditions}}));
    let message = format!(
        "Node {} status is now: NodeNotReady",
        pods::name(&node.metadata)
    );
    let note = Note::new(node, Severity::Normal, "NodeNotReady", message).by(COMPONENT);
    Some(Write::patch(Target::of(node).sub("status"), patch).note(note))
}

fn unknown(kind: &str, (reason, message): (&str, &str), heartbeat: Value, now: Timestamp) -> Value {
    json!({
        "type": kind, "status": "Unknown", "reason": reason, "message": message,
        "lastHeartbeatTime": heartbeat, "lastTransitionTime": Time(now),
    })
}

/// Pods of unknown nodes serve nobody, whatever their node said last.
fn silence_pods(nodes: &[Arc<Node>], pods: &[Arc<Pod>], now: Timestamp) -> Vec<Write> {
    let silent = |name: &str| {
        let node = nodes.iter().find(|node| pods::name(&node.metadata) == name);
        node.is_some_and(|node| ready(node) == Some("Unknown"))
    };
    let affected = pods
        .iter()
        .filter(|pod| pods::is_ready(pod) && pods::node_name(pod).is_some_and(silent));
    affected.map(|pod| silence(pod, now)).collect()
}

fn silence(pod: &Pod, now: Timestamp) -> Write {
    let old = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone());
    let mut conditions = old.unwrap_or_default();
    for condition in conditions
        .iter_mut()
        .filter(|condition| condition.type_ == "Ready")
    {
        condition.status = "False".into();
        condition.last_transition_time = Some(Time(now));
    }
    let patch = versioned(pod, json!({"status": {"conditions": conditions}}));
    let note = Note::new(pod, Severity::Warning, "NodeNotReady", "Node is not ready").by(COMPONENT);
    Write::patch(Target::of(pod).sub("status"), patch).note(note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, object, texts};

    fn node(conditions: Value) -> Arc<Node> {
        object(json!({
            "metadata": {
                "name": "w1", "uid": "u1", "resourceVersion": "3", "creationTimestamp": "2026-11-25T12:00:00Z",
            },
            "status": {"conditions": conditions},
        }))
    }

    fn posted(heartbeat: &str) -> Arc<Node> {
        node(json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat}]))
    }

    fn lease(renewed: &str) -> Option<Arc<Lease>> {
        (!renewed.is_empty())
            .then(|| object(json!({"metadata": {"name": "w1"}, "spec": {"renewTime": renewed}})))
    }

    /// What a monitor that has known the node since 12:00:00 does at `now`: how many writes, and when it looks again.
    fn later(
        before: &Arc<Node>,
        after: &Arc<Node>,
        leases: [&str; 2],
        now: &str,
    ) -> (usize, Option<Timestamp>) {
        let mut heard = Heard {
            timings: Timings::default(),
            last: HashMap::new(),
        };
        heard.check(
            std::slice::from_ref(before),
            |_| lease(leases[0]),
            at("2026-11-25T12:00:00Z"),
        );
        let plan = heard.check(std::slice::from_ref(after), |_| lease(leases[1]), at(now));
        (plan.actions.len(), plan.again)
    }

    #[test]
    fn silence_makes_unknown() {
        let old = "2020-01-01T00:00:00.000000Z";
        let new = "2020-01-01T00:00:10.000000Z";
        let known = posted("2026-11-25T12:00:00Z");
        let fresh = posted("2026-11-25T12:00:30Z");
        let never = node(json!([]));
        let (second_39, second_40) = ("2026-11-25T12:00:39Z", "2026-11-25T12:00:40Z");
        let cases = [
            (
                "within the grace",
                [&known, &known],
                [old, old],
                second_39,
                0,
                Some(second_40),
            ),
            ("after it", [&known, &known], [old, old], second_40, 1, None),
            (
                "renewed, by any clock",
                [&known, &known],
                [old, new],
                second_40,
                0,
                Some("2026-11-25T12:01:20Z"),
            ),
            (
                "posted",
                [&known, &fresh],
                [old, old],
                second_40,
                0,
                Some("2026-11-25T12:01:20Z"),
            ),
            (
                "never heard of: longer",
                [&never, &never],
                ["", ""],
                second_40,
                0,
                Some("2026-11-25T12:01:00Z"),
            ),
        ];
        for (name, [before, after], leases, now, writes, again) in cases {
            assert_eq!(
                later(before, after, leases, now),
                (writes, again.map(at)),
                "{name}"
            );
        }
    }

    #[test]
    fn the_verdict_has_kubernetes_words_and_is_spoken_once() {
        let now = at("2026-11-25T12:01:00Z");
        let node = posted("2026-11-25T12:00:00Z");
        let write = declare_unknown(&node, now).unwrap().to_string();
        let body: Value = serde_json::from_str(&write[write.find('{').unwrap()..]).unwrap();
        let conditions = &body["status"]["conditions"];
        assert_eq!(
            conditions[0],
            json!({
                "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastHeartbeatTime": "2026-11-25T12:00:00Z", "lastTransitionTime": "2026-11-25T12:01:00Z",
            })
        );
        assert_eq!(conditions[1]["reason"], "NodeStatusNeverUpdated");
        assert_eq!(conditions[1]["lastHeartbeatTime"], "2026-11-25T12:00:00Z");
        let judged = self::node(conditions.clone());
        assert_eq!(declare_unknown(&judged, now), None);
    }

    #[test]
    fn pods_of_unknown_nodes_are_not_ready() {
        let silent = node(json!([{"type": "Ready", "status": "Unknown"}]));
        let pod = |node: &str| {
            object::<Pod>(json!({
                "metadata": {"name": "p", "namespace": "default", "resourceVersion": "8"},
                "spec": {"nodeName": node, "containers": []},
                "status": {"conditions": [
                    {"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"},
                ]},
            }))
        };
        let writes = silence_pods(
            &[silent],
            &[pod("w1"), pod("w2")],
            at("2026-11-25T12:01:00Z"),
        );
        assert_eq!(
            texts(&writes),
            [
                r#"PATCH /api/v1/namespaces/default/pods/p/status {"metadata":{"resourceVersion":"8"},"status":{"conditions":[{"status":"True","type":"Initialized"},{"lastTransitionTime":"2026-11-25T12:01:00Z","status":"False","type":"Ready"}]}}"#
            ]
        );
    }
}
