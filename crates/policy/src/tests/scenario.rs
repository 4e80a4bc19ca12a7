//! A cluster and flows through it, printed so that a counterexample can be read.
use std::fmt;

use crate::{
    compile::Change,
    model::{Cluster, Flow, Policy},
};

/// What one case of a property test is about.
#[derive(Clone)]
pub struct Scenario {
    pub cluster: Cluster,
    pub flows: Vec<Flow>,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", Print(&self.cluster))?;
        self.flows
            .iter()
            .try_for_each(|flow| writeln!(f, "flow {flow}"))
    }
}

/// A cluster, one object a line.
pub struct Print<'a>(pub &'a Cluster);

impl fmt::Display for Print<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = self.0;
        for namespace in cluster.namespaces.values() {
            writeln!(f, "namespace {} {:?}", namespace.name, namespace.labels)?;
        }
        for node in cluster.nodes.values() {
            writeln!(
                f,
                "node {} {:?} {:?}",
                node.name, node.labels, node.addresses
            )?;
        }
        for pod in cluster.pods.values() {
            let network = if pod.host_network { "host network" } else { "" };
            writeln!(
                f,
                "pod {}/{} {:?} as {} on {} {:?} {network}",
                pod.namespace, pod.name, pod.labels, pod.service_account, pod.node, pod.addresses
            )?;
            for port in &pod.ports {
                writeln!(f, "  port {} = {}/{}", port.name, port.port, port.protocol)?;
            }
        }
        for (name, set) in &cluster.address_sets {
            writeln!(f, "address set {name} {:?}", set.spec.blocks)?;
        }
        for policy in cluster.policies.values() {
            let staged = if policy.is_staged() { " (staged)" } else { "" };
            writeln!(f, "{}{staged} {}", policy.object(), json(policy))?;
        }
        Ok(())
    }
}

fn json(policy: &Policy) -> String {
    let text = match policy {
        Policy::Namespaced(p) => serde_json::to_string(&p.spec),
        Policy::Cluster(p) => serde_json::to_string(&p.spec),
        Policy::Malha(p) => serde_json::to_string(&p.spec),
    };
    text.unwrap_or_else(|error| error.to_string())
}

/// A cluster that becomes another, one change after the other.
#[derive(Clone)]
pub struct History {
    pub first: Cluster,
    pub changes: Vec<Change>,
    /// How many changes are taken together, again and again.
    pub batches: Vec<usize>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}batches {:?}", Print(&self.first), self.batches)?;
        self.changes.iter().try_for_each(|change| match change {
            Change::Policy(object, Some(policy)) => writeln!(f, "set {object} {}", json(policy)),
            other => writeln!(f, "{other:?}"),
        })
    }
}

/// Do to the model what a change says.
pub fn change(cluster: &mut Cluster, change: &Change) {
    fn set<K: Ord + Clone, V: Clone>(
        map: &mut std::collections::BTreeMap<K, V>,
        key: &K,
        value: Option<&V>,
    ) {
        match value {
            Some(value) => drop(map.insert(key.clone(), value.clone())),
            None => drop(map.remove(key)),
        }
    }
    match change {
        Change::Namespace(key, value) => set(&mut cluster.namespaces, key, value.as_ref()),
        Change::Pod(key, value) => set(&mut cluster.pods, key, value.as_ref()),
        Change::Node(key, value) => set(&mut cluster.nodes, key, value.as_ref()),
        Change::Policy(key, value) => set(&mut cluster.policies, key, value.as_deref()),
        Change::AddressSet(key, value) => set(&mut cluster.address_sets, key, value.as_ref()),
    }
}
