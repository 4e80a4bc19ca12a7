//! A small language for clusters with one DaemonSet.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::testing::{at, object};

pub const NOW: &str = "2026-11-25T12:00:00Z";

/// A set named `agent` with this template pod and strategy.
pub fn set(pod: Value, strategy: Value) -> Arc<DaemonSet> {
    let mut spec = json!({"containers": [{"name": "c"}]});
    spec.as_object_mut()
        .unwrap()
        .extend(pod.as_object().unwrap().clone());
    object(json!({
        "metadata": {"name": "agent", "namespace": "kube-system", "uid": "set", "generation": 2},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}}, "updateStrategy": strategy,
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": spec},
        },
    }))
}

/// `w1` or `w1 key:effect label=value`.
pub fn nodes(list: &[&str]) -> Vec<Arc<Node>> {
    list.iter()
        .map(|text| {
            let mut words = text.split(' ');
            let name = words.next().unwrap();
            let (mut taints, mut labels) = (vec![], json!({}));
            for word in words {
                match word.split_once('=') {
                    Some((key, value)) => labels[key] = value.into(),
                    None => {
                        let (key, effect) = word.split_once(':').unwrap();
                        taints.push(
                            json!({"key": format!("node.kubernetes.io/{key}"), "effect": effect}),
                        );
                    }
                }
            }
            object(
                json!({"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}}),
            )
        })
        .collect()
}

/// `name node` and any of `old`, `ready`, `failed`, `going`, `pinned` (not bound yet), `orphan`. Later ones are younger.
pub fn pods(set: &DaemonSet, list: &[&str]) -> Vec<Arc<Pod>> {
    let hash = template::hash(&set.spec.as_ref().unwrap().template);
    let made = list.iter().enumerate().map(|(age, text)| {
        let words: Vec<&str> = text.split(' ').collect();
        let is = |word: &str| words[2..].contains(&word);
        let hash = if is("old") { "old" } else { &hash };
        let mut pod = json!({
            "metadata": {
                "name": words[0], "uid": words[0], "namespace": "kube-system", "resourceVersion": "1",
                "labels": {"app": "agent", "controller-revision-hash": hash},
                "creationTimestamp": format!("2026-11-25T11:00:{age:02}Z"),
            },
            "spec": {"containers": []}, "status": {"phase": if is("failed") { "Failed" } else { "Running" }},
        });
        if !is("orphan") {
            pod["metadata"]["ownerReferences"] = json!([owner(set)]);
        }
        if is("pinned") {
            pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!({
                "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [words[1]]}]}],
            });
        } else {
            pod["spec"]["nodeName"] = words[1].into();
        }
        if is("going") {
            pod["metadata"]["deletionTimestamp"] = NOW.into();
        }
        if is("ready") {
            pod["status"]["conditions"] =
                json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-25T11:59:30Z"}]);
        }
        object(pod)
    });
    made.collect()
}

/// `+node` for a pod to create, `-pod` for one to delete.
pub fn managed(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> String {
    let mut plan = Plan::new();
    let spec = set.spec.as_ref().unwrap();
    let view = View::new(set, spec, nodes, pods, at(NOW));
    view.manage(&mut Failures::default(), &mut plan);
    let mut words: Vec<String> = plan
        .actions
        .iter()
        .map(|write| {
            let text = write.to_string();
            match text.split_once(" {") {
                Some((_, body)) if text.starts_with("POST") => {
                    let pod: Pod = serde_json::from_str(&format!("{{{body}")).unwrap();
                    format!("+{}", placement::target(&pod).unwrap())
                }
                Some((path, _)) => format!("-{}", path.rsplit('/').next().unwrap()),
                None => text,
            }
        })
        .collect();
    words.sort();
    words.join(" ")
}
