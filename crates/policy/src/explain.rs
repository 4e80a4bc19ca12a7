//! Why a flow passes or does not, in words.
use std::{fmt, net::IpAddr};

use crate::{
    model::{Cluster, Direction, Flow, Kind, ObjectRef, Policy, Transport},
    oracle::{self, Party, Reason, Side, View},
    read::{self, NamespaceMatch, PortMatch, Rule, Token},
};

/// The answer to "may this flow pass, and why".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it may.
    pub allowed: bool,
    /// What to tell people, a line each; the first is the answer, the others say why.
    pub lines: Vec<String>,
}

/// A rule that came close to allowing a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// The policy.
    pub object: ObjectRef,
    /// The index of the rule in its direction.
    pub index: usize,
    /// What did not match, and what the rule wants.
    pub because: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Explain a flow by the policies in force, and what the staged ones would change.
pub fn explain(cluster: &Cluster, flow: &Flow) -> Explanation {
    let answer = oracle::verdict(cluster, flow, View::Enforced);
    let allowed = answer.is_allowed();
    let port = match Transport::from_number(flow.protocol) {
        Some(transport) => format!("port {}/{transport}", flow.port),
        None => format!("protocol {}", flow.protocol),
    };
    let (source, destination) = (name(cluster, flow.source), name(cluster, flow.destination));
    let mut lines = vec![format!(
        "{}: {source} to {destination}, {port}",
        word(allowed)
    )];
    let sides = [
        (&answer.egress, flow.source, flow.destination),
        (&answer.ingress, flow.destination, flow.source),
    ];
    for (side, own, peer) in sides {
        match side {
            Some(side) => lines.extend(explain_side(cluster, flow, side, (own, peer))),
            None if answer.egress.is_none() && answer.ingress.is_none() => {}
            None => lines.push(format!(
                "  {} is no pod and no node: no policy is asked there",
                name(cluster, own)
            )),
        }
    }
    if answer.egress.is_none() && answer.ingress.is_none() {
        lines.push("  no policy is asked: both ends are one, or neither is a pod or a node".into());
    }
    let staged = oracle::verdict(cluster, flow, View::WithStaged);
    if staged != answer {
        lines.push(format!(
            "  with the staged policies it would be {}:",
            word(staged.is_allowed())
        ));
        let sides = [staged.egress, staged.ingress];
        lines.extend(
            sides
                .into_iter()
                .flatten()
                .map(|side| format!("    {}", side_text(&side))),
        );
    }
    Explanation { allowed, lines }
}

fn word(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "denied" }
}

fn side_text(side: &Side) -> String {
    format!(
        "{}: {} by {}",
        side.direction,
        word(side.allowed),
        reason(&side.reason, side.direction)
    )
}

/// An address with the name of who has it.
pub fn name(cluster: &Cluster, address: IpAddr) -> String {
    match oracle::party(cluster, address) {
        Party::Pod(pod) => format!("pod {}/{} ({address})", pod.namespace, pod.name),
        Party::Node(node) => format!("node {} ({address})", node.name),
        Party::Unknown => format!("a pod that is not known ({address})"),
        Party::World => address.to_string(),
    }
}

fn reason(reason: &Reason, direction: Direction) -> String {
    match reason {
        Reason::Default => "default: no policy says anything".into(),
        Reason::OwnNode => "rule of Kubernetes: a pod and the node it runs on".into(),
        Reason::FailSafe => "fail-safe: this port of a node cannot be closed".into(),
        Reason::Rule { object, index } => format!("{object}, spec.{direction}[{index}]"),
        Reason::Isolated { by } => {
            let names: Vec<String> = by.iter().map(ToString::to_string).collect();
            format!(
                "isolation: {} selects the pod, and no {direction} rule matches",
                names.join(", ")
            )
        }
    }
}

fn explain_side(
    cluster: &Cluster,
    flow: &Flow,
    side: &Side,
    (own, peer): (IpAddr, IpAddr),
) -> Vec<String> {
    let mut lines = vec![format!("  {}: {}", name(cluster, own), side_text(side))];
    if let Reason::Rule { object, index } = &side.reason
        && let Some(rule) = rule(cluster, object, side.direction, *index)
    {
        lines.push(format!(
            "    the rule is for {} on {}",
            rule.peers_text(),
            rule.ports_text()
        ));
    }
    if let Reason::Isolated { by } = &side.reason {
        lines.push(
            match nearest_miss(cluster, by, flow, (side.direction, peer)) {
                Some(miss) => format!(
                    "    nearest miss: {}, spec.{}[{}]: {}",
                    miss.object, side.direction, miss.index, miss.because
                ),
                None => format!("    no {} rule is there at all", side.direction),
            },
        );
        for object in by {
            let problems = cluster
                .policies
                .get(object)
                .map(|p| read::read(p, &cluster.address_sets).1);
            lines.extend(
                problems
                    .into_iter()
                    .flatten()
                    .map(|p| format!("    invalid: {p}")),
            );
        }
    }
    lines
}

fn rule(cluster: &Cluster, object: &ObjectRef, direction: Direction, index: usize) -> Option<Rule> {
    let (program, _) = read::read(cluster.policies.get(object)?, &cluster.address_sets);
    let rules = match direction {
        Direction::Ingress => program.ingress,
        Direction::Egress => program.egress,
    };
    rules?.get(index).cloned()
}

/// Of the rules of these policies, the one that comes closest to matching: the port is wrong, or else the peer is, by
/// as few conditions as can be.
pub fn nearest_miss(
    cluster: &Cluster,
    policies: &[ObjectRef],
    flow: &Flow,
    (direction, peer): (Direction, IpAddr),
) -> Option<Miss> {
    let mut nearest: Option<(u8, Miss)> = None;
    for object in policies
        .iter()
        .filter(|object| object.kind == Kind::NetworkPolicy)
    {
        let Some(Policy::Namespaced(_)) = cluster.policies.get(object) else {
            continue;
        };
        for index in 0.. {
            let Some(rule) = rule(cluster, object, direction, index) else {
                break;
            };
            let (distance, because) = distance(cluster, &rule, flow, peer);
            if nearest.as_ref().is_none_or(|(least, _)| distance < *least) {
                let miss = Miss {
                    object: object.clone(),
                    index,
                    because,
                };
                nearest = Some((distance, miss));
            }
        }
    }
    nearest.map(|(_, miss)| miss)
}

/// How far a rule is from matching, and why.
fn distance(cluster: &Cluster, rule: &Rule, flow: &Flow, peer: IpAddr) -> (u8, String) {
    let by_peer = match &rule.peers {
        None => 0,
        Some(tokens) => tokens
            .iter()
            .map(|t| token_distance(cluster, t, peer))
            .min()
            .unwrap_or(4),
    };
    let port = rule
        .ports
        .as_ref()
        .is_none_or(|ports| ports.iter().any(|p| port_matches(cluster, p, flow)));
    let wants_peer = format!(
        "the peer does not match: the rule is for {}",
        rule.peers_text()
    );
    let wants_port = format!(
        "the port does not match: the rule is for {}",
        rule.ports_text()
    );
    match (by_peer, port) {
        (0, _) => (1, wants_port),
        (far, true) => (1 + far, wants_peer),
        (far, false) => (5 + far, format!("{wants_peer}, on {}", rule.ports_text())),
    }
}

/// 0: it matches; 1: the namespace does, but not the pod; 2: the pod does, but not the namespace; 3: neither.
fn token_distance(cluster: &Cluster, token: &Token, address: IpAddr) -> u8 {
    match (token, oracle::party(cluster, address)) {
        (Token::Block(block), _) if block.contains(&read::host_prefix(address)) => 0,
        (Token::Nodes(matcher), Party::Node(node)) if matcher.matches(&node.labels) => 0,
        (Token::Pods(selector), Party::Pod(pod)) => {
            let namespace = cluster.namespaces.get(&pod.namespace);
            let in_namespace = match &selector.namespace {
                NamespaceMatch::Named(name) => *name == pod.namespace,
                labels @ NamespaceMatch::Labels(_) => labels.matches(&pod.namespace, namespace),
            };
            match (in_namespace, selector.matches_in_namespace(pod)) {
                (true, true) => 0,
                (true, false) => 1,
                (false, true) => 2,
                (false, false) => 3,
            }
        }
        _ => 3,
    }
}

fn port_matches(cluster: &Cluster, port: &PortMatch, flow: &Flow) -> bool {
    match port {
        PortMatch::Range {
            protocol,
            first,
            last,
        } => protocol.number() == flow.protocol && (*first..=*last).contains(&flow.port),
        PortMatch::Named { name, protocol } => match oracle::party(cluster, flow.destination) {
            Party::Pod(pod) => pod.ports.iter().any(|named| {
                let is_protocol = named.protocol.number() == flow.protocol;
                named.name == *name
                    && named.port == flow.port
                    && is_protocol
                    && protocol.is_none_or(|p| p == named.protocol)
            }),
            _ => false,
        },
    }
}
