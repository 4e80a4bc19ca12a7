//! The compiler: keeps the tables of one node's endpoints in step with the cluster.
//!
//! - A **token** is something a rule can ask of a peer: "a pod that this selector selects", "an address in this block".
//! - An **identity** is the set of tokens that are true of an address: an equivalence class. Numbers are the node's own.
//! - A **table** belongs to a chain of policies in one direction; all endpoints with the same chain share it. It has a
//!   row for each identity that its rules can tell from everybody else.
//! - A **class** is what such a row says for every protocol and port; equal ones are one.
//!
//! A table's meaning never changes: a changed policy makes another table, and the endpoint changes over in one step.
//! So that this is exact for every address, a change goes through three stages, each of which adds rows, changes over,
//! and only then deletes:
//!
//! 1. **refine**: new tokens split identities; old tables learn the new ones, then the addresses change over;
//! 2. **retable**: new tables are filled, then the endpoints change over;
//! 3. **coarsen**: tokens that no rule asks for any more join identities again.
mod chain;
mod classes;
mod engine;
mod identities;
mod link;
mod observe;
mod rows;
mod rules;
mod spans;
mod stages;
mod tables;
mod tokens;

pub use engine::{Engine, Sizes};
pub use rules::RuleRef;

use crate::{
    api::AddressSet,
    maps::Op,
    model::{Cluster, Namespace, Node, ObjectRef, Pod, PodKey, Policy},
};

/// Something of the cluster changed. `None`: it is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A namespace.
    Namespace(String, Option<Namespace>),
    /// A pod, of whichever node.
    Pod(PodKey, Option<Pod>),
    /// A node.
    Node(String, Option<Node>),
    /// A policy.
    Policy(ObjectRef, Option<Box<Policy>>),
    /// A set of addresses.
    AddressSet(String, Option<AddressSet>),
}

/// What to do with the kernel's maps, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The operations.
    pub ops: Vec<Op>,
}

/// Everything that makes a cluster out of nothing.
pub fn changes(cluster: &Cluster) -> Vec<Change> {
    let namespaces = cluster
        .namespaces
        .iter()
        .map(|(k, v)| Change::Namespace(k.clone(), Some(v.clone())));
    let nodes = cluster
        .nodes
        .iter()
        .map(|(k, v)| Change::Node(k.clone(), Some(v.clone())));
    let pods = cluster
        .pods
        .iter()
        .map(|(k, v)| Change::Pod(k.clone(), Some(v.clone())));
    let sets = cluster
        .address_sets
        .iter()
        .map(|(k, v)| Change::AddressSet(k.clone(), Some(v.clone())));
    let policies = cluster
        .policies
        .iter()
        .map(|(k, v)| Change::Policy(k.clone(), Some(Box::new(v.clone()))));
    namespaces
        .chain(nodes)
        .chain(pods)
        .chain(sets)
        .chain(policies)
        .collect()
}
