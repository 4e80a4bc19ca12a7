//! The engine: takes changes of the cluster, gives changes of the maps.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    Change, Delta,
    chain::{Chain, ChainKey, Linked},
    identities::{Identities, Signature},
    link::{self, News},
    rows::Rows,
    rules::{RuleRef, Rules},
    tables::{Sources, Tables},
    tokens::Tokens,
};
use crate::{
    api::AddressSet,
    maps::{Endpoint, EndpointTables, NO_TABLE, Op},
    model::{Direction, FailSafe, Kind, Namespace, Node, ObjectRef, Pod, PodKey, Policy},
    mutant::mutant,
    read::{self, Problem, Token, host_prefix},
};

/// With more new tokens than this at once, every address is looked at anew instead of those that each token selects.
const MANY_TOKENS: usize = 32;

/// The compiler of one node.
#[derive(Debug)]
pub struct Engine {
    node: String,
    fail_safe: FailSafe,
    namespaces: BTreeMap<String, Namespace>,
    pods: BTreeMap<PodKey, Pod>,
    nodes: BTreeMap<String, Node>,
    policies: BTreeMap<ObjectRef, Policy>,
    sets: BTreeMap<String, AddressSet>,
    problems: BTreeMap<ObjectRef, Vec<Problem>>,
    programs: BTreeMap<ObjectRef, Arc<Linked>>,
    versions: u64,
    own_node: u32,
    rules: Rules,
    tokens: Tokens,
    owners: BTreeMap<IpAddr, BTreeSet<Owner>>,
    identities: Identities,
    tables: Tables,
    endpoints: BTreeMap<Endpoint, EndpointTables>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Identities besides "nobody in particular".
    pub identities: usize,
    /// Entries of `addresses`.
    pub addresses: usize,
    /// Tables.
    pub tables: usize,
    /// Entries of `peers`.
    pub peers: usize,
    /// Port classes.
    pub classes: usize,
}

/// Who has an address; the first of several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Pod(PodKey),
    Node(String),
}

/// What changes touch.
#[derive(Default)]
struct Work {
    everything: bool,
    addresses: BTreeSet<IpNet>,
    endpoints: BTreeSet<Endpoint>,
    reread: BTreeSet<ObjectRef>,
    news: News,
    /// Programs that were replaced or deleted.
    retired: Vec<Arc<Linked>>,
    /// Programs that are new.
    fresh: Vec<Arc<Linked>>,
}

impl Engine {
    /// For the endpoints of this node, with nothing known yet.
    pub fn new(node: impl Into<String>, fail_safe: FailSafe) -> Self {
        let mut tokens = Tokens::default();
        let (own_node, _) = tokens.acquire(&Token::OwnNode);
        Self {
            node: node.into(),
            fail_safe,
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            policies: BTreeMap::new(),
            sets: BTreeMap::new(),
            problems: BTreeMap::new(),
            programs: BTreeMap::new(),
            versions: 0,
            own_node,
            rules: Rules::default(),
            tokens,
            owners: BTreeMap::new(),
            identities: Identities::default(),
            tables: Tables::default(),
            endpoints: BTreeMap::new(),
        }
    }

    /// Take changes together, as one: the delta leads from what held before them to what holds behind them.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Delta {
        let mut work = Work::default();
        for change in changes {
            self.note(change, &mut work);
        }
        for object in std::mem::take(&mut work.reread) {
            self.reread(object, &mut work);
        }
        let mut ops = Vec::new();
        self.refine(&mut work, &mut ops);
        self.retable(&mut work, &mut ops);
        self.coarsen(&mut work, &mut ops);
        Delta { ops }
    }

    /// What is wrong with the policies, by object. An object without problems is not listed.
    pub fn problems(&self) -> &BTreeMap<ObjectRef, Vec<Problem>> {
        &self.problems
    }

    /// The rule of a number that the maps hold.
    pub fn rule(&self, number: u32) -> Option<&RuleRef> {
        self.rules.get(number)
    }

    /// The tables of the endpoints.
    pub fn endpoints(&self) -> &BTreeMap<Endpoint, EndpointTables> {
        &self.endpoints
    }

    /// The addresses that have an identity, and which.
    pub fn addresses(&self) -> &BTreeMap<IpNet, u32> {
        self.identities.addresses()
    }

    /// What a table says of an identity. Nothing for table 0, which allows.
    pub fn said(&self, table: u32, identity: u32) -> Option<Rows> {
        self.tables.said(table, identity)
    }

    /// How much there is.
    pub fn sizes(&self) -> Sizes {
        let (tables, peers) = self.tables.sizes();
        Sizes {
            identities: self.identities.len(),
            addresses: self.identities.addresses().len(),
            tables,
            peers,
            classes: self.tables.classes.len(),
        }
    }

    fn note(&mut self, change: Change, work: &mut Work) {
        match change {
            Change::Namespace(name, namespace) => self.note_namespace(name, namespace, work),
            Change::Pod(key, pod) => self.note_pod(key, pod, work),
            Change::Node(name, node) => self.note_node(name, node, work),
            Change::Policy(object, policy) => {
                let before = match policy {
                    Some(policy) => self.policies.insert(object.clone(), *policy),
                    None => self.policies.remove(&object),
                };
                if before.as_ref() != self.policies.get(&object) {
                    work.reread.insert(object);
                }
            }
            Change::AddressSet(name, set) => {
                match set {
                    Some(set) => drop(self.sets.insert(name, set)),
                    None => drop(self.sets.remove(&name)),
                }
                if !mutant!(AddressSetStale) {
                    let all = self.policies.keys().filter(|o| o.kind == Kind::MalhaPolicy);
                    work.reread.extend(all.cloned());
                }
            }
        }
    }

    fn note_namespace(&mut self, name: String, namespace: Option<Namespace>, work: &mut Work) {
        if self.namespaces.get(&name) == namespace.as_ref() {
            return;
        }
        if !mutant!(NamespaceLabelsStale) {
            let first = (name.clone(), String::new());
            let pods = self
                .pods
                .range(first..)
                .take_while(|(key, _)| key.0 == name);
            for (key, pod) in pods {
                work.addresses
                    .extend(pod.addresses.iter().map(|a| host_prefix(*a)));
                work.endpoints.insert(Endpoint::Pod(key.clone()));
            }
        }
        self.tokens.forget_namespace(&name);
        match namespace {
            Some(namespace) => drop(self.namespaces.insert(name, namespace)),
            None => drop(self.namespaces.remove(&name)),
        }
    }

    fn note_pod(&mut self, key: PodKey, pod: Option<Pod>, work: &mut Work) {
        if self.pods.get(&key) == pod.as_ref() {
            return;
        }
        let is_peer = |pod: &&Pod| !pod.host_network || mutant!(HostNetworkIsPeer);
        let owner = Owner::Pod(key.clone());
        let old = self
            .pods
            .get(&key)
            .filter(is_peer)
            .map(|p| p.addresses.clone());
        let new = pod.as_ref().filter(is_peer).map(|p| p.addresses.clone());
        self.move_owner(owner, (old, new), work);
        work.endpoints.insert(Endpoint::Pod(key.clone()));
        match pod {
            Some(pod) => drop(self.pods.insert(key, pod)),
            None => drop(self.pods.remove(&key)),
        }
    }

    fn note_node(&mut self, name: String, node: Option<Node>, work: &mut Work) {
        if self.nodes.get(&name) == node.as_ref() {
            return;
        }
        let addresses = |node: Option<&Node>| node.map(|n| n.addresses.clone());
        let moved = (addresses(self.nodes.get(&name)), addresses(node.as_ref()));
        self.move_owner(Owner::Node(name.clone()), moved, work);
        if name == self.node {
            work.endpoints.insert(Endpoint::Host);
        }
        match node {
            Some(node) => drop(self.nodes.insert(name, node)),
            None => drop(self.nodes.remove(&name)),
        }
    }

    fn move_owner(
        &mut self,
        owner: Owner,
        (old, new): (Option<Vec<IpAddr>>, Option<Vec<IpAddr>>),
        work: &mut Work,
    ) {
        for address in old.into_iter().flatten() {
            work.addresses.insert(host_prefix(address));
            if let Some(owners) = self.owners.get_mut(&address) {
                owners.remove(&owner);
                if owners.is_empty() {
                    self.owners.remove(&address);
                }
            }
        }
        for address in new.into_iter().flatten() {
            work.addresses.insert(host_prefix(address));
            self.owners
                .entry(address)
                .or_default()
                .insert(owner.clone());
        }
    }

    /// Read a policy anew; it may be gone.
    fn reread(&mut self, object: ObjectRef, work: &mut Work) {
        let read = self
            .policies
            .get(&object)
            .map(|policy| read::read(policy, &self.sets));
        let (program, problems) = match read {
            Some((program, problems)) => (Some(program), problems),
            None => (None, Vec::new()),
        };
        match problems.is_empty() {
            true => drop(self.problems.remove(&object)),
            false => drop(self.problems.insert(object.clone(), problems)),
        }
        let old = self.programs.get(&object);
        if old.map(|linked| &linked.program) == program.as_ref() {
            return;
        }
        let linked = program.map(|program| {
            self.versions += 1;
            let parts = (&mut self.tokens, &mut self.rules);
            link::link(program, self.versions, parts, &mut work.news)
        });
        let old = match linked {
            Some(linked) => {
                work.fresh.push(linked.clone());
                self.programs.insert(object, linked)
            }
            None => self.programs.remove(&object),
        };
        work.retired.extend(old);
    }

    /// Stage 1: identities as fine as the old and the new rules together need.
    fn refine(&mut self, work: &mut Work, ops: &mut Vec<Op>) {
        let news = std::mem::take(&mut work.news);
        work.everything |= news.tokens.len() > MANY_TOKENS;
        let mut dirty = std::mem::take(&mut work.addresses);
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
            Token::Block(block) => self.touched_by_block(&block.cidr, block.boundaries(), dirty),
            Token::Port { .. } | Token::OwnNode => {}
        }
    }

    fn touched_by_block(
        &self,
        cidr: &IpNet,
        boundaries: impl Iterator<Item = IpNet>,
        dirty: &mut BTreeSet<IpNet>,
    ) {
        dirty.extend(boundaries);
        dirty.extend(self.tokens.boundaries_in(cidr));
        let owned = self.owners.range(cidr.network()..=cidr.broadcast());
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
        if owner.is_none() && !self.tokens.is_boundary(prefix) {
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
                    signature.push(self.own_node);
                }
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
    fn retable(&mut self, work: &mut Work, ops: &mut Vec<Op>) {
        let mut endpoints = std::mem::take(&mut work.endpoints);
        let retired = work
            .retired
            .iter()
            .filter(|_| !mutant!(PolicyRemovalIgnored));
        let changed: Vec<&Arc<Linked>> = work.fresh.iter().chain(retired).collect();
        if !changed.is_empty() {
            for endpoint in self.endpoints.keys() {
                if changed
                    .iter()
                    .any(|program| self.selects(program, endpoint))
                {
                    endpoints.insert(endpoint.clone());
                }
            }
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
        let parts = (&mut self.rules, self.own_node);
        let chain = Chain::new(key, concerned, &self.fail_safe, parts);
        let sources = Sources {
            identities: &self.identities,
            tokens: &self.tokens,
        };
        self.tables.create(chain, &sources, ops)
    }

    /// Stage 3: tokens that no rule asks for any more go.
    fn coarsen(&mut self, work: &mut Work, ops: &mut Vec<Op>) {
        let mut dirty = BTreeSet::new();
        let mut ports = Vec::new();
        for program in std::mem::take(&mut work.retired) {
            for number in program.tokens() {
                if let Some(token) = self.tokens.release(number) {
                    dirty.extend(self.identities.members_with_token(number));
                    if let Token::Block(block) = &token {
                        dirty.extend(block.boundaries());
                    }
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
