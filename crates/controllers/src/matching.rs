//! Which pods fit which nodes and which selectors: taints and tolerations, node affinity, label selectors.
//!
//! Source: kubernetes.io, "Assigning Pods to Nodes" and "Taints and Tolerations".

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::core::{Selector, SelectorExt};

pub(crate) type Labels = BTreeMap<String, String>;

/// New pods stay away.
pub(crate) const NO_SCHEDULE: &str = "NoSchedule";
/// New pods stay away, and running ones leave.
pub(crate) const NO_EXECUTE: &str = "NoExecute";
/// New pods stay away if they can.
pub(crate) const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";

/// Whether a toleration covers a taint.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    if given(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    let key = given(&toleration.key);
    if key.as_ref().is_some_and(|key| *key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => {
            key.is_some() && given(&toleration.value) == given(&taint.value)
        }
        Some(_) => false,
    }
}

/// The first of the taints with one of the effects that nothing tolerates.
pub(crate) fn untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    effects: &[&str],
) -> Option<&'a Taint> {
    let mut hard = taints
        .iter()
        .filter(|taint| effects.contains(&taint.effect.as_str()));
    hard.find(|taint| {
        !tolerations
            .iter()
            .any(|toleration| tolerates(toleration, taint))
    })
}

/// The taints of a node.
pub(crate) fn taints(node: &Node) -> &[Taint] {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    taints.unwrap_or_default()
}

/// Whether a pod's node selector and required node affinity let it run on a node.
pub(crate) fn wants_node(pod: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let selected = pod
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)));
    let affinity = pod.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    selected
        && required.is_none_or(|r| {
            r.node_selector_terms
                .iter()
                .any(|term| term_matches(term, node))
        })
}

/// Whether a node meets every requirement of a term. An empty term matches nothing.
pub(crate) fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |key: &str| node.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let field = |key: &str| match key {
        "metadata.name" => node.metadata.name.as_deref(),
        _ => None,
    };
    !(expressions.is_empty() && fields.is_empty())
        && expressions
            .iter()
            .all(|r| requirement_holds(r, label(&r.key)))
        && fields.iter().all(|r| requirement_holds(r, field(&r.key)))
}

fn requirement_holds(requirement: &NodeSelectorRequirement, actual: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = |actual: &str| values.iter().any(|value| value == actual);
    let compare = |holds: fn(&i64, &i64) -> bool| {
        let wanted = values.first().and_then(|v| v.parse().ok());
        let actual = actual.and_then(|a| a.parse().ok());
        matches!((actual, wanted), (Some(a), Some(w)) if holds(&a, &w))
    };
    match requirement.operator.as_str() {
        "In" => actual.is_some_and(among),
        "NotIn" => !actual.is_some_and(among),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}

/// Whether labels match a selector; one that cannot be understood matches nothing.
pub(crate) fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let none = Labels::new();
    Selector::try_from(selector.clone()).is_ok_and(|s| s.matches(labels.unwrap_or(&none)))
}

/// Whether labels contain all of `wanted`.
pub(crate) fn contains(labels: Option<&Labels>, wanted: &Labels) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.is_some_and(|l| l.get(key) == Some(value)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::object;

    fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn tolerations_cover_taints() {
        let taint: Taint = from(json!({"key": "k", "value": "v", "effect": "NoSchedule"}));
        let cases = [
            (json!({"key": "k", "value": "v"}), true),
            (
                json!({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}),
                true,
            ),
            (json!({"key": "k", "value": "w"}), false),
            (json!({"key": "k", "operator": "Exists"}), true),
            (
                json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}),
                false,
            ),
            (json!({"operator": "Exists"}), true),
            (json!({"operator": "Exists", "effect": ""}), true),
            (json!({"value": "v"}), false),
            (json!({"key": "other", "operator": "Exists"}), false),
        ];
        for (toleration, expected) in cases {
            assert_eq!(
                tolerates(&from(toleration.clone()), &taint),
                expected,
                "{toleration}"
            );
        }
    }

    #[test]
    fn pods_want_nodes() {
        let node = object::<Node>(json!({
            "metadata": {"name": "w1", "labels": {"zone": "a", "size": "4"}}, "spec": {},
        }));
        let required = |terms: Value| {
            json!({"containers": [], "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
            }}})
        };
        let label = |key: &str, operator: &str, values: &[&str]| {
            required(
                json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]),
            )
        };
        let name = |value: &str| {
            required(
                json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [value]}]}]),
            )
        };
        let cases = [
            (json!({"containers": []}), true),
            (
                json!({"containers": [], "nodeSelector": {"zone": "a"}}),
                true,
            ),
            (
                json!({"containers": [], "nodeSelector": {"zone": "b"}}),
                false,
            ),
            (label("zone", "In", &["a", "b"]), true),
            (label("zone", "NotIn", &["a"]), false),
            (label("absent", "NotIn", &["a"]), true),
            (label("zone", "Exists", &[]), true),
            (label("zone", "DoesNotExist", &[]), false),
            (label("size", "Gt", &["3"]), true),
            (label("size", "Lt", &["4"]), false),
            (label("zone", "Gt", &["3"]), false),
            (label("zone", "Like", &["a"]), false),
            (name("w1"), true),
            (name("w2"), false),
            (required(json!([{}])), false),
            (required(json!([])), false),
            (
                required(
                    json!([{}, {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]),
                ),
                true,
            ),
        ];
        for (pod, expected) in cases {
            assert_eq!(wants_node(&from(pod.clone()), &node), expected, "{pod}");
        }
    }
}
