//! What the cluster says, kept by one owner. More kinds of objects become more fields here, each with its `apply`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// What matters of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Its `InternalIP` addresses, in its order.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_ranges: Vec<IpNet>,
    /// `metadata.creationTimestamp`, whose text sorts as the time does. Of two nodes that claim the same, the older is
    /// believed.
    pub created: String,
}

/// The objects that matter, as last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    nodes: BTreeMap<String, NodeFacts>,
    /// Ranges of the whole cluster that its configuration names.
    cluster_ranges: Vec<IpNet>,
    /// Whether the list of nodes was complete once. Before that nothing may be removed.
    complete: bool,
}

impl Index {
    /// A node as it is now. Whether that changes anything.
    pub fn apply(&mut self, node: NodeFacts) -> bool {
        if self.nodes.get(&node.name) == Some(&node) {
            return false;
        }
        self.nodes.insert(node.name.clone(), node);
        true
    }

    /// A node is gone. Whether it was there.
    pub fn delete(&mut self, name: &str) -> bool {
        self.nodes.remove(name).is_some()
    }

    /// These nodes and no others exist. Whether that changes anything.
    pub fn reset(&mut self, nodes: Vec<NodeFacts>) -> bool {
        let nodes = nodes
            .into_iter()
            .map(|node| (node.name.clone(), node))
            .collect();
        let changes = self.nodes != nodes || !self.complete;
        self.nodes = nodes;
        self.complete = true;
        changes
    }

    /// The cluster's configuration names these pod ranges. Whether that changes anything.
    pub fn set_cluster_ranges(&mut self, ranges: Vec<IpNet>) -> bool {
        let changes = self.cluster_ranges != ranges;
        self.cluster_ranges = ranges;
        changes
    }

    /// Whether every node of the cluster is in here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The node with this name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeFacts> {
        self.nodes.get(name)
    }

    /// Every node, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeFacts> {
        self.nodes.values()
    }

    /// The pod ranges that the cluster's configuration names.
    #[must_use]
    pub fn cluster_ranges(&self) -> &[IpNet] {
        &self.cluster_ranges
    }

    /// Addresses of every node but this one: where routes have to lead.
    #[must_use]
    pub fn peer_addresses(&self, own: &str) -> Vec<IpAddr> {
        let peers = self.nodes().filter(|node| node.name != own);
        peers
            .flat_map(|node| node.addresses.iter().copied())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, address: &str) -> NodeFacts {
        NodeFacts {
            name: name.to_owned(),
            addresses: vec![address.parse().unwrap()],
            ..NodeFacts::default()
        }
    }

    #[test]
    fn only_changes_count() {
        let mut index = Index::default();
        assert!(index.apply(node("a", "10.0.0.1")));
        assert!(!index.apply(node("a", "10.0.0.1")));
        assert!(index.apply(node("a", "10.0.0.2")));
        assert!(!index.delete("b"));
        assert!(index.delete("a"));
        assert!(!index.delete("a"));
    }

    #[test]
    fn the_first_complete_list_is_a_change_even_if_empty() {
        let mut index = Index::default();
        assert!(index.reset(Vec::new()));
        assert!(!index.reset(Vec::new()));
    }

    #[test]
    fn reset_forgets_who_is_not_in_it() {
        let mut index = Index::default();
        index.apply(node("a", "10.0.0.1"));
        index.apply(node("b", "10.0.0.2"));
        assert!(index.reset(vec![node("b", "10.0.0.2")]));
        assert_eq!(
            index.nodes().map(|n| n.name.as_str()).collect::<Vec<_>>(),
            ["b"]
        );
        assert!(!index.reset(vec![node("b", "10.0.0.2")]));
    }
}
