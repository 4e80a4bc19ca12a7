//! `MalhaPolicy`.
use std::collections::BTreeMap;

use super::{
    Block, Conditions, Invalid, Matcher, PodSelector, Problems, Program, ProgramSubject, Rule,
    RuleAction, Tier, Token, cluster, parts,
};
use crate::api::{
    AddressBlock, AddressSet, MalhaAction, MalhaPeer, MalhaPods, MalhaPolicy, MalhaRule,
    MalhaSubject,
};

type Sets = BTreeMap<String, AddressSet>;

pub fn read(policy: &MalhaPolicy, sets: &Sets, problems: &mut Problems) -> Program {
    let spec = &policy.spec;
    let subject = subject(&spec.subject, problems);
    let readable = subject.is_ok();
    let mut rules = |rules: &Option<Vec<MalhaRule>>, direction: &str| {
        let each = rules.as_ref()?.iter().enumerate();
        let read = each.map(|(index, item)| {
            let field = format!("spec.{direction}[{index}]");
            let action = match item.action {
                MalhaAction::Allow => RuleAction::Allow,
                MalhaAction::Deny => RuleAction::Deny,
                MalhaAction::Pass => RuleAction::Pass,
            };
            let conditions = conditions(item, sets, &field, problems);
            let mut rule = Rule::or_closed(action, item.log, conditions);
            if !readable {
                rule.void_unless_deny(action);
            }
            rule
        });
        Some(read.collect())
    };
    Program {
        order: spec.order,
        ingress: rules(&spec.ingress, "ingress"),
        egress: rules(&spec.egress, "egress"),
        ..problems.program(Tier::Malha, subject.unwrap_or(ProgramSubject::EveryPod))
    }
}

fn subject(subject: &MalhaSubject, problems: &mut Problems) -> Result<ProgramSubject, Invalid> {
    match (&subject.pods, &subject.nodes) {
        (Some(selector), None) => Ok(ProgramSubject::Pods(pods(
            selector,
            "spec.subject.pods",
            problems,
        )?)),
        // A policy for nodes that cannot be read selects none: it must not lock its author out.
        (None, Some(selector)) => Ok(Matcher::read(selector, "spec.subject.nodes", problems)
            .map_or(ProgramSubject::Nobody, ProgramSubject::Nodes)),
        _ => Err(problems.note("spec.subject", "exactly one of pods and nodes must be set")),
    }
}

fn pods(
    selector: &MalhaPods,
    field: &str,
    problems: &mut Problems,
) -> Result<PodSelector, Invalid> {
    let by_labels = cluster::pods(&selector.labels, field, problems)?;
    if selector
        .service_accounts
        .as_ref()
        .is_some_and(Vec::is_empty)
    {
        let field = format!("{field}.serviceAccounts");
        return Err(problems.note(
            &field,
            "is empty; leave it out to select every service account",
        ));
    }
    let accounts = selector.service_accounts.clone();
    Ok(PodSelector {
        accounts: accounts.map(|names| names.into_iter().collect()),
        ..by_labels
    })
}

fn conditions(
    rule: &MalhaRule,
    sets: &Sets,
    field: &str,
    problems: &mut Problems,
) -> Result<Conditions, Invalid> {
    let peers = match &rule.peers {
        None => None,
        Some(list) if list.is_empty() => {
            let field = format!("{field}.peers");
            return Err(problems.note(&field, "is empty; leave it out to match everybody"));
        }
        Some(list) => {
            let mut tokens = Vec::new();
            for (index, item) in list.iter().enumerate() {
                tokens.extend(peer(
                    item,
                    sets,
                    &format!("{field}.peers[{index}]"),
                    problems,
                )?);
            }
            Some(tokens)
        }
    };
    let protocols = format!("{field}.protocols");
    Ok((
        peers,
        parts::protocols(rule.protocols.as_ref(), &protocols, problems)?,
    ))
}

fn peer(
    peer: &MalhaPeer,
    sets: &Sets,
    field: &str,
    problems: &mut Problems,
) -> Result<Vec<Token>, Invalid> {
    match peer {
        MalhaPeer {
            pods: Some(selector),
            nodes: None,
            networks: None,
            address_sets: None,
        } => Ok(vec![Token::Pods(pods(
            selector,
            &format!("{field}.pods"),
            problems,
        )?)]),
        MalhaPeer {
            pods: None,
            nodes: Some(selector),
            networks: None,
            address_sets: None,
        } => Ok(vec![Token::Nodes(Matcher::read(
            selector,
            &format!("{field}.nodes"),
            problems,
        )?)]),
        MalhaPeer {
            pods: None,
            nodes: None,
            networks: Some(list),
            address_sets: None,
        } if !list.is_empty() => blocks(list, &format!("{field}.networks"), problems),
        MalhaPeer {
            pods: None,
            nodes: None,
            networks: None,
            address_sets: Some(names),
        } if !names.is_empty() => {
            let mut tokens = Vec::new();
            for (index, name) in names.iter().enumerate() {
                let field = format!("{field}.addressSets[{index}]");
                let Some(set) = sets.get(name) else {
                    return Err(
                        problems.note(&field, format!("there is no MalhaAddressSet {name}"))
                    );
                };
                tokens.extend(blocks(&set.spec.blocks, &field, problems)?);
            }
            Ok(tokens)
        }
        _ => Err(problems.note(
            field,
            "exactly one of pods, nodes, networks and addressSets must be set, and not empty",
        )),
    }
}

fn blocks(
    list: &[AddressBlock],
    field: &str,
    problems: &mut Problems,
) -> Result<Vec<Token>, Invalid> {
    let each = list.iter().enumerate();
    each.map(|(index, block)| {
        let except = block.except.as_deref().unwrap_or_default();
        Block::read(&block.cidr, except, &format!("{field}[{index}]"), problems).map(Token::Block)
    })
    .collect()
}
