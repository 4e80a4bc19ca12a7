//! `MalhaPolicy` and `MalhaAddressSet`, `malha.dev/v1alpha1`: what the two kinds of Kubernetes lack, and only that.
//!
//! Ordered rules with deny, decided behind the Admin tier and before `NetworkPolicy`; policy for nodes, with
//! fail-safe ports that no rule can close; selection by service account; named sets of addresses; logging; staging.
//! What no rule decides goes on to the next tier; for a node, which has no further tiers, it is allowed.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};

use super::{NamespacedPod, ProtocolMatch};

/// A policy of the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MalhaPolicy {
    /// Its name; there is no namespace.
    pub metadata: ObjectMeta,
    /// What it says.
    pub spec: MalhaPolicySpec,
}

/// What a `MalhaPolicy` says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MalhaPolicySpec {
    /// Lower goes first; equal ones go by name.
    #[serde(default)]
    pub order: i32,
    /// Not enforced: the datapath counts and reports where the verdict would differ if it were.
    #[serde(default)]
    pub staged: bool,
    /// Whose traffic it decides.
    pub subject: MalhaSubject,
    /// Rules for what the subject receives; the first that matches decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Vec<MalhaRule>>,
    /// Rules for what the subject sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<MalhaRule>>,
}

/// Exactly one field must be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MalhaSubject {
    /// Pods; those in the host's network never are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<MalhaPods>,
    /// Nodes: what their own network stack sends and receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<LabelSelector>,
}

/// Pods by labels and by service account. An empty selector selects all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MalhaPods {
    /// Labels of the namespace and of the pod.
    #[serde(flatten)]
    pub labels: NamespacedPod,
    /// Names of service accounts. Absent: whichever; empty is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<Vec<String>>,
}

/// A rule of either direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MalhaRule {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happens to what matches.
    pub action: MalhaAction,
    /// The other end. Absent: whoever; empty is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<MalhaPeer>>,
    /// Absent: whatever protocol; empty is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<ProtocolMatch>>,
    /// Report what the rule decides as an event, allowed flows too.
    #[serde(default)]
    pub log: bool,
}

/// What a rule of a `MalhaPolicy` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MalhaAction {
    /// Allowed; nothing further is asked in this direction.
    Allow,
    /// Denied; nothing further is asked.
    #[default]
    Deny,
    /// The other `MalhaPolicy` rules are skipped.
    Pass,
}

/// Exactly one field must be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MalhaPeer {
    /// Pods; those in the host's network never are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<MalhaPods>,
    /// The addresses of nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<LabelSelector>,
    /// Addresses, of pods too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<AddressBlock>>,
    /// Names of `MalhaAddressSet` objects. One that does not exist is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_sets: Option<Vec<String>>,
}

/// A range of addresses with holes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressBlock {
    /// The range.
    pub cidr: String,
    /// The holes, each within the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except: Option<Vec<String>>,
}

/// A named set of addresses for the rules of many policies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AddressSet {
    /// Its name; there is no namespace.
    pub metadata: ObjectMeta,
    /// What it holds.
    pub spec: AddressSetSpec,
}

/// What a `MalhaAddressSet` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AddressSetSpec {
    /// The ranges; none is an empty set, which is not an error.
    #[serde(default)]
    pub blocks: Vec<AddressBlock>,
}
