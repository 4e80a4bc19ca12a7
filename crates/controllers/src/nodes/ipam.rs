//! Node address ranges: every node gets one range of each family, and keeps it as long as it exists.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use malha_core::range::{NodeRanges, RangeError};
use serde_json::json;

use super::COMPONENT;
use crate::{
    frame::{ActError, Action, Api, Controller, Input, Note, Plan, Severity, Store, Target, Write},
    pods,
    world::World,
};

pub(crate) struct NodeIpam {
    nodes: Store<Node>,
    book: Book,
}

impl NodeIpam {
    pub fn new(world: &World, ranges: NodeRanges) -> Self {
        Self {
            nodes: world.nodes.clone(),
            book: Book {
                ranges,
                held: HashMap::new(),
                refused: HashSet::new(),
            },
        }
    }
}

/// Assign, or tell.
#[derive(Debug, PartialEq)]
pub(crate) enum Assignment {
    Assign(Write),
    Tell(Note),
}

impl Action for Assignment {
    fn key(&self) -> String {
        match self {
            Self::Assign(write) => write.key(),
            Self::Tell(note) => note.message.clone(),
        }
    }

    async fn perform(&self, api: &Api) -> Result<(), ActError> {
        match self {
            Self::Assign(write) => write.perform(api).await,
            Self::Tell(note) => {
                api.record(note.clone());
                Ok(())
            }
        }
    }
}

impl Controller for NodeIpam {
    type Action = Assignment;
    const NAME: &'static str = "node-ipam";

    fn inputs(&self) -> Vec<Input> {
        vec![self.nodes.input()]
    }

    fn decide(&mut self, _now: Timestamp) -> Plan<Assignment> {
        let mut plan = Plan::new();
        plan.extend(self.book.balance(&self.nodes.list()));
        plan
    }
}

/// Who holds what.
struct Book {
    ranges: NodeRanges,
    /// By the node's uid: what it has, or what it is about to get.
    held: HashMap<String, Vec<IpNet>>,
    /// Nodes whose user has been told that there is nothing left.
    refused: HashSet<String>,
}

impl Book {
    /// Gives back what gone nodes had, notes what nodes have, and then, never before, gives out what is free.
    fn balance(&mut self, nodes: &[Arc<Node>]) -> Vec<Assignment> {
        let present: HashSet<&str> = nodes.iter().map(|node| pods::uid(&node.metadata)).collect();
        let gone = self
            .held
            .extract_if(|uid, _| !present.contains(uid.as_str()));
        let gone: Vec<IpNet> = gone.flat_map(|(_, ranges)| ranges).collect();
        gone.into_iter()
            .for_each(|range| self.ranges.release(range));
        self.refused.retain(|uid| present.contains(uid.as_str()));
        for node in nodes {
            let has = ranges_of(node);
            if !has.is_empty() {
                self.note(node, has);
            }
        }
        let without = nodes.iter().filter(|node| ranges_of(node).is_empty());
        let living = without.filter(|node| !pods::is_terminating(&node.metadata));
        living.filter_map(|node| self.provide(node)).collect()
    }

    fn note(&mut self, node: &Node, has: Vec<IpNet>) {
        let uid = pods::uid(&node.metadata);
        self.refused.remove(uid);
        if self.held.get(uid) == Some(&has) {
            return;
        }
        for range in self.held.remove(uid).into_iter().flatten() {
            self.ranges.release(range);
        }
        for range in &has {
            if !self.ranges.occupy(*range) {
                let name = pods::name(&node.metadata);
                tracing::warn!(node = name, %range, "a node's pod range is outside of the cluster's, or another node's as well");
            }
        }
        self.held.insert(uid.to_owned(), has);
    }

    fn provide(&mut self, node: &Node) -> Option<Assignment> {
        let uid = pods::uid(&node.metadata).to_owned();
        if let Some(ranges) = self.held.get(&uid) {
            return Some(assign(node, ranges));
        }
        match self.ranges.allocate() {
            Ok(ranges) => {
                let assignment = assign(node, &ranges);
                self.held.insert(uid, ranges);
                Some(assignment)
            }
            Err(error) => self.refused.insert(uid).then(|| tell(node, &error)),
        }
    }
}

fn assign(node: &Node, ranges: &[IpNet]) -> Assignment {
    let patch = json!({"spec": {"podCIDR": ranges.first(), "podCIDRs": ranges}});
    Assignment::Assign(Write::patch(Target::of(node), patch))
}

fn tell(node: &Node, error: &RangeError) -> Assignment {
    let name = pods::name(&node.metadata);
    tracing::warn!(node = name, %error, "a node gets no pod range");
    let message = format!("node {name}: {error}");
    Assignment::Tell(Note::new(node, Severity::Warning, "CIDRNotAvailable", message).by(COMPONENT))
}

fn ranges_of(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    let many = spec
        .and_then(|spec| spec.pod_cidrs.as_deref())
        .unwrap_or_default();
    let one = spec.and_then(|spec| spec.pod_cidr.as_ref());
    let texts = many.iter().chain(one.filter(|_| many.is_empty()));
    texts.filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use malha_core::range::ClusterRange;

    use super::*;
    use crate::testing::object;

    fn book(clusters: &[(&str, u8)]) -> Book {
        let ranges: Vec<ClusterRange> = clusters
            .iter()
            .map(|(cluster, node_prefix)| ClusterRange {
                cluster: cluster.parse().unwrap(),
                node_prefix: *node_prefix,
            })
            .collect();
        Book {
            ranges: NodeRanges::new(&ranges).unwrap(),
            held: HashMap::new(),
            refused: HashSet::new(),
        }
    }

    /// `name` or `name=range,range`.
    fn nodes(list: &[&str]) -> Vec<Arc<Node>> {
        list.iter()
            .map(|text| {
                let (name, ranges) = text.split_once('=').unwrap_or((text, ""));
                let ranges: Vec<&str> = ranges.split(',').filter(|r| !r.is_empty()).collect();
                object(json!({
                    "metadata": {"name": name, "uid": format!("uid-{name}")},
                    "spec": {"podCIDR": ranges.first(), "podCIDRs": ranges},
                }))
            })
            .collect()
    }

    fn outcome(book: &mut Book, list: &[&str]) -> Vec<String> {
        let actions = book.balance(&nodes(list));
        actions
            .iter()
            .map(|action| match action {
                Assignment::Assign(write) => write.to_string(),
                Assignment::Tell(note) => format!("{}: {}", note.reason, note.message),
            })
            .collect()
    }

    #[test]
    fn nodes_get_and_keep_their_ranges() {
        let mut book = book(&[("10.244.0.0/16", 24), ("fd00:244::/48", 64)]);
        // What nodes have is noted before anything is given out, whatever their order.
        assert_eq!(
            outcome(&mut book, &["w1", "w2=10.244.0.0/24,fd00:244::/64"]),
            [
                r#"PATCH /api/v1/nodes/w1 {"spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24","fd00:244:0:1::/64"]}}"#
            ]
        );
        // Not seen yet: the same again.
        assert!(
            outcome(&mut book, &["w1", "w2=10.244.0.0/24,fd00:244::/64"])[0]
                .contains("10.244.1.0/24")
        );
        // Somebody else was faster: what it has counts, and what was meant for it is free.
        assert_eq!(
            outcome(&mut book, &["w1=10.244.9.0/24,fd00:244:0:9::/64"]),
            [""; 0]
        );
        assert!(
            outcome(&mut book, &["w1=10.244.9.0/24,fd00:244:0:9::/64", "w3"])[0]
                .contains("10.244.10.0/24")
        );
    }

    #[test]
    fn an_exhausted_range_is_told_once_and_healed_by_a_deletion() {
        let mut book = book(&[("10.0.0.0/25", 26)]);
        let full = ["a=10.0.0.0/26", "b=10.0.0.64/26", "c"];
        assert_eq!(
            outcome(&mut book, &full),
            [
                "CIDRNotAvailable: node c: no free /26 range is left in the pod range 10.0.0.0/25: it fits 2 nodes and \
                 all are taken; delete nodes that are gone, or configure a larger pod range"
            ]
        );
        assert_eq!(outcome(&mut book, &full), [""; 0]);
        assert_eq!(
            outcome(&mut book, &["b=10.0.0.64/26", "c"]),
            [
                r#"PATCH /api/v1/nodes/c {"spec":{"podCIDR":"10.0.0.0/26","podCIDRs":["10.0.0.0/26"]}}"#
            ]
        );
    }
}
