//! An API server with its controllers and a node agent, in a network namespace of their own.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod kubectl;

use std::{
    fs,
    future::Future,
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use malha_apiserver::{auth::superuser, server};
use malha_bootstrap::{
    kubeconfig::Kubeconfig,
    names::Subject,
    pki::{ClusterPki, Issue, Purpose, ServingNames},
};
use malha_node::{Config, mounts::MountTable, runtime::Cgroups};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Longer than anything takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs a test in a network namespace of its own, which ends with it.
pub fn in_own_network<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test starts containers: run it as root"
    );
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    malha_node::launch::sys::loopback_up().unwrap();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test());
    runtime.shutdown_timeout(Duration::from_secs(5));
}

type Controllers = (
    oneshot::Sender<()>,
    JoinHandle<Result<(), malha_controllers::Error>>,
);

/// All of it.
pub struct Cluster {
    pub client: Client,
    pub config: Config,
    pub pki: ClusterPki,
    server: Option<server::Server>,
    controllers: Option<Controllers>,
    agent: Option<(oneshot::Sender<()>, JoinHandle<anyhow::Result<()>>)>,
    directory: tempfile::TempDir,
}

impl Cluster {
    /// A cluster with a running agent.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let names = ServingNames {
            dns_domain: "cluster.local".into(),
            ..ServingNames::default()
        };
        let pki = ClusterPki::generate(&names, Timestamp::now()).unwrap();
        let server = server::Server::start(server_config(&pki, &directory.path().join("data")))
            .await
            .unwrap();
        let client = Client::new(server.client_service(superuser("system:admin")), "default");
        let controllers = controllers(&server, &pki);
        let config = node_config(directory.path(), &pki, &server);
        let mut cluster = Self {
            client,
            config,
            pki,
            server: Some(server),
            controllers: Some(controllers),
            agent: None,
            directory,
        };
        cluster.start_agent();
        cluster
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.server.as_ref().unwrap().local_addr()
    }

    pub fn start_agent(&mut self) {
        let (stop, stopped) = oneshot::channel::<()>();
        let config = self.config.clone();
        let agent = tokio::spawn(malha_node::run(config, async move {
            let _ = stopped.await;
        }));
        self.agent = Some((stop, agent));
    }

    /// As when the agent is killed: pods go on.
    pub async fn stop_agent(&mut self) {
        let (stop, agent) = self.agent.take().unwrap();
        stop.send(()).unwrap();
        agent.await.unwrap().unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Lets pods have a network: a veth each, by the reference plugins.
    pub fn install_network(&self) {
        let list = json!({
            "cniVersion": "1.0.0", "name": "test",
            "plugins": [{"type": "ptp", "ipam": {
                "type": "host-local", "dataDir": self.path("ipam"),
                "ranges": [[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd00:7::/64"}]],
            }}],
        });
        let temporary = self.config.cni_conf_dir.join("10-test.tmp");
        fs::create_dir_all(&self.config.cni_conf_dir).unwrap();
        fs::write(&temporary, list.to_string()).unwrap();
        fs::rename(temporary, self.config.cni_conf_dir.join("10-test.conflist")).unwrap();
    }

    /// Creates a pod bound to the node. `spec` is added to one with a container `c` that has `container`.
    pub async fn create(&self, name: &str, spec: Value, container: Value) -> Pod {
        let mut own = json!({"name": "c", "image": "host"});
        merge(&mut own, &container);
        let mut whole = json!({
            "nodeName": self.config.node_name,
            "containers": [own],
            "terminationGracePeriodSeconds": 5,
        });
        merge(&mut whole, &spec);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
            "spec": whole,
        });
        let pod = serde_json::from_value(pod).unwrap();
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.pods().create(&PostParams::default(), &pod).await {
                // The service account is made by a controller.
                Err(kube::Error::Api(status))
                    if status.code == 403 && Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => return other.unwrap(),
            }
        }
    }

    /// Waits until the pod is as it should be.
    pub async fn until_pod(&self, name: &str, what: &str, so: impl Fn(&Pod) -> bool) -> Pod {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let pod = self.pods().get(name).await.unwrap();
            if so(&pod) {
                return pod;
            }
            if Instant::now() > deadline {
                let events = self.events(name).await.join("\n  ");
                panic!(
                    "pod {name} is not {what}: {}\n  {events}",
                    json!(pod.status)
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn until_ready(&self, name: &str) -> Pod {
        self.until_pod(name, "ready", |pod| condition(pod, "Ready") == "True")
            .await
    }

    pub async fn until_phase(&self, name: &str, phase: &str) -> Pod {
        let is = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some(phase);
        self.until_pod(name, phase, is).await
    }

    pub async fn until_gone(&self, name: &str) {
        self.until(&format!("pod {name} to be gone"), async || {
            self.pods().get_opt(name).await.unwrap().is_none()
        })
        .await;
    }

    pub async fn until_node(&self, what: &str, so: impl Fn(&Node) -> bool) -> Node {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let node = self.nodes().get_opt(&self.config.node_name).await.unwrap();
            match node {
                Some(node) if so(&node) => return node,
                other => assert!(
                    Instant::now() < deadline,
                    "the node is not {what}: {other:?}"
                ),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn until(&self, what: &str, so: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !so().await {
            assert!(Instant::now() < deadline, "waited too long for {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn log(&self, pod: &str) -> String {
        self.pods().logs(pod, &Default::default()).await.unwrap()
    }

    /// Events of an object: reason and message.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let events: Api<Event> = Api::all(self.client.clone());
        let all = events.list(&ListParams::default()).await.unwrap();
        let of = all
            .items
            .into_iter()
            .filter(|e| e.involved_object.name.as_deref() == Some(name));
        of.map(|e| {
            format!(
                "{} {}",
                e.reason.unwrap_or_default(),
                e.message.unwrap_or_default()
            )
        })
        .collect()
    }

    /// Ends everything and fails if something of the node is left.
    pub async fn stop(mut self) {
        if self.agent.is_some() {
            self.stop_agent().await;
        }
        let config = self.config.clone();
        tokio::task::spawn_blocking(move || malha_node::teardown(&config))
            .await
            .unwrap()
            .unwrap();
        let (stop, controllers) = self.controllers.take().unwrap();
        stop.send(()).unwrap();
        controllers.await.unwrap().unwrap();
        self.server.take().unwrap().shutdown().await;
        assert_nothing_left(&self.config, self.directory.path());
    }
}

/// A test that failed leaves nothing either.
impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = malha_node::teardown(&self.config);
        }
    }
}

pub fn condition(pod: &Pod, kind: &str) -> String {
    let all = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.clone())
        .unwrap_or_default();
    all.into_iter()
        .find(|c| c.type_ == kind)
        .map(|c| c.status)
        .unwrap_or_default()
}

pub fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().unwrap() {
        into[key] = value.clone();
    }
}

fn assert_nothing_left(config: &Config, directory: &Path) {
    let mounts = MountTable::read().unwrap();
    let left: Vec<_> = mounts.below(directory).collect();
    assert!(left.is_empty(), "mounts are left: {left:?}");
    let cgroups = Cgroups::of_node(&config.node_name).unwrap();
    let left: Vec<_> = cgroups
        .directories(cgroups.node())
        .into_iter()
        .filter(|d| d.exists())
        .collect();
    assert!(left.is_empty(), "cgroups are left: {left:?}");
    for path in [&config.run_dir, &config.root_dir] {
        assert!(!path.exists(), "{} is left", path.display());
    }
    for path in [&config.netns_dir, &config.log_dir] {
        let left: Vec<_> = fs::read_dir(path)
            .unwrap()
            .flatten()
            .map(|e| e.path())
            .collect();
        assert!(left.is_empty(), "files are left: {left:?}");
    }
    let text = directory.to_string_lossy().into_owned();
    let lines = fs::read_dir("/proc").unwrap().flatten();
    let lines = lines.filter_map(|e| fs::read_to_string(e.path().join("cmdline")).ok());
    let left: Vec<_> = lines.filter(|line| line.contains(&text)).collect();
    assert!(left.is_empty(), "processes are left: {left:?}");
}

fn free_port() -> u16 {
    TcpListener::bind((LOOPBACK, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn node_config(directory: &Path, pki: &ClusterPki, server: &server::Server) -> Config {
    let name = format!("node-{}", std::process::id());
    let subject = Subject::member(format!("system:node:{name}"), &["system:nodes"]);
    let issue = Issue {
        subject,
        purpose: Purpose::Client,
        dns_names: &[],
        ip_addresses: &[],
    };
    let own = pki.ca.issue_keyed(&issue, Timestamp::now()).unwrap();
    let kubeconfig = Kubeconfig::with_client_cert(
        &name,
        &format!("https://{}", server.local_addr()),
        &pki.ca.cert_pem(),
        &own.cert_pem,
        &own.key_pem,
    );
    let at = |part: &str| directory.join(part);
    fs::write(at("kubelet.conf"), kubeconfig.to_yaml().unwrap()).unwrap();
    fs::write(at("ca.crt"), pki.ca.cert_pem()).unwrap();
    let launcher: PathBuf = env!("CARGO_BIN_EXE_malha-node-launcher").into();
    Config {
        kubeconfig: at("kubelet.conf"),
        cni_conf_dir: at("cni/net.d"),
        cni_bin_dir: "/usr/lib/cni".into(),
        root_dir: at("root"),
        run_dir: at("run"),
        netns_dir: at("netns"),
        log_dir: at("log"),
        port: free_port(),
        client_ca: at("ca.crt"),
        pki_dir: at("pki"),
        image_programs: vec![launcher.clone()],
        launcher,
        ..Config::new(&name, vec![LOOPBACK]).unwrap()
    }
}

fn server_config(pki: &ClusterPki, data_dir: &Path) -> server::Config {
    server::Config {
        listen: (LOOPBACK, 0).into(),
        data_dir: data_dir.to_owned(),
        serving_cert: pki.apiserver.cert_pem.clone(),
        serving_key: pki.apiserver.key_pem.clone().into(),
        client_ca: pki.ca.cert_pem(),
        service_account_key: pki.service_accounts.private_pem.clone().into(),
        service_account_public_keys: vec![pki.service_accounts.public_pem.clone()],
        kubelet_client_cert: pki.kubelet_client.cert_pem.clone(),
        kubelet_client_key: pki.kubelet_client.key_pem.clone().into(),
        service_ranges: vec!["10.96.0.0/16".parse().unwrap()],
        advertise: LOOPBACK,
    }
}

fn controllers(server: &server::Server, pki: &ClusterPki) -> Controllers {
    let client = Client::new(
        server.client_service(superuser("system:kube-controller-manager")),
        "default",
    );
    let config = malha_controllers::Config {
        ca_cert_pem: pki.ca.cert_pem(),
        ca_key_pem: pki.ca.key_pem().into(),
        pod_ranges: Vec::new(),
        service_ranges: Vec::new(),
        timings: malha_controllers::Timings::default(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let run = malha_controllers::run(client, config, async move {
        let _ = stopped.await;
    });
    (stop, tokio::spawn(run))
}
