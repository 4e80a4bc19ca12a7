//! `ClusterNetworkPolicy` v1alpha2.
use super::{
    Block, Conditions, Invalid, Matcher, NamespaceMatch, PodSelector, Problems, Program,
    ProgramSubject, Rule, RuleAction, Tier, Token, parts,
};
use crate::{
    api::{
        Action, ClusterNetworkPolicy, ClusterPeer, ClusterRule, NamespacedPod, PolicyTier, Subject,
    },
    model::Direction,
    mutant::mutant,
};

pub fn read(policy: &ClusterNetworkPolicy, problems: &mut Problems) -> Program {
    let spec = &policy.spec;
    if !(0..=1000).contains(&spec.priority) {
        problems.note(
            "spec.priority",
            format!(
                "{} is not in 0 to 1000; it is used all the same",
                spec.priority
            ),
        );
    }
    let subject = subject(&spec.subject, problems);
    let readable = subject.is_ok();
    let tier = match spec.tier {
        PolicyTier::Admin => Tier::Admin,
        PolicyTier::Baseline if mutant!(BaselineFirst) => Tier::Malha,
        PolicyTier::Baseline => Tier::Baseline,
    };
    let mut rules = |rules: &Option<Vec<ClusterRule>>, direction: Direction| {
        let rules = rules.as_ref().filter(|rules| !rules.is_empty())?;
        let each = rules.iter().enumerate();
        let read = each.map(|(index, item)| {
            let field = format!("spec.{direction}[{index}]");
            let action = match item.action {
                Action::Accept => RuleAction::Allow,
                Action::Deny => RuleAction::Deny,
                Action::Pass => RuleAction::Pass,
            };
            let mut rule =
                Rule::or_closed(action, false, conditions(item, direction, &field, problems));
            if !readable {
                rule.void_unless_deny(action);
            }
            rule
        });
        Some(read.collect())
    };
    Program {
        order: if mutant!(PrioritiesReversed) {
            -spec.priority
        } else {
            spec.priority
        },
        ingress: rules(&spec.ingress, Direction::Ingress),
        egress: rules(&spec.egress, Direction::Egress),
        ..problems.program(
            tier,
            subject.map_or(ProgramSubject::EveryPod, ProgramSubject::Pods),
        )
    }
}

/// Every pod of the cluster.
pub fn every_pod() -> PodSelector {
    PodSelector {
        namespace: NamespaceMatch::Labels(Matcher::default()),
        labels: Matcher::default(),
        accounts: None,
    }
}

fn subject(subject: &Subject, problems: &mut Problems) -> Result<PodSelector, Invalid> {
    match (&subject.namespaces, &subject.pods) {
        (Some(selector), None) => {
            let matcher = Matcher::read(selector, "spec.subject.namespaces", problems)?;
            Ok(PodSelector {
                namespace: NamespaceMatch::Labels(matcher),
                ..every_pod()
            })
        }
        (None, Some(selector)) => pods(selector, "spec.subject.pods", problems),
        _ => Err(problems.note(
            "spec.subject",
            "exactly one of namespaces and pods must be set",
        )),
    }
}

/// Pods by two selectors.
pub fn pods(
    selector: &NamespacedPod,
    field: &str,
    problems: &mut Problems,
) -> Result<PodSelector, Invalid> {
    let namespaces = format!("{field}.namespaceSelector");
    let namespaces = Matcher::read(&selector.namespace_selector, &namespaces, problems)?;
    let labels = Matcher::read(
        &selector.pod_selector,
        &format!("{field}.podSelector"),
        problems,
    )?;
    Ok(PodSelector {
        namespace: NamespaceMatch::Labels(namespaces),
        labels,
        accounts: None,
    })
}

fn conditions(
    rule: &ClusterRule,
    direction: Direction,
    field: &str,
    problems: &mut Problems,
) -> Result<Conditions, Invalid> {
    let list = match direction {
        Direction::Ingress => format!("{field}.from"),
        Direction::Egress => format!("{field}.to"),
    };
    if rule.peers.is_empty() {
        return Err(problems.note(&list, "must name at least one peer"));
    }
    let named = rule
        .protocols
        .iter()
        .flatten()
        .any(|p| p.destination_named_port.is_some());
    let mut tokens = Vec::new();
    for (index, item) in rule.peers.iter().enumerate() {
        let field = format!("{list}[{index}]");
        if named && (item.nodes.is_some() || item.networks.is_some()) {
            let message = "nodes and networks have no named ports; use a number or a range";
            return Err(problems.note(&field, message));
        }
        tokens.extend(peer(item, direction, &field, problems)?);
    }
    let protocols = format!("{field}.protocols");
    let ports = parts::protocols(rule.protocols.as_ref(), &protocols, problems)?;
    Ok((Some(tokens), ports))
}

fn peer(
    peer: &ClusterPeer,
    direction: Direction,
    field: &str,
    problems: &mut Problems,
) -> Result<Vec<Token>, Invalid> {
    let set = [
        peer.namespaces.is_some(),
        peer.pods.is_some(),
        peer.nodes.is_some(),
        peer.networks.is_some(),
        peer.domain_names.is_some(),
    ];
    if set.into_iter().filter(|is| *is).count() != 1 {
        return Err(problems.note(
            field,
            "exactly one kind of peer must be set (or it is one this version does not know)",
        ));
    }
    if let Some(selector) = &peer.namespaces {
        let matcher = Matcher::read(selector, &format!("{field}.namespaces"), problems)?;
        let namespace = NamespaceMatch::Labels(matcher);
        return Ok(vec![Token::Pods(PodSelector {
            namespace,
            ..every_pod()
        })]);
    }
    if let Some(selector) = &peer.pods {
        return Ok(vec![Token::Pods(pods(
            selector,
            &format!("{field}.pods"),
            problems,
        )?)]);
    }
    if direction == Direction::Ingress {
        return Err(problems.note(
            field,
            "nodes, networks and domainNames are peers of egress only",
        ));
    }
    if let Some(selector) = &peer.nodes {
        return Ok(vec![Token::Nodes(Matcher::read(
            selector,
            &format!("{field}.nodes"),
            problems,
        )?)]);
    }
    let Some(networks) = peer.networks.as_ref().filter(|list| !list.is_empty()) else {
        return Err(problems.note(
            field,
            "domainNames are not supported, and networks must not be empty",
        ));
    };
    let each = networks.iter().enumerate();
    each.map(|(i, cidr)| {
        Block::read(cidr, &[], &format!("{field}.networks[{i}]"), problems).map(Token::Block)
    })
    .collect()
}
