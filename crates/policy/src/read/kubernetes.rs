//! `NetworkPolicy` v1. Rules: kubernetes.io "Network Policies", and the validation of the API server.
use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    Block, Conditions, Invalid, Matcher, NamespaceMatch, PodSelector, PortMatch, Problems, Program,
    ProgramSubject, Rule, RuleAction, Tier, Token, parts,
};
use crate::{model::Transport, mutant::mutant};

pub fn read(policy: &NetworkPolicy, problems: &mut Problems) -> Program {
    let spec = policy.spec.clone().unwrap_or_default();
    let home = problems.object.namespace.clone();
    let selector = spec.pod_selector.clone().unwrap_or_default();
    let labels = Matcher::read(&selector, "spec.podSelector", problems);
    let readable = labels.is_ok();
    let subject = PodSelector {
        namespace: NamespaceMatch::Named(home.clone()),
        labels: labels.unwrap_or_default(),
        accounts: None,
    };
    let (ingress, egress) = directions(&spec, problems);
    let mut read = |direction: &str, peers: &str, rules: Vec<Parts>| -> Vec<Rule> {
        let each = rules.into_iter().enumerate();
        each.map(|(index, (from, ports))| {
            let field = format!("spec.{direction}[{index}]");
            let conditions = rule(&home, (&from, &ports), (&field, peers), problems);
            let mut rule = Rule::or_closed(RuleAction::Allow, false, conditions);
            if !readable {
                rule.peers = Some(Vec::new());
            }
            rule
        })
        .collect()
    };
    let from = spec.ingress.iter().flatten();
    let to = spec.egress.iter().flatten();
    let ingress_rules = ingress.then(|| {
        read(
            "ingress",
            "from",
            from.map(|r| (r.from.clone(), r.ports.clone())).collect(),
        )
    });
    let egress_rules = egress.then(|| {
        read(
            "egress",
            "to",
            to.map(|r| (r.to.clone(), r.ports.clone())).collect(),
        )
    });
    Program {
        ingress: ingress_rules,
        egress: egress_rules,
        ..problems.program(Tier::Namespaced, ProgramSubject::Pods(subject))
    }
}

type Parts = (
    Option<Vec<NetworkPolicyPeer>>,
    Option<Vec<NetworkPolicyPort>>,
);

/// Which directions the policy is about.
fn directions(spec: &NetworkPolicySpec, problems: &mut Problems) -> (bool, bool) {
    let types = spec.policy_types.clone().unwrap_or_default();
    for (index, kind) in types.iter().enumerate() {
        if kind != "Ingress" && kind != "Egress" {
            let field = format!("spec.policyTypes[{index}]");
            problems.note(&field, format!("\"{kind}\" is neither Ingress nor Egress"));
        }
    }
    if types.is_empty() {
        let has_rules = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
        let implied = has_rules && !mutant!(EgressTypeNotImplied);
        let egress = match mutant!(EgressTypeAlwaysImplied) {
            true => true,
            false => implied,
        };
        return (true, egress);
    }
    let has = |kind: &str| types.iter().any(|t| t == kind);
    (has("Ingress") || mutant!(PolicyTypesIgnored), has("Egress"))
}

fn rule(
    home: &str,
    (peers, ports): (
        &Option<Vec<NetworkPolicyPeer>>,
        &Option<Vec<NetworkPolicyPort>>,
    ),
    (field, peers_name): (&str, &str),
    problems: &mut Problems,
) -> Result<Conditions, Invalid> {
    // Empty is absent here: "if this field is empty or missing, this rule matches all".
    let peers = peers.iter().flatten().enumerate();
    let peers: Result<Vec<Token>, _> = peers
        .map(|(i, item)| peer(home, item, &format!("{field}.{peers_name}[{i}]"), problems))
        .collect();
    let ports = ports.iter().flatten().enumerate();
    let ports: Result<Vec<PortMatch>, _> = ports
        .map(|(i, item)| port(item, &format!("{field}.ports[{i}]"), problems))
        .collect();
    let peers = Some(peers?).filter(|list| !list.is_empty() || mutant!(EmptyPeersMeanNobody));
    let ports = Some(ports?).filter(|list| !list.is_empty() || mutant!(EmptyPortsMeanNone));
    Ok((peers, ports))
}

fn peer(
    home: &str,
    peer: &NetworkPolicyPeer,
    field: &str,
    problems: &mut Problems,
) -> Result<Token, Invalid> {
    let (pods, namespaces) = (&peer.pod_selector, &peer.namespace_selector);
    if let Some(block) = &peer.ip_block {
        if pods.is_some() || namespaces.is_some() {
            return Err(problems.note(
                field,
                "ipBlock cannot stand beside podSelector or namespaceSelector",
            ));
        }
        let except = block.except.as_deref().unwrap_or_default();
        let block = Block::read(&block.cidr, except, &format!("{field}.ipBlock"), problems)?;
        return Ok(Token::Block(block));
    }
    if pods.is_none() && namespaces.is_none() {
        return Err(problems.note(
            field,
            "one of podSelector, namespaceSelector and ipBlock must be set",
        ));
    }
    let labels = match pods {
        Some(selector) => Matcher::read(selector, &format!("{field}.podSelector"), problems)?,
        None => Matcher::default(),
    };
    let namespace = match namespaces {
        Some(selector) => {
            let field = format!("{field}.namespaceSelector");
            NamespaceMatch::Labels(Matcher::read(selector, &field, problems)?)
        }
        None if mutant!(PodSelectorEverywhere) => NamespaceMatch::Labels(Matcher::default()),
        None => NamespaceMatch::Named(home.to_owned()),
    };
    let namespace = match namespace {
        NamespaceMatch::Labels(_) if pods.is_none() && mutant!(NamespaceSelectorAtHome) => {
            NamespaceMatch::Named(home.to_owned())
        }
        other => other,
    };
    Ok(Token::Pods(PodSelector {
        namespace,
        labels,
        accounts: None,
    }))
}

fn port(
    port: &NetworkPolicyPort,
    field: &str,
    problems: &mut Problems,
) -> Result<PortMatch, Invalid> {
    let default = if mutant!(ProtocolDefaultsToUdp) {
        "UDP"
    } else {
        "TCP"
    };
    let name = port.protocol.as_deref().unwrap_or(default);
    let Some(protocol) = Transport::from_name(name) else {
        let message = format!("\"{name}\" is none of TCP, UDP and SCTP");
        return Err(problems.note(&format!("{field}.protocol"), message));
    };
    match (&port.port, port.end_port) {
        (None, None) => Ok(parts::every_port(protocol)),
        (Some(IntOrString::String(name)), None) if !name.is_empty() => Ok(PortMatch::Named {
            name: name.clone(),
            protocol: Some(protocol).filter(|_| !mutant!(NamedPortAnyProtocol)),
        }),
        (Some(IntOrString::Int(first)), end) => {
            let last = end.map_or(*first, |end| end - i32::from(mutant!(EndPortExcluded)));
            parts::range(protocol, (*first, last), &format!("{field}.port"), problems)
        }
        (Some(IntOrString::String(_)), None) => {
            Err(problems.note(&format!("{field}.port"), "the name is empty"))
        }
        (_, Some(_)) => {
            let field = format!("{field}.endPort");
            Err(problems.note(&field, "needs a port that is a number"))
        }
    }
}
