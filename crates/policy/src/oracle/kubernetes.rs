//! `NetworkPolicy`: the union of what the policies that select a pod allow; a pod that one selects is isolated.
use k8s_openapi::{
    api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{Party, Question, Reason, Word, address, labels};
use crate::model::{Direction, Kind, Pod, Policy, Transport};

/// The final word for a pod that is isolated in this direction; nothing for one that is not.
pub fn word(question: &Question<'_>, pod: &Pod, own_node: bool) -> Word {
    let mut isolating = Vec::new();
    let mut allowing = None;
    for (object, policy) in question.policies(Kind::NetworkPolicy) {
        let Policy::Namespaced(policy) = policy else {
            continue;
        };
        let spec = policy.spec.clone().unwrap_or_default();
        if object.namespace != pod.namespace || !applies(&spec, question.direction) {
            continue;
        }
        let selector = spec.pod_selector.clone().unwrap_or_default();
        // A selector that cannot be read isolates every pod of the namespace, and allows nothing.
        let selected = labels::selects(&selector, &pod.labels);
        if selected == Ok(false) {
            continue;
        }
        isolating.push(object.clone());
        if selected.is_ok() && allowing.is_none() {
            let index = rules(&spec, question.direction)
                .iter()
                .position(|(peers, ports)| {
                    rule(question, &object.namespace, peers, ports) == Ok(true)
                });
            allowing = index.map(|index| Reason::Rule {
                object: object.clone(),
                index,
            });
        }
    }
    if isolating.is_empty() {
        return None;
    }
    // "Traffic to and from the node where a Pod is running is always allowed."
    if own_node && allowing.is_none() {
        return Some((true, Reason::OwnNode));
    }
    Some(match allowing {
        Some(rule) => (true, rule),
        None => (false, Reason::Isolated { by: isolating }),
    })
}

/// "If no policyTypes are specified on a NetworkPolicy then by default Ingress will always be set and Egress will be
/// set if the NetworkPolicy has any egress rules."
fn applies(spec: &NetworkPolicySpec, direction: Direction) -> bool {
    let types = spec.policy_types.clone().unwrap_or_default();
    match direction {
        Direction::Ingress => types.is_empty() || types.iter().any(|t| t == "Ingress"),
        Direction::Egress if types.is_empty() => {
            spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())
        }
        Direction::Egress => types.iter().any(|t| t == "Egress"),
    }
}

type Parts = (Vec<NetworkPolicyPeer>, Vec<NetworkPolicyPort>);

fn rules(spec: &NetworkPolicySpec, direction: Direction) -> Vec<Parts> {
    let parts = |peers: &Option<Vec<_>>, ports: &Option<Vec<_>>| {
        (
            peers.clone().unwrap_or_default(),
            ports.clone().unwrap_or_default(),
        )
    };
    match direction {
        Direction::Ingress => spec
            .ingress
            .iter()
            .flatten()
            .map(|r| parts(&r.from, &r.ports))
            .collect(),
        Direction::Egress => spec
            .egress
            .iter()
            .flatten()
            .map(|r| parts(&r.to, &r.ports))
            .collect(),
    }
}

/// "If this field is empty or missing, this rule matches all sources [or all ports]." A part that is not valid makes
/// the rule match nothing.
fn rule(
    question: &Question<'_>,
    namespace: &str,
    peers: &[NetworkPolicyPeer],
    ports: &[NetworkPolicyPort],
) -> Result<bool, ()> {
    let mut is_peer = peers.is_empty();
    for item in peers {
        is_peer |= peer(question, namespace, item)?;
    }
    let mut is_port = ports.is_empty();
    for item in ports {
        is_port |= port(question, item)?;
    }
    Ok(is_peer && is_port)
}

/// "ipBlock: if this field is set then neither of the other fields can be."
fn peer(question: &Question<'_>, namespace: &str, peer: &NetworkPolicyPeer) -> Result<bool, ()> {
    if let Some(block) = &peer.ip_block {
        if peer.pod_selector.is_some() || peer.namespace_selector.is_some() {
            return Err(());
        }
        let except = block.except.clone().unwrap_or_default();
        return address::in_block(question.peer_address, &block.cidr, &except);
    }
    if peer.pod_selector.is_none() && peer.namespace_selector.is_none() {
        return Err(());
    }
    // Validity does not depend on who asks.
    let none = crate::model::Labels::new();
    for selector in [&peer.pod_selector, &peer.namespace_selector]
        .into_iter()
        .flatten()
    {
        labels::selects(selector, &none)?;
    }
    let Party::Pod(pod) = question.peer else {
        return Ok(false);
    };
    let in_namespace = match &peer.namespace_selector {
        None => pod.namespace == namespace,
        Some(selector) => match question.cluster.namespaces.get(&pod.namespace) {
            Some(namespace) => labels::selects(selector, &namespace.labels)?,
            None => false,
        },
    };
    let is_pod = match &peer.pod_selector {
        None => true,
        Some(selector) => labels::selects(selector, &pod.labels)?,
    };
    Ok(in_namespace && is_pod)
}

/// Protocol: "If not specified, this field defaults to TCP." Port: "If this field is not provided, this matches all
/// port names and numbers." endPort: "cannot be defined if the port field is not defined or is a named port; must be
/// equal or greater than port".
fn port(question: &Question<'_>, port: &NetworkPolicyPort) -> Result<bool, ()> {
    let transport = Transport::from_name(port.protocol.as_deref().unwrap_or("TCP")).ok_or(())?;
    let is_protocol = question.protocol == transport.number();
    match (&port.port, port.end_port) {
        (None, None) => Ok(is_protocol),
        (Some(IntOrString::String(name)), None) if !name.is_empty() => {
            Ok(question.is_named_port(name, Some(transport)))
        }
        (Some(IntOrString::Int(first)), end) => {
            let last = end.unwrap_or(*first);
            if *first < 1 || last > 65535 || last < *first {
                return Err(());
            }
            Ok(is_protocol && (*first..=last).contains(&i32::from(question.port)))
        }
        _ => Err(()),
    }
}
