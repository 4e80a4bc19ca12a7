//! `ClusterNetworkPolicy`: the first rule of the tier that matches decides.
use super::{Party, Question, Reason, Word, address, labels, ports};
use crate::{
    api::{Action, ClusterPeer, ClusterRule, NamespacedPod, PolicyTier, Subject},
    model::{Cluster, Direction, Kind, Labels, Pod, Policy},
};

/// What the tier says of a pod's flow.
pub fn word(question: &Question<'_>, pod: &Pod, tier: PolicyTier) -> Word {
    let mut policies = Vec::new();
    for (object, policy) in question.policies(Kind::ClusterNetworkPolicy) {
        if let Policy::Cluster(policy) = policy
            && policy.spec.tier == tier
        {
            policies.push((policy.spec.priority, object, &policy.spec));
        }
    }
    policies.sort_by_key(|(priority, object, _)| (*priority, *object));
    for (_, object, spec) in policies {
        let selected = is_subject(question.cluster, &spec.subject, pod);
        if selected == Ok(false) {
            continue;
        }
        let rules = match question.direction {
            Direction::Ingress => &spec.ingress,
            Direction::Egress => &spec.egress,
        };
        for (index, rule) in rules.iter().flatten().enumerate() {
            // A subject that cannot be read is everybody for rules that deny, and nobody for the others.
            if selected.is_err() && rule.action != Action::Deny {
                continue;
            }
            let reason = || Reason::Rule {
                object: object.clone(),
                index,
            };
            match (matches(question, rule), rule.action) {
                (Ok(false), _) | (Err(()), Action::Accept) => {}
                (Ok(true), Action::Accept) => return Some((true, reason())),
                (Ok(true), Action::Deny) => return Some((false, reason())),
                (Ok(true), Action::Pass) => return None,
                // "Treat the rule as a 'Deny all' rule."
                (Err(()), Action::Deny | Action::Pass) => return Some((false, reason())),
            }
        }
    }
    None
}

fn is_subject(cluster: &Cluster, subject: &Subject, pod: &Pod) -> Result<bool, ()> {
    match (&subject.namespaces, &subject.pods) {
        (Some(selector), None) => in_namespaces(cluster, selector, pod),
        (None, Some(pods)) => is_selected(cluster, pods, pod),
        _ => Err(()),
    }
}

fn in_namespaces(
    cluster: &Cluster,
    selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
    pod: &Pod,
) -> Result<bool, ()> {
    let valid = labels::selects(selector, &Labels::new());
    match cluster.namespaces.get(&pod.namespace) {
        Some(namespace) => labels::selects(selector, &namespace.labels),
        None => valid.map(|_| false),
    }
}

/// Whether a pod is selected by the labels of its namespace and its own.
pub fn is_selected(cluster: &Cluster, pods: &NamespacedPod, pod: &Pod) -> Result<bool, ()> {
    let in_namespaces = in_namespaces(cluster, &pods.namespace_selector, pod)?;
    Ok(labels::selects(&pods.pod_selector, &pod.labels)? && in_namespaces)
}

fn matches(question: &Question<'_>, rule: &ClusterRule) -> Result<bool, ()> {
    if rule.peers.is_empty() {
        return Err(());
    }
    let named = rule
        .protocols
        .iter()
        .flatten()
        .any(|p| p.destination_named_port.is_some());
    let mut is_peer = false;
    for item in &rule.peers {
        if named && (item.networks.is_some() || item.nodes.is_some()) {
            return Err(());
        }
        is_peer |= peer(question, item)?;
    }
    let is_port = ports::matches(question, rule.protocols.as_ref())?;
    let asks_pods = rule
        .peers
        .iter()
        .any(|p| p.namespaces.is_some() || p.pods.is_some());
    question.weigh(
        (is_peer, asks_pods),
        (is_port, named),
        rule.action == Action::Accept,
    )
}

/// "Exactly one of the fields must be set for a given peer." Nodes and networks are for egress.
fn peer(question: &Question<'_>, peer: &ClusterPeer) -> Result<bool, ()> {
    let nobody = Pod::default();
    let pod = match question.peer {
        Party::Pod(pod) => Some(pod),
        _ => None,
    };
    match peer {
        ClusterPeer {
            namespaces: Some(n),
            pods: None,
            nodes: None,
            networks: None,
            domain_names: None,
        } => {
            let selected = in_namespaces(question.cluster, n, pod.unwrap_or(&nobody))?;
            Ok(selected && pod.is_some())
        }
        ClusterPeer {
            namespaces: None,
            pods: Some(p),
            nodes: None,
            networks: None,
            domain_names: None,
        } => {
            let selected = is_selected(question.cluster, p, pod.unwrap_or(&nobody))?;
            Ok(selected && pod.is_some())
        }
        _ if question.direction == Direction::Ingress => Err(()),
        ClusterPeer {
            namespaces: None,
            pods: None,
            nodes: Some(n),
            networks: None,
            domain_names: None,
        } => node(question, n),
        ClusterPeer {
            namespaces: None,
            pods: None,
            nodes: None,
            networks: Some(list),
            domain_names: None,
        } if !list.is_empty() => {
            let mut any = false;
            for cidr in list {
                any |= address::in_block(question.peer_address, cidr, &[])?;
            }
            Ok(any)
        }
        _ => Err(()),
    }
}

/// Whether the peer is a node that the selector selects.
pub fn node(
    question: &Question<'_>,
    selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
) -> Result<bool, ()> {
    labels::selects(selector, &Labels::new())?;
    match question.peer {
        Party::Node(node) => labels::selects(selector, &node.labels),
        _ => Ok(false),
    }
}
