//! What every pod's worker has in common.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use k8s_openapi::api::core::v1::Pod;
use kube::Client;

use super::sources::Sources;
use crate::{Config, events::Events, machine::Watched, runtime::Runtime, volumes::Volumes};

/// The agent's parts, for workers.
pub struct Context {
    /// Configuration.
    pub config: Arc<Config>,
    /// The API server, as the node.
    pub client: Client,
    /// Sandboxes and containers.
    pub runtime: Arc<Runtime>,
    /// Volumes.
    pub volumes: Volumes,
    /// What pods refer to.
    pub sources: Sources,
    /// Events.
    pub events: Events,
    /// The machine.
    pub watched: Watched,
    /// Processors, and bytes of memory.
    pub capacity: (u64, u64),
    /// The pods of this node.
    pub registry: Registry,
}

impl Context {
    /// The node's addresses as texts.
    pub fn host_ips(&self) -> Vec<String> {
        self.config
            .node_ips
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

type Pods = HashMap<(String, String), Arc<Pod>>;

/// The pods of this node by namespace and name.
#[derive(Clone, Default)]
pub struct Registry(Arc<RwLock<Pods>>);

impl Registry {
    /// A pod.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All of them, sorted.
    pub fn all(&self) -> Vec<Arc<Pod>> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let sorted: BTreeMap<_, _> = map.iter().collect();
        sorted.into_values().cloned().collect()
    }

    /// A pod is there, as this; it replaces an older one of its name.
    pub fn put(&self, pod: Arc<Pod>) {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        map.insert(key(&pod), pod);
    }

    /// A pod is gone; one of the same name with another uid stays.
    pub fn remove(&self, pod: &Pod) {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let key = key(pod);
        if map
            .get(&key)
            .is_some_and(|p| p.metadata.uid == pod.metadata.uid)
        {
            map.remove(&key);
        }
    }
}

fn key(pod: &Pod) -> (String, String) {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    (text(&pod.metadata.namespace), text(&pod.metadata.name))
}
