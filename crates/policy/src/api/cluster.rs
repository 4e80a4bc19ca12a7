//! `ClusterNetworkPolicy`, `policy.networking.k8s.io/v1alpha2`.
//!
//! Fields and meaning are those of `apis/v1alpha2/clusternetworkpolicy_types.go` of kubernetes-sigs/network-policy-api
//! (KEP-2091). A field of a newer version is not read: the peer then has no field set, and its rule fails closed as
//! the specification wants (Accept matches nothing, Deny and Pass deny everything).
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};

/// A policy of the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterNetworkPolicy {
    /// Its name; there is no namespace.
    pub metadata: ObjectMeta,
    /// What it says.
    pub spec: ClusterNetworkPolicySpec,
}

/// What a `ClusterNetworkPolicy` says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterNetworkPolicySpec {
    /// Before or behind the policies of namespaces.
    pub tier: PolicyTier,
    /// 0 to 1000; lower goes first within the tier. Equal ones go by name here; the specification leaves it open.
    pub priority: i32,
    /// Whose traffic it decides. Pods in the host's network never are.
    pub subject: Subject,
    /// Rules for what the subject receives; the first that matches decides. None: no effect on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Vec<ClusterRule>>,
    /// Rules for what the subject sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<ClusterRule>>,
}

/// The tier of a `ClusterNetworkPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyTier {
    /// Before every other policy.
    #[default]
    Admin,
    /// Behind every other policy; only for pods that no `NetworkPolicy` isolates.
    Baseline,
}

/// Exactly one field must be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// Every pod of these namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Some pods of some namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPod>,
}

/// Pods by the labels of their namespace and their own; an empty selector selects all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespacedPod {
    /// Of the namespace.
    #[serde(default)]
    pub namespace_selector: LabelSelector,
    /// Of the pod.
    #[serde(default)]
    pub pod_selector: LabelSelector,
}

/// A rule of either direction: the specification's two types differ in the name of the peers only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterRule {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happens to what matches.
    pub action: Action,
    /// `from` of an ingress rule, `to` of an egress rule: at least one.
    #[serde(alias = "from", alias = "to", default)]
    pub peers: Vec<ClusterPeer>,
    /// Absent: whatever protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<ProtocolMatch>>,
}

/// What a rule of a `ClusterNetworkPolicy` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Allowed; nothing further is asked in this direction.
    Accept,
    /// Denied; nothing further is asked.
    #[default]
    Deny,
    /// The rest of the tier is skipped.
    Pass,
}

/// Exactly one field must be set. The last three are for egress only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPeer {
    /// Every pod of these namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Some pods of some namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPod>,
    /// The addresses of these nodes; an empty selector selects all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<LabelSelector>,
    /// Addresses, of pods too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// Not supported: the rule fails closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain_names: Option<Vec<String>>,
}

/// Exactly one field must be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProtocolMatch {
    /// TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Protocol>,
    /// UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<Protocol>,
    /// SCTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sctp: Option<Protocol>,
    /// A container port of the receiving pod, by its name, of whatever protocol it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_named_port: Option<String>,
}

/// What of a protocol matches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    /// Absent: every port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<Port>,
}

/// Exactly one field must be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// One port, 1 to 65535.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i32>,
    /// Several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<PortRange>,
}

/// Ports from `start` to `end`, both included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PortRange {
    /// The first, 1 to 65535.
    pub start: i32,
    /// The last, not below the first.
    pub end: i32,
}
