//! The reference: one flow, answered from the objects by the words of the specifications. Slow and plain on purpose;
//! it shares nothing with the compiler but the model, so that a mistake in one does not hide in the other.
//!
//! Sources: kubernetes.io "Network Policies" and the types of networking.k8s.io/v1; the types of
//! policy.networking.k8s.io/v1alpha2; the documentation of [`crate::api::MalhaPolicy`].
mod address;
mod cluster;
mod kubernetes;
mod labels;
mod malha;
mod ports;

use std::net::IpAddr;

use crate::model::{Cluster, Direction, Flow, Kind, Node, ObjectRef, Pod, Policy, Transport};

/// Which policies count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Those in force.
    Enforced,
    /// Those in force and the staged ones, as if they were.
    WithStaged,
}

/// Why one end allows or denies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No policy says anything.
    Default,
    /// The node a pod runs on always reaches it, and no `NetworkPolicy` keeps it from its node.
    OwnNode,
    /// A fail-safe port of a node.
    FailSafe,
    /// This rule, counted from 0 in its direction.
    Rule {
        /// The policy.
        object: ObjectRef,
        /// The index.
        index: usize,
    },
    /// `NetworkPolicy` isolates the pod in this direction, and no rule matches.
    Isolated {
        /// The policies that isolate it, by name; at least one.
        by: Vec<ObjectRef>,
    },
}

/// What one end of a flow says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The direction, seen from this end.
    pub direction: Direction,
    /// Whether it may pass.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
}

/// What both ends say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The sender's end; nothing when the sender is no pod and no node.
    pub egress: Option<Side>,
    /// The receiver's end.
    pub ingress: Option<Side>,
}

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Party<'a> {
    /// A pod with a network of its own.
    Pod(&'a Pod),
    /// A node, or a pod in its network.
    Node(&'a Node),
    /// A pod that is not known (yet): see [`crate::model::Settings::pod_ranges`].
    Unknown,
    /// None of them.
    World,
}

impl Answer {
    /// Whether the flow passes: both ends have to allow it.
    pub fn is_allowed(&self) -> bool {
        [&self.egress, &self.ingress]
            .into_iter()
            .flatten()
            .all(|side| side.allowed)
    }
}

/// What one end's tier says: a final word, or nothing.
type Word = Option<(bool, Reason)>;

/// A flow as one end sees it.
struct Question<'a> {
    cluster: &'a Cluster,
    view: View,
    direction: Direction,
    /// The end that is asked.
    subject: Party<'a>,
    /// The other end.
    peer: Party<'a>,
    peer_address: IpAddr,
    /// The pod that receives, whose named ports count.
    receiver: Party<'a>,
    protocol: u8,
    port: u16,
}

/// Who has this address: a pod before a node, and the first by name.
pub fn party<'a>(cluster: &'a Cluster, address: IpAddr) -> Party<'a> {
    let pod = cluster
        .pods
        .values()
        .find(|p| !p.host_network && p.addresses.contains(&address));
    if let Some(pod) = pod {
        return Party::Pod(pod);
    }
    let node = cluster
        .nodes
        .values()
        .find(|n| n.addresses.contains(&address));
    let mut ranges = cluster.settings.pod_ranges.iter();
    let otherwise = match ranges.any(|range| range.contains(&address)) {
        true => Party::Unknown,
        false => Party::World,
    };
    node.map_or(otherwise, Party::Node)
}

/// Whether the flow passes, and why.
pub fn verdict(cluster: &Cluster, flow: &Flow, view: View) -> Answer {
    let source = party(cluster, flow.source);
    let destination = party(cluster, flow.destination);
    // "A Pod cannot block access to itself."
    if source == destination && !matches!(source, Party::World | Party::Unknown) {
        return Answer::default();
    }
    let ask = |direction, subject, peer, peer_address| {
        let question = Question {
            cluster,
            view,
            direction,
            subject,
            peer,
            peer_address,
            receiver: destination,
            protocol: flow.protocol,
            port: flow.port,
        };
        question.answer()
    };
    Answer {
        egress: ask(Direction::Egress, source, destination, flow.destination),
        ingress: ask(Direction::Ingress, destination, source, flow.source),
    }
}

impl Question<'_> {
    fn answer(&self) -> Option<Side> {
        let (allowed, reason) = match self.subject {
            Party::World | Party::Unknown => return None,
            Party::Node(_) => self.host(),
            Party::Pod(pod) => self.pod(pod),
        }
        .unwrap_or((true, Reason::Default));
        Some(Side {
            direction: self.direction,
            allowed,
            reason,
        })
    }

    /// A node: its fail-safe ports, then the policies for nodes.
    fn host(&self) -> Word {
        let safe = match self.direction {
            Direction::Ingress => &self.cluster.settings.fail_safe.ingress,
            Direction::Egress => &self.cluster.settings.fail_safe.egress,
        };
        let safe = safe
            .iter()
            .any(|(t, port)| t.number() == self.protocol && *port == self.port);
        if safe {
            return Some((true, Reason::FailSafe));
        }
        malha::word(self)
    }

    /// A pod: the tiers, in their order.
    fn pod(&self, pod: &Pod) -> Word {
        let own_node = self.is_own_node(pod);
        if own_node && self.direction == Direction::Ingress {
            return Some((true, Reason::OwnNode));
        }
        cluster::word(self, pod, crate::api::PolicyTier::Admin)
            .or_else(|| malha::word(self))
            .or_else(|| kubernetes::word(self, pod, own_node))
            .or_else(|| cluster::word(self, pod, crate::api::PolicyTier::Baseline))
    }

    fn is_own_node(&self, pod: &Pod) -> bool {
        matches!(self.peer, Party::Node(node) if node.name == pod.node)
    }

    /// The policies of one kind that count in this view, in the order of their names.
    fn policies(&self, kind: Kind) -> impl Iterator<Item = (&ObjectRef, &Policy)> {
        let all = self
            .cluster
            .policies
            .iter()
            .filter(move |(object, _)| object.kind == kind);
        all.filter(|(_, policy)| self.view == View::WithStaged || !policy.is_staged())
    }

    /// What a rule says that matches for sure, not at all, or only if an unknown pod is who it may be. `Err`: deny, if
    /// the rule does not allow.
    fn weigh(
        &self,
        (is_peer, asks_pods): (bool, bool),
        (is_port, asks_name): (bool, bool),
        allows: bool,
    ) -> Result<bool, ()> {
        let is_unknown = self.peer == Party::Unknown;
        let maybe_peer = is_unknown && asks_pods;
        let maybe_port = is_unknown
            && asks_name
            && self.direction == Direction::Egress
            && Transport::from_number(self.protocol).is_some();
        let sure = is_peer && is_port;
        let possible = (is_peer || maybe_peer) && (is_port || maybe_port);
        let in_doubt = possible
            && (!is_peer || (is_unknown && asks_name && self.direction == Direction::Egress));
        match in_doubt && !allows {
            true => Err(()),
            false => Ok(sure),
        }
    }

    /// Whether the receiver names its port `name` with this protocol and port of the flow.
    fn is_named_port(&self, name: &str, protocol: Option<Transport>) -> bool {
        let Party::Pod(receiver) = self.receiver else {
            return false;
        };
        receiver.ports.iter().any(|named| {
            named.name == name
                && named.port == self.port
                && named.protocol.number() == self.protocol
                && protocol.is_none_or(|p| p == named.protocol)
        })
    }
}
