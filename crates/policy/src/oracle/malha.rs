//! `MalhaPolicy`: one tier; the first rule that matches decides.
use super::{Party, Question, Reason, Word, address, cluster, labels, ports};
use crate::{
    api::{MalhaAction, MalhaPeer, MalhaPods, MalhaRule, MalhaSubject},
    model::{Cluster, Direction, Kind, Pod, Policy},
};

/// What the tier says of a flow of a pod or a node.
pub fn word(question: &Question<'_>) -> Word {
    let mut policies = Vec::new();
    for (object, policy) in question.policies(Kind::MalhaPolicy) {
        if let Policy::Malha(policy) = policy {
            policies.push((policy.spec.order, object, &policy.spec));
        }
    }
    policies.sort_by_key(|(order, object, _)| (*order, *object));
    for (_, object, spec) in policies {
        let selected = is_subject(question, &spec.subject);
        if selected == Ok(false) {
            continue;
        }
        let rules = match question.direction {
            Direction::Ingress => &spec.ingress,
            Direction::Egress => &spec.egress,
        };
        for (index, rule) in rules.iter().flatten().enumerate() {
            // A subject that cannot be read is every pod for rules that deny, and nobody for the others.
            if selected.is_err() && rule.action != MalhaAction::Deny {
                continue;
            }
            let reason = || Reason::Rule {
                object: object.clone(),
                index,
            };
            match (matches(question, rule), rule.action) {
                (Ok(false), _) | (Err(()), MalhaAction::Allow) => {}
                (Ok(true), MalhaAction::Allow) => return Some((true, reason())),
                (Ok(true), MalhaAction::Pass) => return None,
                (Ok(true), MalhaAction::Deny) => return Some((false, reason())),
                (Err(()), MalhaAction::Deny | MalhaAction::Pass) => return Some((false, reason())),
            }
        }
    }
    None
}

fn is_subject(question: &Question<'_>, subject: &MalhaSubject) -> Result<bool, ()> {
    match (&subject.pods, &subject.nodes, question.subject) {
        (Some(pods), None, Party::Pod(pod)) => is_selected(question.cluster, pods, pod),
        (None, Some(nodes), Party::Node(node)) => match labels::selects(nodes, &node.labels) {
            // Never everybody's node: that would be a way to lock oneself out.
            Err(()) => Ok(false),
            selected => selected,
        },
        (Some(_), Some(_), Party::Pod(_)) | (None, None, Party::Pod(_)) => Err(()),
        _ => Ok(false),
    }
}

fn is_selected(cluster: &Cluster, pods: &MalhaPods, pod: &Pod) -> Result<bool, ()> {
    let by_labels = cluster::is_selected(cluster, &pods.labels, pod)?;
    match &pods.service_accounts {
        None => Ok(by_labels),
        Some(names) if names.is_empty() => Err(()),
        Some(names) => Ok(by_labels && names.contains(&pod.service_account)),
    }
}

fn matches(question: &Question<'_>, rule: &MalhaRule) -> Result<bool, ()> {
    let mut is_peer = rule.peers.is_none();
    if rule.peers.as_ref().is_some_and(Vec::is_empty) {
        return Err(());
    }
    for item in rule.peers.iter().flatten() {
        is_peer |= peer(question, item)?;
    }
    let is_port = ports::matches(question, rule.protocols.as_ref())?;
    let asks_pods = rule.peers.iter().flatten().any(|p| p.pods.is_some());
    let named = rule
        .protocols
        .iter()
        .flatten()
        .any(|p| p.destination_named_port.is_some());
    let allows = rule.action == MalhaAction::Allow;
    question.weigh((is_peer, asks_pods), (is_port, named), allows)
}

/// Exactly one field is set.
fn peer(question: &Question<'_>, peer: &MalhaPeer) -> Result<bool, ()> {
    match peer {
        MalhaPeer {
            pods: Some(pods),
            nodes: None,
            networks: None,
            address_sets: None,
        } => {
            let nobody = Pod::default();
            match question.peer {
                Party::Pod(pod) => is_selected(question.cluster, pods, pod),
                _ => is_selected(question.cluster, pods, &nobody).map(|_| false),
            }
        }
        MalhaPeer {
            pods: None,
            nodes: Some(nodes),
            networks: None,
            address_sets: None,
        } => cluster::node(question, nodes),
        MalhaPeer {
            pods: None,
            nodes: None,
            networks: Some(blocks),
            address_sets: None,
        } if !blocks.is_empty() => in_any(question, blocks),
        MalhaPeer {
            pods: None,
            nodes: None,
            networks: None,
            address_sets: Some(names),
        } if !names.is_empty() => {
            let mut any = false;
            for name in names {
                let set = question.cluster.address_sets.get(name).ok_or(())?;
                any |= in_any(question, &set.spec.blocks)?;
            }
            Ok(any)
        }
        _ => Err(()),
    }
}

fn in_any(question: &Question<'_>, blocks: &[crate::api::AddressBlock]) -> Result<bool, ()> {
    let mut any = false;
    for block in blocks {
        let except = block.except.clone().unwrap_or_default();
        any |= address::in_block(question.peer_address, &block.cidr, &except)?;
    }
    Ok(any)
}
