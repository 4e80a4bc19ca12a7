//! The policy objects: Kubernetes' own from `k8s-openapi`, the others declared here.

mod cluster;
mod malha;

pub use cluster::{
    Action, ClusterNetworkPolicy, ClusterNetworkPolicySpec, ClusterPeer, ClusterRule,
    NamespacedPod, PolicyTier, Port, PortRange, Protocol, ProtocolMatch, Subject,
};
pub use malha::{
    AddressBlock, AddressSet, AddressSetSpec, MalhaAction, MalhaPeer, MalhaPods, MalhaPolicy,
    MalhaPolicySpec, MalhaRule, MalhaSubject,
};

pub use k8s_openapi::api::networking::v1::NetworkPolicy;

/// On any policy of any kind, with the value `true`: the policy is only counted, as [`MalhaPolicySpec::staged`].
pub const STAGED_ANNOTATION: &str = "malha.dev/staged";

macro_rules! resource {
    ($type:ty, $group:literal, $version:literal, $kind:literal, $plural:literal) => {
        impl k8s_openapi::Resource for $type {
            const API_VERSION: &'static str = concat!($group, "/", $version);
            const GROUP: &'static str = $group;
            const KIND: &'static str = $kind;
            const VERSION: &'static str = $version;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = k8s_openapi::ClusterResourceScope;
        }

        impl k8s_openapi::Metadata for $type {
            type Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
            fn metadata(&self) -> &Self::Ty {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut Self::Ty {
                &mut self.metadata
            }
        }
    };
}
resource!(
    ClusterNetworkPolicy,
    "policy.networking.k8s.io",
    "v1alpha2",
    "ClusterNetworkPolicy",
    "clusternetworkpolicies"
);
resource!(
    MalhaPolicy,
    "malha.dev",
    "v1alpha1",
    "MalhaPolicy",
    "malhapolicies"
);
resource!(
    AddressSet,
    "malha.dev",
    "v1alpha1",
    "MalhaAddressSet",
    "malhaaddresssets"
);
