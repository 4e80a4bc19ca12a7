//! Programs get numbers: tokens and rules.
use std::{collections::BTreeSet, sync::Arc};

use super::{
    chain::{Linked, LinkedRule},
    rules::{RuleRef, Rules},
    tokens::Tokens,
};
use crate::{
    model::{Direction, NamedPort, Namespace, Node, Pod},
    read::{Block, PortMatch, Program, ProgramSubject, Rule, Token},
};

/// What is new with a program.
#[derive(Debug, Default)]
pub struct News {
    /// Tokens.
    pub tokens: Vec<Token>,
    /// Names of ports that receivers resolve.
    pub names: BTreeSet<String>,
}

/// Give a program its numbers.
pub fn link(
    program: Program,
    version: u64,
    (tokens, rules): (&mut Tokens, &mut Rules),
    news: &mut News,
) -> Arc<Linked> {
    let mut both = [Direction::Ingress, Direction::Egress].map(|direction| {
        let list = match direction {
            Direction::Ingress => program.ingress.as_ref(),
            Direction::Egress => program.egress.as_ref(),
        }?;
        let linked = list.iter().enumerate().map(|(index, rule)| {
            let object = program.object.clone();
            let number = rules.number(RuleRef::Rule {
                object,
                direction,
                index,
            });
            link_rule(rule, number, direction, (&mut *tokens, &mut *news))
        });
        Some(linked.collect())
    });
    let isolation = [Direction::Ingress, Direction::Egress].map(|direction| {
        let object = program.object.clone();
        rules.number(RuleRef::Isolated { object, direction })
    });
    Arc::new(Linked {
        version,
        ingress: both[0].take(),
        egress: both[1].take(),
        program,
        isolation,
    })
}

fn link_rule(
    rule: &Rule,
    number: u32,
    direction: Direction,
    (tokens, news): (&mut Tokens, &mut News),
) -> LinkedRule {
    let asks_pods = rule
        .peers
        .iter()
        .flatten()
        .any(|t| matches!(t, Token::Pods(_)));
    let peers = rule.peers.as_ref().map(|list| {
        let distinct = distinct(list);
        let mut numbers = Vec::with_capacity(distinct.len());
        for token in distinct {
            let (number, is_new) = tokens.acquire(&token);
            numbers.push(number);
            if is_new {
                news.tokens.push(token);
            }
        }
        numbers.sort_unstable();
        numbers
    });
    if direction == Direction::Egress {
        for name in names(rule.ports.as_deref().unwrap_or_default()) {
            if tokens.acquire_name(name) {
                news.names.insert(name.to_owned());
            }
        }
    }
    LinkedRule {
        action: rule.action,
        peers,
        asks_pods,
        ports: rule.ports.clone(),
        log: rule.log,
        number,
    }
}

/// The tokens of a rule, once each, and all its blocks as one.
fn distinct(list: &[Token]) -> BTreeSet<Token> {
    let mut all: BTreeSet<Token> = list
        .iter()
        .filter(|t| t.blocks().next().is_none())
        .cloned()
        .collect();
    let mut blocks: BTreeSet<Block> = list.iter().flat_map(Token::blocks).cloned().collect();
    match (blocks.len(), blocks.pop_first()) {
        (1, Some(block)) => drop(all.insert(Token::Block(block))),
        (_, Some(first)) => {
            blocks.insert(first);
            all.insert(Token::AnyBlock(Arc::new(blocks)));
        }
        (_, None) => {}
    }
    all
}

fn names(ports: &[PortMatch]) -> impl Iterator<Item = &str> {
    ports.iter().filter_map(|port| match port {
        PortMatch::Named { name, .. } => Some(name.as_str()),
        PortMatch::Range { .. } => None,
    })
}

impl Linked {
    /// Every token that its rules hold, as often as they do.
    pub fn tokens(&self) -> impl Iterator<Item = u32> {
        self.all_rules()
            .filter_map(|r| r.peers.as_ref())
            .flatten()
            .copied()
    }

    /// Every port name that its egress rules hold, as often as they do.
    pub fn egress_names(&self) -> impl Iterator<Item = &str> {
        self.egress
            .iter()
            .flatten()
            .filter_map(|r| r.ports.as_deref())
            .flat_map(names)
    }

    fn all_rules(&self) -> impl Iterator<Item = &LinkedRule> {
        self.ingress.iter().chain(&self.egress).flatten()
    }

    /// Whether it decides a pod's traffic.
    pub fn selects_pod(&self, pod: &Pod, namespace: Option<&Namespace>) -> bool {
        match &self.program.subject {
            ProgramSubject::Pods(selector) => !pod.host_network && selector.matches(pod, namespace),
            ProgramSubject::EveryPod => !pod.host_network,
            ProgramSubject::Nodes(_) | ProgramSubject::Nobody => false,
        }
    }

    /// Whether it decides a node's traffic.
    pub fn selects_node(&self, node: &Node) -> bool {
        match &self.program.subject {
            ProgramSubject::Nodes(matcher) => matcher.matches(&node.labels),
            ProgramSubject::Pods(_) | ProgramSubject::EveryPod | ProgramSubject::Nobody => false,
        }
    }
}

/// The endpoint's ports whose names the ingress rules of programs mention.
pub fn own_named(programs: &[Arc<Linked>], direction: Direction, pod: &Pod) -> Vec<NamedPort> {
    let rules = programs.iter().filter_map(|p| p.rules(direction)).flatten();
    let names: BTreeSet<&str> = rules
        .filter_map(|r| r.ports.as_deref())
        .flat_map(names)
        .collect();
    let mine = pod
        .ports
        .iter()
        .filter(|port| names.contains(port.name.as_str()));
    let keep = direction == Direction::Ingress || crate::mutant::mutant!(NamedPortOfSender);
    let sorted: BTreeSet<NamedPort> = mine.filter(|_| keep).cloned().collect();
    sorted.into_iter().collect()
}
