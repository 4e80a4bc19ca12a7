//! Which lists are merged item by item, and by what: Kubernetes' `patchStrategy` and `patchMergeKey` tags.

use crate::protobuf::schema::{Message, Schema, Shape, Type};

/// How a list is patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListStrategy {
    /// The patch's list is the new list.
    Replace,
    /// Items are objects, the same if this field is the same.
    MergeBy(&'static str),
    /// Items are values, added if they are not there.
    Union,
}

/// `message.field` to its strategy; all others are replaced.
const LISTS: &[(&str, ListStrategy)] = {
    use ListStrategy::{MergeBy, Union};
    &[
        ("meta.ObjectMeta.finalizers", Union),
        ("meta.ObjectMeta.ownerReferences", MergeBy("uid")),
        ("core.PodSpec.volumes", MergeBy("name")),
        ("core.PodSpec.initContainers", MergeBy("name")),
        ("core.PodSpec.containers", MergeBy("name")),
        ("core.PodSpec.ephemeralContainers", MergeBy("name")),
        ("core.PodSpec.imagePullSecrets", MergeBy("name")),
        ("core.PodSpec.hostAliases", MergeBy("ip")),
        (
            "core.PodSpec.topologySpreadConstraints",
            MergeBy("topologyKey"),
        ),
        ("core.PodSpec.schedulingGates", MergeBy("name")),
        ("core.PodSpec.resourceClaims", MergeBy("name")),
        ("core.Container.ports", MergeBy("containerPort")),
        ("core.Container.env", MergeBy("name")),
        ("core.Container.volumeMounts", MergeBy("mountPath")),
        ("core.Container.volumeDevices", MergeBy("devicePath")),
        (
            "core.EphemeralContainerCommon.ports",
            MergeBy("containerPort"),
        ),
        ("core.EphemeralContainerCommon.env", MergeBy("name")),
        (
            "core.EphemeralContainerCommon.volumeMounts",
            MergeBy("mountPath"),
        ),
        (
            "core.EphemeralContainerCommon.volumeDevices",
            MergeBy("devicePath"),
        ),
        ("core.PodStatus.conditions", MergeBy("type")),
        ("core.PodStatus.podIPs", MergeBy("ip")),
        ("core.PodStatus.hostIPs", MergeBy("ip")),
        ("core.PodStatus.resourceClaimStatuses", MergeBy("name")),
        ("core.ServiceAccount.secrets", MergeBy("name")),
        ("core.ServiceSpec.ports", MergeBy("port")),
        ("core.ServiceStatus.conditions", MergeBy("type")),
        ("core.NodeSpec.podCIDRs", Union),
        ("core.NodeStatus.conditions", MergeBy("type")),
        ("core.NodeStatus.addresses", MergeBy("type")),
        ("core.NamespaceStatus.conditions", MergeBy("type")),
        (
            "core.PersistentVolumeClaimStatus.conditions",
            MergeBy("type"),
        ),
        (
            "core.ReplicationControllerStatus.conditions",
            MergeBy("type"),
        ),
        ("apps.DaemonSetStatus.conditions", MergeBy("type")),
        ("apps.DeploymentStatus.conditions", MergeBy("type")),
        ("apps.ReplicaSetStatus.conditions", MergeBy("type")),
        ("apps.StatefulSetStatus.conditions", MergeBy("type")),
        (
            "policy.PodDisruptionBudgetStatus.conditions",
            MergeBy("type"),
        ),
        ("storage.CSINodeSpec.drivers", MergeBy("name")),
    ]
};

/// A place in the schema; none where the type is not known, or is a map or plain value.
pub(super) type Place = Option<&'static Message>;

/// The type of a whole object.
pub(super) fn top(api_version: &str, kind: &str) -> Place {
    Schema::get()
        .top_level(api_version, kind)
        .map(|(_, message)| message)
}

/// How the list in this field is patched, and the type of the field's values.
pub(super) fn field(place: Place, name: &str) -> (ListStrategy, Place) {
    let schema = Schema::get();
    let Some((owner, field)) = place.and_then(|message| schema.member(message, name)) else {
        return (ListStrategy::Replace, None);
    };
    let inner = match field.kind {
        // The values of a map are found under keys, not under fields of the type.
        Type::Message(id) if field.shape != Shape::Map => Some(schema.message(id)),
        _ => None,
    };
    let full = format!("{}.{name}", owner.name);
    let found = LISTS.iter().find(|(field, _)| *field == full);
    (found.map_or(ListStrategy::Replace, |(_, s)| *s), inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_names_a_list_of_the_schema() {
        let schema = Schema::get();
        for (full, strategy) in LISTS {
            let (message, name) = full.rsplit_once('.').unwrap();
            let message = schema.named(message).unwrap_or_else(|| panic!("{full}"));
            let (_, field) = schema
                .member(message, name)
                .unwrap_or_else(|| panic!("{full}"));
            assert_eq!(field.shape, Shape::List, "{full}");
            if let (ListStrategy::MergeBy(key), Type::Message(id)) = (strategy, &field.kind) {
                assert!(schema.member(schema.message(*id), key).is_some(), "{full}");
            }
        }
    }

    #[test]
    fn types_are_followed_through_templates() {
        let place = top("apps/v1", "Deployment");
        let (_, spec) = field(place, "spec");
        let (_, template) = field(spec, "template");
        let (_, spec) = field(template, "spec");
        let (strategy, container) = field(spec, "containers");
        assert_eq!(strategy, ListStrategy::MergeBy("name"));
        assert_eq!(
            field(container, "ports").0,
            ListStrategy::MergeBy("containerPort")
        );
        assert_eq!(field(container, "args").0, ListStrategy::Replace);
        assert!(top("x/v1", "Y").is_none());
    }
}
