//! Which nodes a daemon pod belongs on.

use k8s_openapi::api::{
    apps::v1::DaemonSetSpec,
    core::v1::{Node, Pod, Toleration},
};

use crate::{
    matching::{self, NO_EXECUTE, NO_SCHEDULE},
    pods,
};

/// What a node means to a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// A pod should run there.
    Run,
    /// No new pod is sent there, and one that runs may stay.
    Stay,
    /// No pod should be there.
    Leave,
}

/// Decides about one node. `tolerations` are the template's and those every daemon pod gets.
pub(super) fn place(spec: &DaemonSetSpec, tolerations: &[Toleration], node: &Node) -> Placement {
    let Some(pod) = &spec.template.spec else {
        return Placement::Leave;
    };
    let named = pod.node_name.as_deref().filter(|name| !name.is_empty());
    if named.is_some_and(|name| name != pods::name(&node.metadata))
        || !matching::wants_node(pod, node)
    {
        return Placement::Leave;
    }
    let taints = matching::taints(node);
    if matching::untolerated(taints, tolerations, &[NO_EXECUTE]).is_some() {
        return Placement::Leave;
    }
    if matching::untolerated(taints, tolerations, &[NO_SCHEDULE]).is_some() {
        return Placement::Stay;
    }
    Placement::Run
}

/// The node a daemon pod runs on, or is pinned to as long as it is not bound.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    if let Some(name) = pods::node_name(pod) {
        return Some(name);
    }
    let affinity = pod
        .spec
        .as_ref()?
        .affinity
        .as_ref()?
        .node_affinity
        .as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    let mut names = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
    names
        .find_map(|field| field.values.as_ref()?.first())
        .map(String::as_str)
}
