//! Everything the controllers know: one watch and one store per kind, shared.

use std::{fmt::Debug, sync::Arc};

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    certificates::v1::CertificateSigningRequest,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Secret, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Resource, runtime::watcher};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::frame::{Store, Watched, follow};

/// Where cluster-info lives.
pub(crate) const CLUSTER_INFO: (&str, &str) = ("kube-public", "cluster-info");
/// The CA certificate in every namespace.
pub(crate) const ROOT_CA: &str = "kube-root-ca.crt";

/// The stores.
#[derive(Clone)]
pub(crate) struct World {
    pub namespaces: Store<Namespace>,
    pub nodes: Store<Node>,
    pub leases: Store<Lease>,
    pub pods: Store<Pod>,
    pub services: Store<Service>,
    pub endpoints: Store<Endpoints>,
    pub slices: Store<EndpointSlice>,
    pub daemon_sets: Store<DaemonSet>,
    pub revisions: Store<ControllerRevision>,
    pub requests: Store<CertificateSigningRequest>,
    /// Bootstrap tokens only.
    pub tokens: Store<Secret>,
    /// `kube-public/cluster-info` only.
    pub cluster_info: Store<ConfigMap>,
    /// The `default` account of every namespace only.
    pub accounts: Store<ServiceAccount>,
    /// `kube-root-ca.crt` of every namespace only.
    pub root_cas: Store<ConfigMap>,
    all: Vec<Arc<dyn Watched>>,
    complete: Vec<Arc<dyn Watched>>,
}

impl World {
    /// Starts the watches.
    pub fn start(client: &kube::Client, tasks: &mut JoinSet<()>) -> Self {
        let mut starting = Starting {
            client,
            tasks,
            all: Vec::new(),
            complete: Vec::new(),
        };
        let s = &mut starting;
        let world = Self {
            namespaces: s.all(),
            nodes: s.all(),
            leases: s.all(),
            pods: s.all(),
            services: s.all(),
            endpoints: s.all(),
            slices: s.all(),
            daemon_sets: s.all(),
            revisions: s.all(),
            requests: s.all(),
            tokens: s.watch(
                Api::namespaced(client.clone(), malha_bootstrap::token::NAMESPACE),
                &format!("type={}", malha_bootstrap::token::SECRET_TYPE),
            ),
            cluster_info: s.watch(
                Api::namespaced(client.clone(), CLUSTER_INFO.0),
                &named(CLUSTER_INFO.1),
            ),
            accounts: s.watch(Api::all(client.clone()), &named("default")),
            root_cas: s.watch(Api::all(client.clone()), &named(ROOT_CA)),
            all: Vec::new(),
            complete: Vec::new(),
        };
        Self {
            all: starting.all,
            complete: starting.complete,
            ..world
        }
    }

    /// Every store.
    pub fn stores(&self) -> Vec<Arc<dyn Watched>> {
        self.all.clone()
    }

    /// The stores that hold every object of their kind.
    pub fn complete_stores(&self) -> &[Arc<dyn Watched>] {
        &self.complete
    }
}

fn named(name: &str) -> String {
    format!("metadata.name={name}")
}

struct Starting<'a> {
    client: &'a kube::Client,
    tasks: &'a mut JoinSet<()>,
    all: Vec<Arc<dyn Watched>>,
    complete: Vec<Arc<dyn Watched>>,
}

impl Starting<'_> {
    fn all<K>(&mut self) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let store = self.watch(Api::all(self.client.clone()), "");
        self.complete.push(store.watched());
        store
    }

    fn watch<K>(&mut self, api: Api<K>, fields: &str) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let store = Store::new(&());
        let mut config = watcher::Config::default();
        if !fields.is_empty() {
            config = config.fields(fields);
        }
        self.tasks.spawn(follow(api, config, store.clone()));
        self.all.push(store.watched());
        store
    }
}
