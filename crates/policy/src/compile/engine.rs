//! The engine: takes changes of the cluster, gives changes of the maps. What it knows stands here, how it takes notes
//! of changes in `observe`, and how it acts on them in `stages`.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    Change, Delta,
    chain::{Fixed, Linked},
    identities::Identities,
    link::News,
    rows::Rows,
    rules::{RuleRef, Rules},
    tables::Tables,
    tokens::Tokens,
};
use crate::{
    api::AddressSet,
    maps::{Endpoint, EndpointTables},
    model::{Namespace, Node, ObjectRef, Pod, PodKey, Policy, Settings},
    read::{Problem, Token},
};

/// The compiler of one node.
#[derive(Debug)]
pub struct Engine {
    pub(super) node: String,
    pub(super) settings: Settings,
    pub(super) namespaces: BTreeMap<String, Namespace>,
    pub(super) pods: BTreeMap<PodKey, Pod>,
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) policies: BTreeMap<ObjectRef, Policy>,
    pub(super) sets: BTreeMap<String, AddressSet>,
    pub(super) problems: BTreeMap<ObjectRef, Vec<Problem>>,
    pub(super) programs: BTreeMap<ObjectRef, Arc<Linked>>,
    pub(super) versions: u64,
    pub(super) fixed: Fixed,
    pub(super) rules: Rules,
    pub(super) tokens: Tokens,
    pub(super) owners: BTreeMap<IpAddr, BTreeSet<Owner>>,
    pub(super) identities: Identities,
    pub(super) tables: Tables,
    pub(super) endpoints: BTreeMap<Endpoint, EndpointTables>,
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
pub(super) enum Owner {
    Pod(PodKey),
    Node(String),
}

/// What changes touch.
#[derive(Default)]
pub(super) struct Work {
    pub(super) everything: bool,
    pub(super) addresses: BTreeSet<IpNet>,
    pub(super) endpoints: BTreeSet<Endpoint>,
    pub(super) reread: BTreeSet<ObjectRef>,
    pub(super) news: News,
    /// Programs that were replaced or deleted.
    pub(super) retired: Vec<Arc<Linked>>,
    /// Programs that are new.
    pub(super) fresh: Vec<Arc<Linked>>,
}

impl Engine {
    /// For the endpoints of this node, with nothing known yet.
    pub fn new(node: impl Into<String>, settings: Settings) -> Self {
        let mut tokens = Tokens::default();
        let fixed = Fixed {
            own_node: tokens.acquire(&Token::OwnNode).0,
            unknown: tokens.acquire(&Token::UnknownPod).0,
        };
        Self {
            node: node.into(),
            settings,
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            policies: BTreeMap::new(),
            sets: BTreeMap::new(),
            problems: BTreeMap::new(),
            programs: BTreeMap::new(),
            versions: 0,
            fixed,
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
}
