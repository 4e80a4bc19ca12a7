//! The policies of one endpoint in one direction, in their order, and what they say of a peer.
use std::{collections::BTreeSet, sync::Arc};

use super::{
    rules::{RuleRef, Rules},
    spans::{FULL, Span, Spans},
    tokens::Tokens,
};
use crate::{
    maps::NO_RULE,
    model::{Direction, FailSafe, NamedPort, Transport},
    mutant::mutant,
    read::{PortMatch, Program, RuleAction, Tier},
};

/// A rule with its numbers.
#[derive(Debug)]
pub struct LinkedRule {
    /// What it does.
    pub action: RuleAction,
    /// Tokens, sorted.
    pub peers: Option<Vec<u32>>,
    /// Pods are among the peers.
    pub asks_pods: bool,
    /// As in the program.
    pub ports: Option<Vec<PortMatch>>,
    /// As in the program.
    pub log: bool,
    /// Its number.
    pub number: u32,
}

/// A program with its numbers.
#[derive(Debug)]
pub struct Linked {
    /// Another with every change.
    pub version: u64,
    /// What was read.
    pub program: Program,
    /// The rules of both directions.
    pub ingress: Option<Vec<LinkedRule>>,
    /// See `ingress`.
    pub egress: Option<Vec<LinkedRule>>,
    /// Numbers of isolation by it, ingress and egress.
    pub isolation: [u32; 2],
}

/// What makes two endpoints share a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainKey {
    /// The direction.
    pub direction: Direction,
    /// The node's stack, not a pod.
    pub host: bool,
    /// Versions of the programs, in their order.
    pub programs: Vec<u64>,
    /// The endpoint's own named ports that ingress rules mention.
    pub named: Vec<NamedPort>,
}

/// What a table is made from.
#[derive(Debug)]
pub struct Chain {
    /// Its key.
    pub key: ChainKey,
    /// The programs, in their order.
    pub programs: Vec<Arc<Linked>>,
    /// Ports that stay open, if this is the node's.
    pub safe: Vec<(Transport, u16)>,
    /// Numbers of the rules that are in no policy.
    pub safe_rule: u32,
    /// See `safe_rule`.
    pub own_node_rule: u32,
    /// The tokens that the compiler gives itself.
    pub fixed: Fixed,
}

/// The numbers of tokens that no rule asks for.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    /// [`crate::read::Token::OwnNode`].
    pub own_node: u32,
    /// [`crate::read::Token::UnknownPod`].
    pub unknown: u32,
}

/// A decision, with the number of its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Whether it passes.
    pub allow: bool,
    /// Report it.
    pub log: bool,
    /// The rule.
    pub rule: u32,
}

/// Which policies count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those in force.
    Enforced,
    /// The staged ones too.
    All,
}

impl Linked {
    /// The rules of a direction.
    pub fn rules(&self, direction: Direction) -> Option<&Vec<LinkedRule>> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }
}

impl Chain {
    /// From programs in their order.
    pub fn new(
        key: ChainKey,
        programs: Vec<Arc<Linked>>,
        safe: &FailSafe,
        (rules, fixed): (&mut Rules, Fixed),
    ) -> Self {
        let direction = key.direction;
        let safe = match direction {
            _ if !key.host || mutant!(FailSafeForgotten) => Vec::new(),
            Direction::Ingress => safe.ingress.clone(),
            Direction::Egress => safe.egress.clone(),
        };
        Self {
            key,
            programs,
            safe,
            safe_rule: rules.number(RuleRef::FailSafe(direction)),
            own_node_rule: rules.number(RuleRef::OwnNode(direction)),
            fixed,
        }
    }

    /// Every token that makes a difference.
    pub fn tokens(&self) -> BTreeSet<u32> {
        let mut all: BTreeSet<u32> = self
            .rules()
            .filter_map(|r| r.peers.as_ref())
            .flatten()
            .copied()
            .collect();
        all.insert(self.fixed.unknown);
        if !self.key.host {
            all.insert(self.fixed.own_node);
        }
        all
    }

    /// The names of ports that the peer resolves.
    pub fn peer_port_names(&self) -> BTreeSet<&str> {
        let ports = self.rules().filter_map(|r| r.ports.as_ref()).flatten();
        let names = ports.filter_map(|port| match port {
            PortMatch::Named { name, .. } => Some(name.as_str()),
            PortMatch::Range { .. } => None,
        });
        names
            .filter(|_| self.key.direction == Direction::Egress)
            .collect()
    }

    fn rules(&self) -> impl Iterator<Item = &LinkedRule> {
        self.programs
            .iter()
            .filter_map(|p| p.rules(self.key.direction))
            .flatten()
    }

    /// Whether staged policies are among them.
    pub fn has_staged(&self) -> bool {
        self.programs.iter().any(|p| p.program.staged)
    }

    /// The decision for every port of a protocol (`None`: a protocol without ports), for a peer with these tokens.
    pub fn decide(
        &self,
        peer: &Peer<'_>,
        lane: Option<Transport>,
        which: Which,
    ) -> Vec<(Span, Decision)> {
        let mut decided = Vec::new();
        let mut open = Spans::full();
        self.implicit(peer, lane, &mut open, &mut decided);
        for tier in [Tier::Admin, Tier::Malha, Tier::Namespaced, Tier::Baseline] {
            if open.is_empty() {
                break;
            }
            self.tier(tier, (peer, lane, which), &mut open, &mut decided);
        }
        let rest = Decision {
            allow: true,
            log: false,
            rule: NO_RULE,
        };
        decided.extend(open.drain().into_iter().map(|span| (span, rest)));
        decided.sort_unstable_by_key(|(span, _)| *span);
        decided
    }

    /// What goes before every policy.
    fn implicit(
        &self,
        peer: &Peer<'_>,
        lane: Option<Transport>,
        open: &mut Spans,
        decided: &mut Vec<(Span, Decision)>,
    ) {
        let allow = |rule| Decision {
            allow: true,
            log: false,
            rule,
        };
        for (transport, port) in &self.safe {
            if Some(*transport) == lane {
                let taken = open.take((*port, *port));
                decided.extend(taken.into_iter().map(|span| (span, allow(self.safe_rule))));
            }
        }
        if self.is_own_node(peer) && self.key.direction == Direction::Ingress {
            decided.extend(
                open.drain()
                    .into_iter()
                    .map(|span| (span, allow(self.own_node_rule))),
            );
        }
    }

    fn is_own_node(&self, peer: &Peer<'_>) -> bool {
        !self.key.host && peer.has(self.fixed.own_node) && !mutant!(OwnNodeForgotten)
    }

    fn tier(
        &self,
        tier: Tier,
        (peer, lane, which): (&Peer<'_>, Option<Transport>, Which),
        open: &mut Spans,
        decided: &mut Vec<(Span, Decision)>,
    ) {
        let direction = self.key.direction;
        let counts = |p: &&Arc<Linked>| {
            p.program.tier == tier
                && match which {
                    Which::Enforced => !p.program.staged || mutant!(StagedEnforced),
                    Which::All => p.program.staged || !mutant!(StagedAlone),
                }
        };
        let mut passed = Vec::new();
        let mut isolation = None;
        for program in self.programs.iter().filter(counts) {
            isolation.get_or_insert(program.isolation[direction as usize]);
            for rule in program.rules(direction).into_iter().flatten() {
                self.rule(rule, (peer, lane), (open, &mut passed), decided);
            }
        }
        open.add(passed);
        if let (Tier::Namespaced, Some(number)) = (tier, isolation) {
            let last = match self.is_own_node(peer) {
                true => Decision {
                    allow: true,
                    log: false,
                    rule: self.own_node_rule,
                },
                false => Decision {
                    allow: false,
                    log: false,
                    rule: number,
                },
            };
            if !mutant!(IsolationForgotten) {
                decided.extend(open.drain().into_iter().map(|span| (span, last)));
            }
        }
    }

    /// Let a rule take its share.
    fn rule(
        &self,
        rule: &LinkedRule,
        (peer, lane): (&Peer<'_>, Option<Transport>),
        (open, passed): (&mut Spans, &mut Vec<Span>),
        decided: &mut Vec<(Span, Decision)>,
    ) {
        let matches = rule
            .peers
            .as_ref()
            .is_none_or(|tokens| peer.has_any(tokens));
        let unknown = peer.has(self.fixed.unknown)
            && rule.action != RuleAction::Allow
            && !mutant!(UnknownPodIsNobody);
        let maybe = unknown && rule.asks_pods;
        if !(matches || maybe) {
            return;
        }
        let named = rule
            .ports
            .iter()
            .flatten()
            .any(|port| matches!(port, PortMatch::Named { .. }));
        let theirs = self.key.direction == Direction::Egress && named;
        // An unknown pod may be one that the rule denies, or have the port that it denies.
        let doubt = unknown && (!matches || theirs);
        for span in self.spans(rule, (peer, lane), doubt && theirs) {
            let taken = open.take(span);
            let allow = match rule.action {
                _ if doubt => false,
                RuleAction::Pass if mutant!(PassIgnored) => {
                    open.add(taken);
                    continue;
                }
                RuleAction::Pass if !mutant!(PassAllows) => {
                    passed.extend(taken);
                    continue;
                }
                RuleAction::Deny => false,
                RuleAction::Allow | RuleAction::Pass => true,
            };
            let decision = Decision {
                allow,
                log: rule.log,
                rule: rule.number,
            };
            decided.extend(taken.into_iter().map(|span| (span, decision)));
        }
    }

    /// The ports of a protocol that a rule is about. In doubt, a name is every port.
    fn spans(
        &self,
        rule: &LinkedRule,
        (peer, lane): (&Peer<'_>, Option<Transport>),
        doubt: bool,
    ) -> Vec<Span> {
        let Some(ports) = &rule.ports else {
            return vec![FULL];
        };
        let Some(lane) = lane else {
            return if mutant!(PortsMatchOther) && !ports.is_empty() {
                vec![FULL]
            } else {
                Vec::new()
            };
        };
        let mut spans = Vec::new();
        for port in ports {
            match port {
                PortMatch::Range {
                    protocol,
                    first,
                    last,
                } if *protocol == lane => spans.push((*first, *last)),
                PortMatch::Range { .. } => {}
                PortMatch::Named { protocol, .. } if doubt => {
                    spans.extend(protocol.is_none_or(|p| p == lane).then_some(FULL));
                }
                PortMatch::Named { name, protocol } => {
                    let named = self.named(peer, name).filter(|n| n.protocol == lane);
                    let named = named.filter(|n| protocol.is_none_or(|p| p == n.protocol));
                    spans.extend(named.map(|n| (n.port, n.port)));
                }
            }
        }
        spans
    }

    /// The receiver's ports of a name.
    fn named<'a>(
        &'a self,
        peer: &'a Peer<'_>,
        name: &'a str,
    ) -> impl Iterator<Item = NamedPort> + 'a {
        let own = self.key.direction == Direction::Ingress || mutant!(NamedPortOfSender);
        let own = self
            .key
            .named
            .iter()
            .filter(move |n| own && n.name == name)
            .cloned();
        let theirs = (self.key.direction == Direction::Egress && !mutant!(NamedPortOfSender))
            .then(|| peer.ports(name))
            .into_iter()
            .flatten();
        own.chain(theirs)
    }
}

/// The other end, by what is true of it.
pub struct Peer<'a> {
    /// Sorted.
    pub signature: &'a [u32],
    /// What the numbers mean.
    pub tokens: &'a Tokens,
}

impl Peer<'_> {
    fn has(&self, token: u32) -> bool {
        self.signature.binary_search(&token).is_ok()
    }

    fn has_any(&self, tokens: &[u32]) -> bool {
        match tokens.len() <= self.signature.len() {
            true => tokens.iter().any(|token| self.has(*token)),
            false => self
                .signature
                .iter()
                .any(|token| tokens.binary_search(token).is_ok()),
        }
    }

    fn ports(&self, name: &str) -> Vec<NamedPort> {
        self.signature
            .iter()
            .filter_map(|id| self.tokens.port(*id))
            .filter(|p| p.name == name)
            .collect()
    }
}
