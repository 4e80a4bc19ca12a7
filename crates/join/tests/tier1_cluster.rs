//! `init`, tokens and `join` against the real API server and controllers, in this process.

mod common;

use std::{net::Ipv4Addr, os::unix::fs::PermissionsExt, time::Duration};

use common::{NODE, files, machine};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::{Api, Client, api::PostParams};
use malha_apiserver::{auth::superuser, server::Server};
use malha_bootstrap::{
    kubeadm::{ClusterConfiguration, KubeletConfiguration},
    token::{BootstrapToken, Expiry, Token, Usage},
};
use malha_join::{
    configuration::{ByToken, JoinConfiguration},
    control_plane::Config,
    init::{self, Facts, Initialised, Plan},
    join::{self, Options},
    machine::Machine,
    preflight::Ignored,
    token::{Create, Tokens, client_of, join_command},
};
use tempfile::TempDir;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// A control plane that runs in this process.
struct ControlPlane {
    root: TempDir,
    machine: Machine,
    done: Initialised,
    config: Config,
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn facts() -> Facts {
    Facts {
        hostname: "control".to_owned(),
        default_address: Some(Ipv4Addr::LOCALHOST.into()),
        ipv6: false,
    }
}

fn init_options() -> init::Options {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    init::Options {
        advertise_address: None,
        bind_address: Some(Ipv4Addr::LOCALHOST.into()),
        bind_port: listener.local_addr().expect("an address").port(),
        cert_extra_sans: vec!["api.example.org".to_owned()],
        pod_network: None,
        node_mask: None,
        node_mask_ipv4: None,
        node_mask_ipv6: None,
        service_ranges: None,
        dns_domain: "cluster.local".to_owned(),
        token: None,
        token_ttl: 3600,
        ignored: Ignored::default(),
    }
}

/// API server and controllers, as `malha control-plane` runs them.
async fn serve(config: Config, end: oneshot::Receiver<()>) {
    let credentials = config.credentials().expect("credentials");
    let controllers = malha_controllers::Config {
        ca_cert_pem: credentials.ca.clone(),
        ca_key_pem: credentials.ca_key,
        pod_ranges: config.cluster_ranges(),
        service_ranges: config.service_ranges.clone(),
        timings: malha_controllers::Timings::default(),
    };
    let server = Server::start(malha_apiserver::server::Config {
        listen: config.listen(),
        data_dir: config.data_dir.clone(),
        serving_cert: credentials.apiserver,
        serving_key: credentials.apiserver_key,
        client_ca: credentials.ca,
        service_account_key: credentials.service_account_key,
        service_account_public_keys: vec![credentials.service_account_public_key],
        kubelet_client_cert: credentials.kubelet_client,
        kubelet_client_key: credentials.kubelet_client_key,
        service_ranges: config.service_ranges.clone(),
        advertise: config.advertise_address,
    })
    .await
    .expect("the API server starts");
    let service = server.client_service(superuser("system:kube-controller-manager"));
    let client = Client::new(service, "default");
    let until = async { drop(end.await) };
    malha_controllers::run(client, controllers, until)
        .await
        .expect("the controllers start");
    server.shutdown().await;
}

impl ControlPlane {
    async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (root, machine) = machine();
        let plan = Plan::new(&init_options(), &machine, &facts()).expect("valid options");
        let prepared = plan.prepare(&machine).expect("prepared");
        let config = prepared.config.clone();
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(serve(config.clone(), ended));
        until(async || prepared.ready().await).await;
        let done = prepared
            .finish()
            .await
            .map_err(|e| format!("{e:#}"))
            .expect("filled");
        Self {
            root,
            machine,
            done,
            config,
            end,
            task,
        }
    }

    async fn admin(&self) -> Client {
        let text = std::fs::read_to_string(self.machine.paths.admin_conf()).expect("admin.conf");
        client_of(&text).await.expect("a client")
    }

    async fn tokens(&self) -> Tokens {
        Tokens::new(self.admin().await)
    }

    /// What `malha join` gets when the user types a join command.
    fn options(&self, command: &str) -> Options {
        let words: Vec<&str> = command.split(' ').collect();
        let [
            "malha",
            "join",
            endpoint,
            "--token",
            token,
            "--discovery-token-ca-cert-hash",
            pin,
        ] = words[..]
        else {
            panic!("another command: {command}");
        };
        let given = JoinConfiguration {
            by_token: Some(ByToken {
                endpoint: endpoint.to_owned(),
                token: Some(token.to_owned()),
                ca_cert_hashes: vec![pin.to_owned()],
                unsafe_skip_ca_verification: false,
            }),
            node_name: Some(NODE.to_owned()),
            ..JoinConfiguration::default()
        };
        Options::new(given).expect("valid options")
    }

    async fn stop(self) -> TempDir {
        let _ = self.end.send(());
        self.task.await.expect("ended well");
        self.root
    }
}

/// Waits until something holds; the error says what does not.
async fn until<T>(mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match look().await {
            Ok(found) => return found,
            Err(why) => assert!(Instant::now() < deadline, "{why}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn refused(options: &Options) -> String {
    let (root, machine) = machine();
    let Err(error) = join::enroll(options, &machine).await else {
        panic!("joined")
    };
    assert_eq!(files(root.path()), Vec::<String>::new());
    let text = format!("{error:#}");
    assert!(!text.contains('\n'), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_command_joins_and_the_certificate_is_the_nodes() {
    let cluster = ControlPlane::start().await;
    let options = cluster.options(&cluster.done.join_command);
    let (root, machine) = machine();
    let enrolled = join::enroll(&options, &machine)
        .await
        .map_err(|e| format!("{e:#}"))
        .expect("joins");
    assert_eq!(enrolled.server.url(), cluster.done.server);
    enrolled.keep();

    // The node's kubeconfig works, and is the node's: it may register itself and nobody else.
    let text = std::fs::read_to_string(root.path().join("etc/kubernetes/kubelet.conf"))
        .expect("kubelet.conf");
    let nodes: Api<Node> = Api::all(client_of(&text).await.expect("a client"));
    let named = |name: &str| Node {
        metadata: kube::core::ObjectMeta {
            name: Some(name.to_owned()),
            ..Default::default()
        },
        ..Node::default()
    };
    nodes
        .create(&PostParams::default(), &named("w2"))
        .await
        .expect_err("another node");
    nodes
        .create(&PostParams::default(), &named(NODE))
        .await
        .expect("its own node");
    drop(cluster.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_leaves_what_kubeadm_leaves() {
    let cluster = ControlPlane::start().await;
    let mode = |path: &str| {
        let path = cluster.root.path().join(path);
        std::fs::metadata(&path)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
            .permissions()
            .mode()
            & 0o7777
    };
    for name in ["ca", "apiserver", "apiserver-kubelet-client"] {
        assert_eq!(mode(&format!("etc/kubernetes/pki/{name}.crt")), 0o644);
        assert_eq!(mode(&format!("etc/kubernetes/pki/{name}.key")), 0o600);
    }
    for file in [
        "etc/kubernetes/pki/sa.key",
        "etc/kubernetes/pki/sa.pub",
        "etc/kubernetes/admin.conf",
    ] {
        assert_eq!(mode(file), 0o600);
    }
    assert_eq!(mode("var/lib/malha/control-plane"), 0o700);

    let client = cluster.admin().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let read = async |name: &str, key: &str| {
        let map = maps.get(name).await.expect(name);
        map.data.and_then(|mut data| data.remove(key)).expect(key)
    };
    let text = read("kubeadm-config", "ClusterConfiguration").await;
    let written = ClusterConfiguration::parse(&text).expect("a ClusterConfiguration");
    assert_eq!(written.networking.pod_subnet, "10.244.0.0/16");
    assert_eq!(written.networking.service_subnet, "10.96.0.0/12");
    for name in ["kubelet-config", "kubelet-config-1.31"] {
        let text = read(name, "kubelet").await;
        KubeletConfiguration::check(&text).expect("a KubeletConfiguration");
        assert!(text.contains("10.96.0.10"), "{text}");
    }

    let again = Plan::new(&init_options(), &cluster.machine, &facts())
        .map(drop)
        .expect_err("twice")
        .to_string();
    assert!(
        again.contains("is a control plane already") && again.contains("malha reset"),
        "{again}"
    );
    drop(cluster.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_made_listed_and_deleted_and_then_useless() {
    let cluster = ControlPlane::start().await;
    let tokens = cluster.tokens().await;
    let create = Create {
        token: None,
        ttl: 0,
        usages: [Usage::Authentication, Usage::Signing].into(),
        groups: None,
        description: Some("for w1".to_owned()),
    };
    let made = create.describe(Timestamp::now()).expect("valid");
    tokens.create(&made).await.expect("created");
    let twice = tokens.create(&made).await.expect_err("exists").to_string();
    assert!(
        twice.contains("already exists") && twice.contains("malha token delete"),
        "{twice}"
    );
    assert!(tokens.list().await.expect("listed").contains(&made));

    let (endpoint, pins) = tokens.control_plane().await.expect("cluster-info");
    let command = join_command(&endpoint, Some(&made.token), &pins);
    let options = cluster.options(&command);
    let (_root, mut machine) = machine();
    machine.patience = Duration::from_secs(5);
    join::enroll(&options, &machine)
        .await
        .map_err(|e| format!("{e:#}"))
        .map(drop)
        .expect("joins");

    tokens.delete(&made.token.id).await.expect("deleted");
    let gone = tokens
        .delete(&made.token.id)
        .await
        .expect_err("is gone")
        .to_string();
    assert!(gone.contains("no token with the ID"), "{gone}");
    // The signature goes a moment after the token; without the token the API server refuses at once.
    until(async || {
        let text = refused(&options).await;
        let known = text.contains("expired, was deleted or never existed");
        if known { Ok(()) } else { Err(text) }
    })
    .await;
    drop(cluster.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_and_one_without_authentication() {
    let cluster = ControlPlane::start().await;
    let tokens = cluster.tokens().await;
    let expired = BootstrapToken::new(Token::generate(), Expiry::At(Timestamp::UNIX_EPOCH));
    // The cleaner may have it already when the answer comes.
    tokens.create(&expired).await.expect("created");
    let (endpoint, pins) = tokens.control_plane().await.expect("cluster-info");
    let text =
        refused(&cluster.options(&join_command(&endpoint, Some(&expired.token), &pins))).await;
    assert!(
        text.contains("expired, was deleted or never existed; create a new one"),
        "{text}"
    );
    until(async || {
        let list = tokens.list().await.map_err(|e| e.to_string())?;
        let stays = list.iter().any(|t| t.token == expired.token);
        if stays {
            Err("an expired token stays".to_owned())
        } else {
            Ok(())
        }
    })
    .await;

    let signing = BootstrapToken {
        usages: [Usage::Signing].into(),
        groups: Vec::new(),
        ..BootstrapToken::new(Token::generate(), Expiry::Never)
    };
    tokens.create(&signing).await.expect("created");
    let options = cluster.options(&join_command(&endpoint, Some(&signing.token), &pins));
    until(async || {
        let text = refused(&options).await;
        if text.contains("is not for authentication") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
    drop(cluster.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_finished_is_undone() {
    let (root, machine) = machine();
    let plan = Plan::new(&init_options(), &machine, &facts()).expect("valid options");
    let prepared = plan.prepare(&machine).expect("prepared");
    assert!(files(root.path()).len() > 10);
    let database = &prepared.config.data_dir;
    std::fs::create_dir_all(database.join("deep")).expect("made");
    std::fs::write(database.join("deep/objects"), "x").expect("written");
    // Nobody answers.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let error = prepared.finish().await.expect_err("no API server");
    let text = format!("{error:#}");
    assert!(text.contains("connection refused"), "{text}");
    assert_eq!(files(root.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reset_leaves_nothing_of_malha_and_all_of_others() {
    let cluster = ControlPlane::start().await;
    let machine = cluster.machine.clone();
    let config = cluster.config.clone();
    let root = cluster.stop().await;
    assert!(config.data_dir.exists());
    std::fs::write(machine.paths.kubernetes().join("mine"), "x").expect("written");
    let mut called = false;
    let teardown: malha_join::reset::Teardown<'_> = Box::new(|| {
        called = true;
        Ok(true)
    });
    malha_join::reset::run(&machine, vec![("pods", teardown)]).expect("reset");
    malha_join::reset::run(&machine, Vec::new()).expect("twice is fine");
    assert!(called);
    let left: Vec<String> = files(root.path())
        .into_iter()
        .filter(|f| root.path().join(f).is_file())
        .collect();
    assert_eq!(left, ["etc/kubernetes/mine"]);
    let mut poor = machine.clone();
    poor.privileged = false;
    malha_join::reset::run(&poor, Vec::new()).expect_err("not root");
}
