//! The three stages of a change, each of which adds, changes over, and only then deletes.
use std::{collections::BTreeSet, sync::Arc};

use ipnet::IpNet;

use super::{
    chain::{Chain, ChainKey, Linked},
    engine::{Engine, Owner, Work},
    identities::Signature,
    link,
    tables::Sources,
};
use crate::{
    maps::{Endpoint, EndpointTables, NO_TABLE, Op},
    model::{Direction, Kind, ObjectRef, Pod},
    mutant::mutant,
    read::{Block, NamespaceMatch, ProgramSubject, Token, host_prefix},
};

/// With more new tokens than this at once, every address is looked at anew instead of those that each token selects.
const MANY_TOKENS: usize = 32;

impl Engine {
    /// Stage 1: identities as fine as the old and the new rules together need.
    pub(super) fn refine(&mut self, work: &mut Work, ops: &mut Vec<Op>) {
        let news = std::mem::take(&mut work.news);
        work.everything |= news.tokens.len() > MANY_TOKENS;
        let mut dirty = std::mem::take(&mut work.addresses);
        let ranges = self.settings.pod_ranges.iter();
        dirty.extend(
            ranges
                .filter(|range| work.everything || self.identities.of(range).is_none())
                .copied(),
        );
        if work.everything {
            dirty.extend(self.owners.keys().map(|address| host_prefix(*address)));
            dirty.extend(self.tokens.all_boundaries());
        } else {
            for token in &news.tokens {
                self.touched_by(token, &mut dirty);
            }
            let has_name = |pod: &Pod| pod.ports.iter().any(|port| news.names.contains(&port.name));
            if !news.names.is_empty() {
                let pods = self.pods.values().filter(|pod| has_name(pod));
                dirty.extend(pods.flat_map(|p| &p.addresses).map(|a| host_prefix(*a)));
            }
        }
        self.identify(dirty, ops);
    }

    /// The addresses and prefixes of which a token may be true.
    fn touched_by(&self, token: &Token, dirty: &mut BTreeSet<IpNet>) {
        match token {
            Token::Pods(selector) => {
                let pods = self.pods.values();
                let pods =
                    pods.filter(|pod| selector.matches(pod, self.namespaces.get(&pod.namespace)));
                dirty.extend(pods.flat_map(|p| &p.addresses).map(|a| host_prefix(*a)));
            }
            Token::Nodes(matcher) => {
                let nodes = self
                    .nodes
                    .values()
                    .filter(|node| matcher.matches(&node.labels));
                dirty.extend(nodes.flat_map(|n| &n.addresses).map(|a| host_prefix(*a)));
            }
            Token::Block(_) | Token::AnyBlock(_) => {
                token
                    .blocks()
                    .for_each(|block| self.touched_by_block(block, dirty));
            }
            Token::Port { .. } | Token::OwnNode | Token::UnknownPod => {}
        }
    }

    fn touched_by_block(&self, block: &Block, dirty: &mut BTreeSet<IpNet>) {
        dirty.extend(block.boundaries());
        dirty.extend(self.settings.pod_ranges.iter().copied());
        dirty.extend(self.tokens.boundaries_in(&block.cidr));
        let owned = self
            .owners
            .range(block.cidr.network()..=block.cidr.broadcast());
        dirty.extend(owned.map(|(address, _)| host_prefix(*address)));
    }

    /// Give addresses the identities they should have: rows first, then the addresses, then what is left over.
    fn identify(&mut self, dirty: BTreeSet<IpNet>, ops: &mut Vec<Op>) {
        let mut moves = Vec::new();
        let mut left = BTreeSet::new();
        for prefix in dirty {
            let wanted = self.wanted(&prefix).map(|signature| {
                let (number, is_new) = self.identities.intern(signature);
                if is_new && !mutant!(OldTablesNotExtended) {
                    let sources = Sources {
                        identities: &self.identities,
                        tokens: &self.tokens,
                    };
                    self.tables.extend(number, &sources, ops);
                }
                number
            });
            let current = self.identities.of(&prefix);
            if wanted != current {
                left.extend(current);
                self.identities.assign(prefix, wanted);
                moves.push(match wanted {
                    Some(number) => Op::SetAddress(prefix, number),
                    None => Op::DeleteAddress(prefix),
                });
            }
        }
        let gone: Vec<u32> = left
            .into_iter()
            .filter(|number| self.identities.retire(*number))
            .collect();
        if mutant!(IdentityDroppedEarly) {
            self.tables.retire(&gone, ops);
        }
        ops.append(&mut moves);
        self.tables.retire(&gone, ops);
    }

    /// The tokens that are true of an address; nothing for a prefix that needs no entry.
    fn wanted(&mut self, prefix: &IpNet) -> Option<Signature> {
        let mut signature = Vec::new();
        let is_host = prefix.prefix_len() == prefix.max_prefix_len();
        let owner = self
            .owners
            .get(&prefix.addr())
            .filter(|_| is_host)
            .and_then(|o| o.first());
        let ranges = &self.settings.pod_ranges;
        if owner.is_none() && !self.tokens.is_boundary(prefix) && !ranges.contains(prefix) {
            return None;
        }
        let is_pod = matches!(owner, Some(Owner::Pod(_)));
        match owner {
            Some(Owner::Pod(key)) => {
                if let Some(pod) = self.pods.get(key) {
                    self.tokens
                        .of_pod(pod, self.namespaces.get(&key.0), &mut signature);
                }
            }
            Some(Owner::Node(name)) => {
                if let Some(node) = self.nodes.get(name) {
                    self.tokens.of_node(node, &mut signature);
                }
                if *name == self.node {
                    signature.push(self.fixed.own_node);
                }
            }
            None if ranges.iter().any(|range| range.contains(prefix)) => {
                signature.push(self.fixed.unknown)
            }
            None => {}
        }
        if !(is_pod && mutant!(PodsOutsideBlocks)) {
            self.tokens.of_prefix(prefix, &mut signature);
        }
        signature.sort_unstable();
        signature.dedup();
        Some(signature)
    }

    /// Stage 2: the endpoints get the tables of the policies that select them now.
    pub(super) fn retable(&mut self, work: &mut Work, ops: &mut Vec<Op>) {
        let mut endpoints = std::mem::take(&mut work.endpoints);
        let retired = work
            .retired
            .iter()
            .filter(|_| !mutant!(PolicyRemovalIgnored));
        let changed: Vec<&Arc<Linked>> = work.fresh.iter().chain(retired).collect();
        for program in changed {
            let reach = self
                .endpoints_in_reach(program)
                .filter(|endpoint| self.selects(program, endpoint));
            endpoints.extend(reach.cloned());
        }
        let mut flips = Vec::new();
        let mut released = Vec::new();
        for endpoint in endpoints {
            let tables = self.tables_of(&endpoint, ops);
            let before = match tables {
                Some(tables) => self.endpoints.insert(endpoint.clone(), tables),
                None => self.endpoints.remove(&endpoint),
            };
            for table in tables.into_iter().flat_map(|t| [t.ingress, t.egress]) {
                self.tables.acquire(table);
            }
            released.extend(before.into_iter().flat_map(|t| [t.ingress, t.egress]));
            if before != tables {
                flips.push(match tables {
                    Some(tables) => Op::SetEndpoint(endpoint, tables),
                    None => Op::DeleteEndpoint(endpoint),
                });
            }
        }
        match mutant!(TableFlippedEarly) {
            true => drop(ops.splice(0..0, flips)),
            false => ops.extend(flips),
        }
        for table in released {
            self.tables.release(table, ops);
        }
    }

    /// The endpoints that a program may select: those of its namespace, if it is of one.
    fn endpoints_in_reach<'a>(&'a self, program: &'a Linked) -> impl Iterator<Item = &'a Endpoint> {
        let namespace = match &program.program.subject {
            ProgramSubject::Pods(selector) => match &selector.namespace {
                NamespaceMatch::Named(name) => Some(name),
                NamespaceMatch::Labels(_) => None,
            },
            _ => None,
        };
        let first = namespace.map_or(Endpoint::Host, |name| {
            Endpoint::Pod((name.clone(), String::new()))
        });
        let inside = move |endpoint: &&Endpoint| match (namespace, endpoint) {
            (Some(name), Endpoint::Pod((home, _))) => home == name,
            _ => true,
        };
        self.endpoints
            .range(first..)
            .map(|(endpoint, _)| endpoint)
            .take_while(inside)
    }

    fn selects(&self, program: &Linked, endpoint: &Endpoint) -> bool {
        match endpoint {
            Endpoint::Host => self
                .nodes
                .get(&self.node)
                .is_some_and(|node| program.selects_node(node)),
            Endpoint::Pod(key) => {
                let pod = self.pods.get(key);
                pod.is_some_and(|pod| program.selects_pod(pod, self.namespaces.get(&key.0)))
            }
        }
    }

    /// The tables that an endpoint should have; nothing if it is none of this node's.
    fn tables_of(&mut self, endpoint: &Endpoint, ops: &mut Vec<Op>) -> Option<EndpointTables> {
        match endpoint {
            Endpoint::Host => drop(self.nodes.get(&self.node)?),
            Endpoint::Pod(key) => {
                self.pods
                    .get(key)
                    .filter(|pod| pod.node == self.node && !pod.host_network)?;
            }
        }
        let mut programs: Vec<Arc<Linked>> = self.programs_in_reach(endpoint);
        programs.retain(|program| self.selects(program, endpoint));
        programs.sort_by(|a, b| {
            let key = |p: &Linked| (p.program.tier, p.program.order);
            key(a)
                .cmp(&key(b))
                .then_with(|| a.program.object.cmp(&b.program.object))
        });
        let mut table = |direction| self.table_of(endpoint, direction, &programs, ops);
        let ingress = table(Direction::Ingress);
        let egress = table(Direction::Egress);
        Some(EndpointTables { ingress, egress })
    }

    /// Those of its namespace and those of the cluster.
    fn programs_in_reach(&self, endpoint: &Endpoint) -> Vec<Arc<Linked>> {
        let from = |kind, namespace: &str| ObjectRef {
            kind,
            namespace: namespace.to_owned(),
            name: String::new(),
        };
        let wide = self
            .programs
            .range(from(Kind::ClusterNetworkPolicy, "")..)
            .map(|(_, p)| p);
        let Endpoint::Pod((namespace, _)) = endpoint else {
            return wide.cloned().collect();
        };
        let own = self.programs.range(from(Kind::NetworkPolicy, namespace)..);
        let own =
            own.take_while(|(o, _)| o.kind == Kind::NetworkPolicy && o.namespace == *namespace);
        own.map(|(_, p)| p).chain(wide).cloned().collect()
    }

    fn table_of(
        &mut self,
        endpoint: &Endpoint,
        direction: Direction,
        programs: &[Arc<Linked>],
        ops: &mut Vec<Op>,
    ) -> u32 {
        let concerned: Vec<_> = programs
            .iter()
            .filter(|p| p.rules(direction).is_some())
            .cloned()
            .collect();
        if concerned.is_empty() {
            return NO_TABLE;
        }
        let named = match endpoint {
            Endpoint::Pod(key) => {
                let pod = self.pods.get(key);
                pod.map_or_else(Vec::new, |pod| link::own_named(&concerned, direction, pod))
            }
            Endpoint::Host => Vec::new(),
        };
        let key = ChainKey {
            direction,
            host: *endpoint == Endpoint::Host,
            programs: concerned.iter().map(|p| p.version).collect(),
            named,
        };
        if let Some(table) = self.tables.find(&key) {
            return table;
        }
        let parts = (&mut self.rules, self.fixed);
        let chain = Chain::new(key, concerned, &self.settings.fail_safe, parts);
        let sources = Sources {
            identities: &self.identities,
            tokens: &self.tokens,
        };
        self.tables.create(chain, &sources, ops)
    }

    /// Stage 3: tokens that no rule asks for any more go.
    pub(super) fn coarsen(&mut self, work: &mut Work, ops: &mut Vec<Op>) {
        let mut dirty = BTreeSet::new();
        let mut ports = Vec::new();
        for program in std::mem::take(&mut work.retired) {
            for number in program.tokens() {
                if let Some(token) = self.tokens.release(number) {
                    dirty.extend(self.identities.members_with_token(number));
                    dirty.extend(token.blocks().flat_map(Block::boundaries));
                }
            }
            for name in program.egress_names() {
                ports.extend(self.tokens.release_name(name));
            }
        }
        for number in &ports {
            dirty.extend(self.identities.members_with_token(*number));
        }
        for number in ports {
            self.tokens.release(number);
        }
        self.identify(dirty, ops);
    }
}
