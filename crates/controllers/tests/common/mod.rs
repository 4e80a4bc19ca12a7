//! A control plane in this process: an API server over a temporary database, and the controllers.

#![allow(dead_code)]

use std::{fmt::Debug, future::Future, net::Ipv4Addr, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use malha_apiserver::{
    attributes::UserInfo,
    auth::superuser,
    server::{Config as ServerConfig, Server},
};
use malha_bootstrap::pki::{ClusterPki, ServingNames};
use malha_controllers::{Config, Timings};
use malha_core::range::ClusterRange;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

/// Longer than anything takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(20);

pub struct Cluster {
    pub client: Client,
    pub pki: ClusterPki,
    server: Server,
    controllers: Controllers,
    stop: oneshot::Sender<()>,
    kubelet: Option<JoinHandle<()>>,
    _data: tempfile::TempDir,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_with(Timings::default()).await
    }

    pub async fn start_with(timings: Timings) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let data = tempfile::tempdir().unwrap();
        let names = ServingNames {
            dns_domain: "cluster.local".into(),
            ..ServingNames::default()
        };
        let pki = ClusterPki::generate(&names, Timestamp::now()).unwrap();
        let server = Server::start(server_config(&pki, data.path()))
            .await
            .unwrap();
        let client = client_of(&server, superuser("system:admin"));
        let (controllers, stop) = control(&server, &pki, timings);
        Self {
            client,
            pki,
            server,
            controllers,
            stop,
            kubelet: None,
            _data: data,
        }
    }

    /// With somebody who runs pods.
    pub fn with_kubelet(mut self) -> Self {
        self.kubelet = Some(tokio::spawn(kubelet(self.client.clone())));
        self
    }

    /// Ends the controllers and starts them again.
    pub async fn restart_controllers(&mut self) {
        let (controllers, stop) = control(&self.server, &self.pki, Timings::default());
        // The old ones are told only now, so that both run for a moment, as after a kill that comes late.
        std::mem::replace(&mut self.stop, stop).send(()).unwrap();
        let old = std::mem::replace(&mut self.controllers, controllers);
        old.await.unwrap().unwrap();
    }

    /// A client that acts as somebody.
    pub fn client_as(&self, name: &str, groups: &[&str]) -> Client {
        let groups = groups.iter().chain(&["system:authenticated"]);
        let user = UserInfo {
            name: name.into(),
            groups: groups.map(|group| (*group).to_owned()).collect(),
            ..UserInfo::default()
        };
        client_of(&self.server, user)
    }

    /// Ends everything, and fails if the controllers did not end well.
    pub async fn stop(self) {
        if let Some(kubelet) = self.kubelet {
            kubelet.abort();
        }
        self.stop.send(()).unwrap();
        self.controllers.await.unwrap().unwrap();
        self.server.shutdown().await;
    }

    pub fn all<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    pub fn within<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Registers a node that is ready, or one that has never spoken.
    pub async fn register(&self, name: &str, is_ready: bool) {
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
        });
        create(&self.all::<Node>(), node).await;
        if is_ready {
            self.report(name).await;
        }
    }

    /// What a kubelet says of its node.
    pub async fn report(&self, name: &str) {
        let ready = json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": Timestamp::now()},
        ]}});
        let nodes = self.all::<Node>();
        nodes
            .patch_status(name, &PatchParams::default(), &Patch::Merge(ready))
            .await
            .unwrap();
    }
}

type Controllers = JoinHandle<Result<(), malha_controllers::Error>>;

/// Starts the controllers over a server.
fn control(
    server: &Server,
    pki: &ClusterPki,
    timings: Timings,
) -> (Controllers, oneshot::Sender<()>) {
    let config = Config {
        ca_cert_pem: pki.ca.cert_pem(),
        ca_key_pem: pki.ca.key_pem().into(),
        pod_ranges: ["10.244.0.0/16", "fd00:244::/48"]
            .map(|r| ClusterRange::new(r.parse().unwrap()))
            .into(),
        service_ranges: vec![
            "10.96.0.0/16".parse().unwrap(),
            "fd00:96::/112".parse().unwrap(),
        ],
        timings,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let client = client_of(server, superuser("system:kube-controller-manager"));
    let controllers = tokio::spawn(malha_controllers::run(client, config, async {
        let _ = stopped.await;
    }));
    (controllers, stop)
}

fn client_of(server: &Server, user: UserInfo) -> Client {
    Client::new(server.client_service(user), "default")
}

fn server_config(pki: &ClusterPki, data: &std::path::Path) -> ServerConfig {
    ServerConfig {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        data_dir: data.to_owned(),
        serving_cert: pki.apiserver.cert_pem.clone(),
        serving_key: pki.apiserver.key_pem.clone().into(),
        client_ca: pki.ca.cert_pem(),
        service_account_key: pki.service_accounts.private_pem.clone().into(),
        service_account_public_keys: vec![pki.service_accounts.public_pem.clone()],
        kubelet_client_cert: pki.kubelet_client.cert_pem.clone(),
        kubelet_client_key: pki.kubelet_client.key_pem.clone().into(),
        service_ranges: vec![
            "10.96.0.0/16".parse().unwrap(),
            "fd00:96::/112".parse().unwrap(),
        ],
        advertise: Ipv4Addr::LOCALHOST.into(),
    }
}

pub async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource + Serialize + DeserializeOwned + Clone + Debug,
{
    let typed = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &typed).await.unwrap()
}

/// Asks until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            eprintln!("{what}: after {:?}", begun.elapsed());
            return answer;
        }
        assert!(begun.elapsed() < DEADLINE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Asks until the object passes.
pub async fn until<K>(api: &Api<K>, name: &str, what: &str, passes: impl Fn(&K) -> bool) -> K
where
    K: Clone + DeserializeOwned + Debug,
{
    let passes = &passes;
    eventually(what, || async move {
        let found = api.get_opt(name).await.unwrap();
        found.filter(|object| passes(object))
    })
    .await
}

pub async fn gone<K>(api: &Api<K>, name: &str)
where
    K: Clone + DeserializeOwned + Debug,
{
    let ask = || async { api.get_opt(name).await.unwrap().is_none().then_some(()) };
    eventually(&format!("{name} is gone"), ask).await;
}

/// Runs and stops pods in name only: those bound to a node get an address and are ready, those deleted are let go.
async fn kubelet(client: Client) {
    let mut given = 0u8;
    loop {
        let pods = Api::<Pod>::all(client.clone())
            .list(&ListParams::default())
            .await
            .unwrap();
        for pod in pods {
            let bound = pod
                .spec
                .as_ref()
                .is_some_and(|spec| spec.node_name.is_some());
            let meta = pod.metadata;
            let (name, namespace) = (meta.name.unwrap(), meta.namespace.unwrap());
            let api = Api::<Pod>::namespaced(client.clone(), &namespace);
            let has_address = pod.status.is_some_and(|status| status.pod_ip.is_some());
            if meta.deletion_timestamp.is_some() {
                let _ = api
                    .delete(&name, &DeleteParams::default().grace_period(0))
                    .await;
            } else if bound && !has_address {
                given += 1;
                let status = json!({"status": {
                    "phase": "Running", "podIP": format!("10.244.0.{given}"),
                    "podIPs": [{"ip": format!("10.244.0.{given}")}, {"ip": format!("fd00:244::{given:x}")}],
                    "conditions": [
                        {"type": "PodScheduled", "status": "True"},
                        {"type": "Ready", "status": "True", "lastTransitionTime": Timestamp::now().round(jiff::Unit::Second).unwrap()},
                    ],
                }});
                let _ = api
                    .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
                    .await;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
