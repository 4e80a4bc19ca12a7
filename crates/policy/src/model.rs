//! A cluster as far as policy needs it, and one flow through it.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;

use crate::api::{AddressSet, ClusterNetworkPolicy, MalhaPolicy, NetworkPolicy, STAGED_ANNOTATION};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;
/// Namespace and name of a pod.
pub type PodKey = (String, String);

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels, with the `kubernetes.io/metadata.name` that the API server sets.
    pub labels: Labels,
}

/// A pod that runs or is about to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// The service account it runs as.
    pub service_account: String,
    /// The node it is bound to; empty: none yet.
    pub node: String,
    /// It uses its node's network: no policy selects it, as subject or as peer.
    pub host_network: bool,
    /// Its addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// The ports its containers name.
    pub ports: Vec<NamedPort>,
}

/// A container port with a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// The name.
    pub name: String,
    /// The protocol.
    pub protocol: Transport,
    /// The port.
    pub port: u16,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Every address of `status.addresses` that is one.
    pub addresses: Vec<IpAddr>,
}

/// A protocol with ports that policies speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Which way a flow goes, seen from the end whose policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To it.
    Ingress,
    /// From it.
    Egress,
}

/// The first packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Who sends it.
    pub source: IpAddr,
    /// Whom it is for, behind any translation of service addresses.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; 0 for protocols without ports.
    pub port: u16,
}

/// The kinds of policy objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `networking.k8s.io/v1`.
    NetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha2`.
    ClusterNetworkPolicy,
    /// `malha.dev/v1alpha1`.
    MalhaPolicy,
    /// `malha.dev/v1alpha1`.
    MalhaAddressSet,
}

/// The name of a policy object. The order is that of equal priorities.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for kinds that have none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A policy of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// Of a namespace.
    Namespaced(NetworkPolicy),
    /// Of the cluster, by Kubernetes' interface.
    Cluster(ClusterNetworkPolicy),
    /// Of the cluster, by Malha's.
    Malha(MalhaPolicy),
}

/// Ports of a node that no host policy closes, so that nobody locks themselves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailSafe {
    /// What a node always receives.
    pub ingress: Vec<(Transport, u16)>,
    /// What a node may always send to.
    pub egress: Vec<(Transport, u16)>,
}

/// What decides besides objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Ports of nodes that stay open.
    pub fail_safe: FailSafe,
    /// The ranges that pods have their addresses from. Who has one of them and is not known is a pod that may turn out
    /// to be any: rules for pods that allow do not match it, and those that deny or pass deny it. A pod that starts is
    /// so never let through for being new.
    pub pod_ranges: Vec<IpNet>,
}

/// All that decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// By name.
    pub namespaces: BTreeMap<String, Namespace>,
    /// By namespace and name.
    pub pods: BTreeMap<PodKey, Pod>,
    /// By name.
    pub nodes: BTreeMap<String, Node>,
    /// By reference.
    pub policies: BTreeMap<ObjectRef, Policy>,
    /// By name.
    pub address_sets: BTreeMap<String, AddressSet>,
    /// What is no object.
    pub settings: Settings,
}

impl Default for FailSafe {
    /// SSH, the API server, etcd, the kubelet, BGP, the overlay and WireGuard; DNS and DHCP for what a node asks.
    fn default() -> Self {
        use Transport::{Tcp, Udp};
        Self {
            ingress: vec![
                (Tcp, 22),
                (Tcp, 179),
                (Tcp, 2379),
                (Tcp, 2380),
                (Tcp, 6443),
                (Tcp, 10250),
                (Udp, 68),
                (Udp, 8472),
                (Udp, 51820),
            ],
            egress: vec![
                (Tcp, 53),
                (Tcp, 179),
                (Tcp, 2379),
                (Tcp, 2380),
                (Tcp, 6443),
                (Tcp, 10250),
                (Udp, 53),
                (Udp, 67),
                (Udp, 8472),
                (Udp, 51820),
            ],
        }
    }
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// From the name that Kubernetes uses.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }

    /// The name that Kubernetes uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// The protocol with this number, if policies can name it.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.number() == number)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::MalhaPolicy => "MalhaPolicy",
            Self::MalhaAddressSet => "MalhaAddressSet",
        })
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.source, self.destination)?;
        match Transport::from_number(self.protocol) {
            Some(transport) => write!(f, " port {}/{transport}", self.port),
            None => write!(f, " protocol {}", self.protocol),
        }
    }
}

impl Policy {
    /// Its reference. A `NetworkPolicy` without a namespace is one of `default`.
    pub fn object(&self) -> ObjectRef {
        let (kind, metadata) = match self {
            Self::Namespaced(policy) => (Kind::NetworkPolicy, &policy.metadata),
            Self::Cluster(policy) => (Kind::ClusterNetworkPolicy, &policy.metadata),
            Self::Malha(policy) => (Kind::MalhaPolicy, &policy.metadata),
        };
        let namespace = match kind {
            Kind::NetworkPolicy => metadata
                .namespace
                .clone()
                .unwrap_or_else(|| "default".into()),
            _ => String::new(),
        };
        ObjectRef {
            kind,
            namespace,
            name: metadata.name.clone().unwrap_or_default(),
        }
    }

    /// Whether it is only counted: by its annotation, or by its own field.
    pub fn is_staged(&self) -> bool {
        let (metadata, field) = match self {
            Self::Namespaced(policy) => (&policy.metadata, false),
            Self::Cluster(policy) => (&policy.metadata, false),
            Self::Malha(policy) => (&policy.metadata, policy.spec.staged),
        };
        let annotation = metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(STAGED_ANNOTATION));
        field || annotation.is_some_and(|value| value == "true")
    }
}

impl Cluster {
    /// Adds or replaces a policy.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policies.insert(policy.object(), policy);
    }
}

impl Namespace {
    /// From the object. The API server sets the label of the name; a hand-written object may lack it.
    pub fn read(object: &core::Namespace) -> Self {
        let name = object.metadata.name.clone().unwrap_or_default();
        let mut labels = object.metadata.labels.clone().unwrap_or_default();
        labels.insert("kubernetes.io/metadata.name".into(), name.clone());
        Self { name, labels }
    }
}

impl Node {
    /// From the object. Addresses that are host names are left out.
    pub fn read(object: &core::Node) -> Self {
        let addresses = object
            .status
            .iter()
            .flat_map(|s| s.addresses.iter().flatten());
        let addresses: BTreeSet<IpAddr> =
            addresses.filter_map(|a| a.address.parse().ok()).collect();
        Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            labels: object.metadata.labels.clone().unwrap_or_default(),
            addresses: addresses.into_iter().collect(),
        }
    }
}

impl Pod {
    /// Its key.
    pub fn key(&self) -> PodKey {
        (self.namespace.clone(), self.name.clone())
    }

    /// From the object; nothing for a pod that has ended, whose addresses may be another's by now.
    pub fn read(object: &core::Pod) -> Option<Self> {
        let status = object.status.clone().unwrap_or_default();
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let spec = object.spec.clone().unwrap_or_default();
        let listed = status.pod_ips.into_iter().flatten().map(|ip| ip.ip);
        let addresses: BTreeSet<IpAddr> = listed
            .chain(status.pod_ip)
            .filter_map(|ip| ip.parse().ok())
            .collect();
        // Sidecars are init containers that keep running; their ports are ports of the pod.
        let init = spec.init_containers.unwrap_or_default();
        let sidecars = init
            .into_iter()
            .filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let ports = spec.containers.into_iter().chain(sidecars);
        let ports = ports
            .flat_map(|c| c.ports.unwrap_or_default())
            .filter_map(|port| {
                Some(NamedPort {
                    name: port.name?,
                    protocol: Transport::from_name(port.protocol.as_deref().unwrap_or("TCP"))?,
                    port: u16::try_from(port.container_port).ok()?,
                })
            });
        Some(Self {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
            labels: object.metadata.labels.clone().unwrap_or_default(),
            service_account: spec
                .service_account_name
                .unwrap_or_else(|| "default".into()),
            node: spec.node_name.unwrap_or_default(),
            host_network: spec.host_network.unwrap_or(false),
            addresses: addresses.into_iter().collect(),
            ports: ports.collect(),
        })
    }
}
