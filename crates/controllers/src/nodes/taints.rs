//! The tainter: what a node's conditions say is mirrored in its taints, which scheduling and eviction look at.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;

use super::{NOT_READY, UNREACHABLE, condition, ready};
use crate::{
    frame::{Controller, Input, Plan, Store, Target, Write, versioned},
    matching::{self, NO_EXECUTE, NO_SCHEDULE},
    world::World,
};

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that are bad when true, and their taints.
const PROBLEMS: [(&str, &str); 4] = [
    (
        "NetworkUnavailable",
        "node.kubernetes.io/network-unavailable",
    ),
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
];

pub(crate) struct NodeTainter {
    nodes: Store<Node>,
}

impl NodeTainter {
    pub fn new(world: &World) -> Self {
        Self {
            nodes: world.nodes.clone(),
        }
    }
}

impl Controller for NodeTainter {
    type Action = Write;
    const NAME: &'static str = "node-tainter";

    fn inputs(&self) -> Vec<Input> {
        vec![self.nodes.input()]
    }

    fn decide(&mut self, now: Timestamp) -> Plan<Write> {
        let mut plan = Plan::new();
        let nodes: Vec<Arc<Node>> = self.nodes.list();
        plan.extend(nodes.iter().filter_map(|node| mirror(node, now)));
        plan
    }
}

/// The change that makes a node's taints say what its conditions say.
fn mirror(node: &Node, now: Timestamp) -> Option<Write> {
    let wanted = wanted(node);
    let current = matching::taints(node);
    let is_wanted = |taint: &Taint| {
        let same = |(key, effect): &(&str, &str)| *key == taint.key && *effect == taint.effect;
        wanted.iter().any(same)
    };
    let mut taints: Vec<Taint> = current
        .iter()
        .filter(|taint| !is_ours(taint) || is_wanted(taint))
        .cloned()
        .collect();
    for (key, effect) in &wanted {
        if !current
            .iter()
            .any(|taint| taint.key == *key && taint.effect == *effect)
        {
            taints.push(Taint {
                key: (*key).to_owned(),
                effect: (*effect).to_owned(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    if taints == current {
        return None;
    }
    let patch = versioned(node, json!({"spec": {"taints": taints}}));
    Some(Write::patch(Target::of(node), patch))
}

/// Key and effect of every taint the node should have by its conditions.
fn wanted(node: &Node) -> Vec<(&'static str, &'static str)> {
    let mut wanted = match ready(node) {
        Some("True") => vec![],
        Some("False") => vec![(NOT_READY, NO_SCHEDULE), (NOT_READY, NO_EXECUTE)],
        Some(_) => vec![(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)],
        // It has registered but not spoken: nothing is sent to it, and nothing is there to leave.
        None => vec![(NOT_READY, NO_SCHEDULE)],
    };
    for (kind, taint) in PROBLEMS {
        if condition(node, kind).is_some_and(|condition| condition.status == "True") {
            wanted.push((taint, NO_SCHEDULE));
        }
    }
    let spec = node.spec.as_ref();
    if spec.is_some_and(|spec| spec.unschedulable == Some(true)) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    wanted
}

/// Taints that mirror conditions; others belong to the user.
fn is_ours(taint: &Taint) -> bool {
    let key = taint.key.as_str();
    let mirrored = PROBLEMS.iter().any(|(_, problem)| key == *problem);
    match taint.effect.as_str() {
        NO_SCHEDULE => mirrored || [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&key),
        NO_EXECUTE => [NOT_READY, UNREACHABLE].contains(&key),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::{at, object};

    /// Taints as `key:effect`, in order, or `-` for no change.
    fn outcome(conditions: &[(&str, &str)], unschedulable: bool, taints: &[&str]) -> String {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(kind, status)| json!({"type": kind, "status": status}))
            .collect();
        let taints: Vec<Value> = taints
            .iter()
            .map(|text| {
                let (key, effect) = text.rsplit_once(':').unwrap();
                json!({"key": key, "effect": effect})
            })
            .collect();
        let node = object::<Node>(json!({
            "metadata": {"name": "w1"}, "spec": {"unschedulable": unschedulable, "taints": taints},
            "status": {"conditions": conditions},
        }));
        let Some(write) = mirror(&node, at("2026-11-25T12:00:00Z")) else {
            return "-".into();
        };
        let write = write.to_string();
        let body: Value = serde_json::from_str(&write[write.find('{').unwrap()..]).unwrap();
        let list = body["spec"]["taints"].as_array().unwrap().iter();
        let texts: Vec<String> = list
            .map(|t| {
                format!(
                    "{}:{}",
                    t["key"].as_str().unwrap(),
                    t["effect"].as_str().unwrap()
                )
            })
            .collect();
        texts.join(" ").replace("node.kubernetes.io/", "")
    }

    #[test]
    fn taints_mirror_conditions() {
        let not_ready = [
            "node.kubernetes.io/not-ready:NoSchedule",
            "node.kubernetes.io/not-ready:NoExecute",
        ];
        let user = [
            "dedicated:NoExecute",
            "node.kubernetes.io/not-ready:PreferNoSchedule",
        ];
        assert_eq!(outcome(&[], false, &[]), "not-ready:NoSchedule");
        assert_eq!(
            outcome(&[("Ready", "False")], false, &[]),
            "not-ready:NoSchedule not-ready:NoExecute"
        );
        assert_eq!(outcome(&[("Ready", "False")], false, &not_ready), "-");
        assert_eq!(
            outcome(&[("Ready", "Unknown")], false, &not_ready),
            "unreachable:NoSchedule unreachable:NoExecute"
        );
        assert_eq!(outcome(&[("Ready", "True")], false, &not_ready), "");
        assert_eq!(outcome(&[("Ready", "True")], false, &user), "-");
        assert_eq!(
            outcome(
                &[("Ready", "True"), ("NetworkUnavailable", "True")],
                false,
                &[]
            ),
            "network-unavailable:NoSchedule"
        );
        assert_eq!(
            outcome(
                &[("Ready", "True"), ("NetworkUnavailable", "False")],
                false,
                &[]
            ),
            "-"
        );
        assert_eq!(
            outcome(
                &[("Ready", "True"), ("DiskPressure", "True")],
                true,
                &user[..1]
            ),
            "dedicated:NoExecute disk-pressure:NoSchedule unschedulable:NoSchedule"
        );
        assert_eq!(
            outcome(
                &[("Ready", "True")],
                false,
                &["node.kubernetes.io/unschedulable:NoSchedule"]
            ),
            ""
        );
    }
}
