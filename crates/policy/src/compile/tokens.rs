//! The tokens in force: what rules ask of peers, by number.
use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;

use crate::{
    model::{NamedPort, Namespace, Node, Pod},
    mutant::mutant,
    read::{Block, NamespaceMatch, Token},
};

/// Numbers of tokens, how many rules ask for each, and indexes by what it takes to match.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    next: u32,
    numbers: HashMap<Token, u32>,
    known: HashMap<u32, (Token, usize)>,
    /// Pod selectors of one namespace.
    named: HashMap<String, BTreeSet<u32>>,
    /// Pod selectors by the labels of namespaces.
    labelled: BTreeSet<u32>,
    nodes: BTreeSet<u32>,
    /// Blocks by their range, with their tokens.
    blocks: HashMap<IpNet, BTreeSet<(u32, Block)>>,
    boundaries: BTreeMap<IpNet, usize>,
    port_names: HashMap<String, usize>,
    ports: HashMap<String, BTreeSet<u32>>,
    /// Pod selectors that may match pods of a namespace, by the namespace.
    candidates: HashMap<String, Vec<u32>>,
}

impl Tokens {
    /// One more rule asks for the token. Whether it is new.
    pub fn acquire(&mut self, token: &Token) -> (u32, bool) {
        let number = self.intern(token);
        let count = &mut self
            .known
            .get_mut(&number)
            .expect("a token just interned")
            .1;
        *count += 1;
        let is_new = *count == 1;
        if is_new {
            self.index(token, number);
        }
        (number, is_new)
    }

    fn intern(&mut self, token: &Token) -> u32 {
        if let Some(number) = self.numbers.get(token) {
            return *number;
        }
        self.next += 1;
        self.numbers.insert(token.clone(), self.next);
        self.known.insert(self.next, (token.clone(), 0));
        self.next
    }

    fn index(&mut self, token: &Token, number: u32) {
        match token {
            Token::Pods(selector) => {
                self.candidates.clear();
                match &selector.namespace {
                    NamespaceMatch::Named(name) => {
                        self.named.entry(name.clone()).or_default().insert(number)
                    }
                    NamespaceMatch::Labels(_) => self.labelled.insert(number),
                };
            }
            Token::Nodes(_) => {
                self.nodes.insert(number);
            }
            Token::Block(_) | Token::AnyBlock(_) => {
                token
                    .blocks()
                    .for_each(|block| self.index_block(block, number));
            }
            Token::Port { name, .. } => {
                self.ports.entry(name.clone()).or_default().insert(number);
            }
            Token::OwnNode | Token::UnknownPod => {}
        }
    }

    /// One rule less asks for the token. The token, if that was the last.
    pub fn release(&mut self, number: u32) -> Option<Token> {
        let (_, count) = self.known.get_mut(&number)?;
        *count = count.saturating_sub(1);
        if *count > 0 {
            return None;
        }
        let (token, _) = self.known.remove(&number)?;
        self.numbers.remove(&token);
        match &token {
            Token::Pods(selector) => {
                self.candidates.clear();
                match &selector.namespace {
                    NamespaceMatch::Named(name) => remove(&mut self.named, name, number),
                    NamespaceMatch::Labels(_) => {
                        self.labelled.remove(&number);
                    }
                }
            }
            Token::Nodes(_) => {
                self.nodes.remove(&number);
            }
            Token::Block(_) | Token::AnyBlock(_) => {
                token
                    .blocks()
                    .for_each(|block| self.forget_block(block, number));
            }
            Token::Port { name, .. } => remove(&mut self.ports, name, number),
            Token::OwnNode | Token::UnknownPod => {}
        }
        Some(token)
    }

    fn index_block(&mut self, block: &Block, number: u32) {
        let same_range = self.blocks.entry(block.cidr).or_default();
        same_range.insert((number, block.clone()));
        for prefix in block.boundaries() {
            *self.boundaries.entry(prefix).or_default() += 1;
        }
    }

    fn forget_block(&mut self, block: &Block, number: u32) {
        if let Some(same_range) = self.blocks.get_mut(&block.cidr) {
            same_range.remove(&(number, block.clone()));
            if same_range.is_empty() {
                self.blocks.remove(&block.cidr);
            }
        }
        for prefix in block.boundaries() {
            let count = self.boundaries.entry(prefix).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.boundaries.remove(&prefix);
            }
        }
    }

    /// One more rule resolves this name at the receiver. Whether the name is new.
    pub fn acquire_name(&mut self, name: &str) -> bool {
        let count = self.port_names.entry(name.to_owned()).or_default();
        *count += 1;
        *count == 1
    }

    /// One rule less. The numbers of the ports of that name, if that was the last.
    pub fn release_name(&mut self, name: &str) -> Vec<u32> {
        let count = self.port_names.entry(name.to_owned()).or_default();
        *count = count.saturating_sub(1);
        if *count > 0 {
            return Vec::new();
        }
        self.port_names.remove(name);
        self.ports_named(name).collect()
    }

    /// The ports of a name that pods have.
    pub fn ports_named(&self, name: &str) -> impl Iterator<Item = u32> + use<'_> {
        self.ports.get(name).into_iter().flatten().copied()
    }

    /// The port that a number stands for.
    pub fn port(&self, number: u32) -> Option<NamedPort> {
        match self.known.get(&number) {
            Some((
                Token::Port {
                    name,
                    protocol,
                    port,
                },
                _,
            )) => Some(NamedPort {
                name: name.clone(),
                protocol: *protocol,
                port: *port,
            }),
            _ => None,
        }
    }

    /// A namespace came, went or changed its labels.
    pub fn forget_namespace(&mut self, name: &str) {
        self.candidates.remove(name);
    }

    /// Whether something changes at this prefix.
    pub fn is_boundary(&self, prefix: &IpNet) -> bool {
        self.boundaries.contains_key(prefix)
    }

    /// The boundaries within a prefix.
    pub fn boundaries_in(&self, prefix: &IpNet) -> impl Iterator<Item = IpNet> + use<'_> {
        let host = if prefix.addr().is_ipv4() { 32 } else { 128 };
        let last = IpNet::new(prefix.broadcast(), host).unwrap_or(*prefix);
        self.boundaries
            .range(*prefix..=last)
            .map(|(prefix, _)| *prefix)
    }

    /// All boundaries.
    pub fn all_boundaries(&self) -> impl Iterator<Item = IpNet> + use<'_> {
        self.boundaries.keys().copied()
    }

    /// What is true of a pod, its addresses aside.
    pub fn of_pod(&mut self, pod: &Pod, namespace: Option<&Namespace>, into: &mut Vec<u32>) {
        if !self.candidates.contains_key(&pod.namespace) {
            let labelled = self
                .labelled
                .iter()
                .filter(|number| match self.known.get(number) {
                    Some((Token::Pods(selector), _)) => {
                        selector.namespace.matches(&pod.namespace, namespace)
                    }
                    _ => false,
                });
            let named = self.named.get(&pod.namespace).into_iter().flatten();
            let all = named.chain(labelled).copied().collect();
            self.candidates.insert(pod.namespace.clone(), all);
        }
        for number in self.candidates.get(&pod.namespace).into_iter().flatten() {
            if let Some((Token::Pods(selector), _)) = self.known.get(number)
                && selector.matches_in_namespace(pod)
            {
                into.push(*number);
            }
        }
        for port in &pod.ports {
            if self.port_names.contains_key(&port.name) {
                let token = Token::Port {
                    name: port.name.clone(),
                    protocol: port.protocol,
                    port: port.port,
                };
                let number = self.intern(&token);
                self.index(&token, number);
                into.push(number);
            }
        }
    }

    /// What is true of a node, its addresses aside.
    pub fn of_node(&self, node: &Node, into: &mut Vec<u32>) {
        into.extend(
            self.nodes
                .iter()
                .filter(|number| match self.known.get(number) {
                    Some((Token::Nodes(matcher), _)) => matcher.matches(&node.labels),
                    _ => false,
                }),
        );
    }

    /// What is true of every address of a prefix.
    pub fn of_prefix(&self, prefix: &IpNet, into: &mut Vec<u32>) {
        let mut around = Some(*prefix);
        while let Some(cidr) = around {
            for (number, block) in self.blocks.get(&cidr).into_iter().flatten() {
                if block.contains(prefix) {
                    into.push(*number);
                    if mutant!(OneBlockPerPrefix) {
                        break;
                    }
                }
            }
            around = cidr.supernet();
        }
    }
}

fn remove<K: std::hash::Hash + Eq + Clone>(
    map: &mut HashMap<K, BTreeSet<u32>>,
    key: &K,
    number: u32,
) {
    if let Some(set) = map.get_mut(key) {
        set.remove(&number);
        if set.is_empty() {
            map.remove(key);
        }
    }
}
