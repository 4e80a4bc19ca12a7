//! The evictor: pods leave a node whose NoExecute taints they do not tolerate, or not any longer.
//!
//! Times count from when the taint was seen here, so that nobody is evicted for the time the control plane was away.
//! When no node at all is ready, it is more likely that the control plane is cut off than that every machine died, and
//! there is nowhere to go anyway: then nobody is evicted, and all times start anew when a node is back.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

use super::{COMPONENT, NOT_READY, UNREACHABLE, ready};
use crate::{
    frame::{Controller, Input, Note, Plan, Precondition, Severity, Store, Target, Write},
    matching::{self, NO_EXECUTE, tolerates},
    pods,
    world::World,
};

pub(crate) struct NodeEvictor {
    nodes: Store<Node>,
    pods: Store<Pod>,
    seen: Seen,
}

impl NodeEvictor {
    pub fn new(world: &World) -> Self {
        Self {
            nodes: world.nodes.clone(),
            pods: world.pods.clone(),
            seen: Seen::default(),
        }
    }
}

impl Controller for NodeEvictor {
    type Action = Write;
    const NAME: &'static str = "node-evictor";

    fn inputs(&self) -> Vec<Input> {
        vec![self.nodes.input(), self.pods.input()]
    }

    fn decide(&mut self, now: Timestamp) -> Plan<Write> {
        let nodes = self.nodes.list();
        if !nodes.iter().any(|node| is_tainted(node)) {
            self.seen.0.clear();
            return Plan::new();
        }
        evict(&mut self.seen, &nodes, &self.pods.list(), now)
    }
}

/// Since when each taint is known, by the node's uid and the taint's key.
#[derive(Default)]
struct Seen(HashMap<(String, String), Timestamp>);

impl Seen {
    /// Forgets what is gone, notices what is new.
    fn update(&mut self, nodes: &[Arc<Node>], now: Timestamp) {
        let present = nodes.iter().flat_map(|node| {
            let uid = pods::uid(&node.metadata);
            let evicting = matching::taints(node)
                .iter()
                .filter(|taint| taint.effect == NO_EXECUTE);
            evicting.map(move |taint| (uid.to_owned(), taint.key.clone()))
        });
        let present: HashSet<_> = present.collect();
        self.0.retain(|key, _| present.contains(key));
        for key in present {
            self.0.entry(key).or_insert(now);
        }
    }

    fn since(&self, node: &Node, taint: &Taint) -> Option<Timestamp> {
        let key = (pods::uid(&node.metadata).to_owned(), taint.key.clone());
        self.0.get(&key).copied()
    }
}

fn evict(seen: &mut Seen, nodes: &[Arc<Node>], pods: &[Arc<Pod>], now: Timestamp) -> Plan<Write> {
    let mut plan = Plan::new();
    seen.update(nodes, now);
    if !nodes.iter().any(|node| ready(node) == Some("True")) {
        let lost = [NOT_READY, UNREACHABLE];
        seen.0.retain(|(_, key), since| {
            if lost.contains(&key.as_str()) {
                *since = now;
            }
            true
        });
    }
    let tainted = nodes.iter().filter(|node| is_tainted(node));
    let tainted: HashMap<&str, &Arc<Node>> = tainted
        .map(|node| (pods::name(&node.metadata), node))
        .collect();
    for pod in pods {
        let node = pods::node_name(pod).and_then(|name| tainted.get(name));
        let (Some(node), false) = (
            node,
            pods::is_terminating(&pod.metadata) || pods::is_finished(pod),
        ) else {
            continue;
        };
        match leaves_at(pod, node, seen) {
            Some(when) if when <= now => plan.push(deletion(pod)),
            Some(when) => plan.wake(when),
            None => {}
        }
    }
    plan
}

fn is_tainted(node: &Node) -> bool {
    matching::taints(node)
        .iter()
        .any(|taint| taint.effect == NO_EXECUTE)
}

/// When the pod has to leave the node, if ever.
fn leaves_at(pod: &Pod, node: &Node, seen: &Seen) -> Option<Timestamp> {
    let tolerations = pods::spec(pod).and_then(|spec| spec.tolerations.as_deref());
    let tolerations = tolerations.unwrap_or_default();
    let evicting = matching::taints(node)
        .iter()
        .filter(|taint| taint.effect == NO_EXECUTE);
    evicting
        .filter_map(|taint| {
            let patience = patience(tolerations, taint)?;
            seen.since(node, taint)?.checked_add(patience).ok()
        })
        .min()
}

/// How long a pod bears a taint; none is for ever.
fn patience(tolerations: &[Toleration], taint: &Taint) -> Option<Duration> {
    let covering: Vec<&Toleration> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
    if covering.is_empty() {
        return Some(Duration::ZERO);
    }
    let limits = covering.iter().filter_map(|t| t.toleration_seconds);
    let seconds = limits.min()?.max(0);
    Some(Duration::from_secs(seconds.unsigned_abs()))
}

fn deletion(pod: &Pod) -> Write {
    let meta = &pod.metadata;
    let message = format!(
        "Marking for deletion Pod {}/{}",
        pods::namespace(meta),
        pods::name(meta)
    );
    let note = Note::new(pod, Severity::Normal, "TaintManagerEviction", message).by(COMPONENT);
    Write::delete(Target::of(pod), &Precondition::same(pod)).note(note)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{at, object, texts};

    fn node(name: &str, status: &str, taint: &str) -> Arc<Node> {
        let taints = if taint.is_empty() {
            json!([])
        } else {
            json!([{"key": taint, "effect": "NoExecute"}])
        };
        object(json!({
            "metadata": {"name": name, "uid": name}, "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": status}]},
        }))
    }

    fn pod(name: &str, tolerations: Value) -> Arc<Pod> {
        object(json!({
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"nodeName": "w1", "containers": [], "tolerations": tolerations},
        }))
    }

    fn bearing(seconds: i64) -> Value {
        json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}])
    }

    /// Names of evicted pods, and when to look again, `seconds` after the taint appeared.
    fn outcome(
        seen: &mut Seen,
        nodes: &[Arc<Node>],
        seconds: i64,
    ) -> (Vec<String>, Option<Timestamp>) {
        let pods = [
            pod("five-minutes", bearing(300)),
            pod("for-ever", json!([{"operator": "Exists"}])),
            pod("not-at-all", json!([])),
            pod("one-minute", bearing(60)),
        ];
        let plan = evict(
            seen,
            nodes,
            &pods,
            at("2026-11-25T12:00:00Z") + Duration::from_secs(seconds as u64),
        );
        let paths = texts(&plan.actions);
        let name = |text: &String| text.split(['/', ' ']).nth(7).unwrap().to_owned();
        (paths.iter().map(name).collect(), plan.again)
    }

    #[test]
    fn pods_leave_when_their_patience_ends() {
        let mut seen = Seen::default();
        let nodes = [node("w1", "Unknown", UNREACHABLE), node("w2", "True", "")];
        let minute = at("2026-11-25T12:01:00Z");
        let five = at("2026-11-25T12:05:00Z");
        assert_eq!(
            outcome(&mut seen, &nodes, 0),
            (vec!["not-at-all".into()], Some(minute))
        );
        assert_eq!(
            outcome(&mut seen, &nodes, 60),
            (vec!["not-at-all".into(), "one-minute".into()], Some(five))
        );
        assert_eq!(outcome(&mut seen, &nodes, 300).0.len(), 3);
        // The node comes back and is lost again: the time starts anew.
        outcome(
            &mut seen,
            &[node("w1", "True", ""), node("w2", "True", "")],
            310,
        );
        assert_eq!(outcome(&mut seen, &nodes, 320).0, ["not-at-all"]);
    }

    #[test]
    fn nobody_is_evicted_for_the_time_every_node_was_lost() {
        let mut seen = Seen::default();
        let lost = [
            node("w1", "Unknown", UNREACHABLE),
            node("w2", "Unknown", UNREACHABLE),
        ];
        outcome(&mut seen, &lost, 0);
        outcome(&mut seen, &lost, 300);
        let one_back = [node("w1", "Unknown", UNREACHABLE), node("w2", "True", "")];
        assert_eq!(
            outcome(&mut seen, &one_back, 310).1,
            Some(at("2026-11-25T12:06:00Z"))
        );
        assert_eq!(
            outcome(&mut seen, &one_back, 360).0,
            ["not-at-all", "one-minute"]
        );
    }
}
