//! Joins that fail, each in one line that names cause and remedy, without telling the token to anybody.

mod common;

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
};

use common::{Behaviour, Cluster, NODE, Seen, files, machine, options, refusal, token};
use jiff::SignedDuration;
use malha_bootstrap::{pki::CertificateAuthority, token::Token};
use malha_join::{
    clock::Clock,
    join::{self, Options},
    machine::Machine,
};
use serde_json::json;
use tokio::io::AsyncWriteExt;

/// The failure's text; nothing was left behind.
async fn failure(options: &Options, machine: &Machine) -> String {
    let start = std::time::Instant::now();
    let Err(error) = join::enroll(options, machine).await else {
        panic!("joined");
    };
    assert!(start.elapsed() < join::LIMIT, "{error:#}");
    let text = format!("{error:#}");
    assert!(!text.contains('\n'), "more than one line: {text}");
    common::documented(&text);
    assert!(
        !text.contains("0123456789abcdef"),
        "the secret is shown: {text}"
    );
    assert_eq!(
        files(&machine.paths.at("/")),
        Vec::<String>::new(),
        "{text}"
    );
    text
}

/// Joins the cluster as its user would, and fails; the server has seen no secret.
async fn refused(cluster: &Cluster) -> String {
    let (_root, machine) = machine();
    let text = failure(&cluster.options(), &machine).await;
    cluster.assert_knows_no_secret();
    text
}

fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

#[tokio::test]
async fn a_closed_port() {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let pin = malha_bootstrap::pin::CaPin::of_public_key(b"");
    let (_root, machine) = machine();
    let text = failure(&options(address, vec![pin]), &machine).await;
    assert_has(
        &text,
        &[
            &address.to_string(),
            "connection refused",
            "check address and port",
        ],
    );
}

#[tokio::test]
async fn a_name_that_leads_nowhere() {
    let pin = malha_bootstrap::pin::CaPin::of_public_key(b"");
    let mut given = common::configuration(([127, 0, 0, 1], 1).into(), &[pin]);
    if let Some(by_token) = &mut given.by_token {
        // RFC 6761: never exists; whether name servers say so or are silent depends on where this runs.
        by_token.endpoint = "control.invalid:6443".to_owned();
    }
    let (_root, machine) = machine();
    let text = failure(&Options::new(given).expect("valid options"), &machine).await;
    assert_has(
        &text,
        &[
            "cannot find the address of \"control.invalid\"",
            "use the server's address",
        ],
    );
}

#[tokio::test]
async fn a_server_that_takes_too_long() {
    let behaviour = Behaviour {
        instead: Box::new(|_, _| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            None
        }),
        ..Behaviour::default()
    };
    let cluster = Cluster::start(behaviour).await;
    let (_root, machine) = machine();
    let mut hurried = cluster.options();
    hurried.limit = std::time::Duration::from_millis(2200);
    let text = failure(&hurried, &machine).await;
    assert_has(&text, &["answers too slowly", "--timeout"]);
}

#[test]
fn a_host_without_a_route() {
    // A network namespace without any route, which ends with this thread.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .expect("a network namespace: this test needs root");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let pin = malha_bootstrap::pin::CaPin::of_public_key(b"");
    let address = SocketAddr::from(([192, 0, 2, 1], 6443));
    let (_root, machine) = machine();
    let text = runtime.block_on(failure(&options(address, vec![pin]), &machine));
    assert_has(
        &text,
        &["192.0.2.1:6443", "network is unreachable", "ip route"],
    );
}

#[tokio::test]
async fn a_silent_host() {
    // Connections are taken by the kernel, and nobody ever answers.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let pin = malha_bootstrap::pin::CaPin::of_public_key(b"");
    let (_root, mut machine) = machine();
    machine.limits.connect = std::time::Duration::from_millis(200);
    let text = failure(&options(address, vec![pin]), &machine).await;
    assert_has(
        &text,
        &["is silent", "no TLS handshake within 0.2 s", "firewall"],
    );
}

#[tokio::test]
async fn a_port_of_something_else() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream
                .write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
                .await;
        }
    });
    let pin = malha_bootstrap::pin::CaPin::of_public_key(b"");
    let (_root, machine) = machine();
    let text = failure(&options(address, vec![pin]), &machine).await;
    assert_has(&text, &["does not speak TLS", "check the port"]);
}

#[tokio::test]
async fn a_web_server_of_something_else() {
    let behaviour = Behaviour {
        instead: Box::new(|_, _| Some((200, json!("hello")))),
        ..Behaviour::default()
    };
    let text = refused(&Cluster::start(behaviour).await).await;
    assert_has(
        &text,
        &["not a Kubernetes API server", "check address and port"],
    );
}

#[tokio::test]
async fn a_token_nobody_knows() {
    let cluster = Cluster::start(Behaviour {
        signs_with: None,
        ..Behaviour::default()
    })
    .await;
    let text = refused(&cluster).await;
    assert_has(
        &text,
        &[
            "token abcdef",
            "expired, was deleted or never existed",
            "malha token create --print-join-command",
        ],
    );
    assert!(
        cluster.seen().len() > 1,
        "asked again, for signatures follow tokens"
    );
}

#[tokio::test]
async fn a_token_with_a_wrong_secret() {
    let other: Token = "abcdef.fedcba9876543210".parse().expect("a token");
    let cluster = Cluster::start(Behaviour {
        signs_with: Some(other),
        ..Behaviour::default()
    })
    .await;
    let text = refused(&cluster).await;
    assert_has(
        &text,
        &[
            "after the dot is wrong for the token abcdef",
            "malha token create",
        ],
    );
}

#[tokio::test]
async fn another_ca_than_the_pinned_one() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let pinned = malha_bootstrap::pin::CaPin::of_public_key(b"another");
    let (_root, machine) = machine();
    let given = options(cluster.address, vec![pinned]);
    let text = failure(&given, &machine).await;
    cluster.assert_knows_no_secret();
    assert_has(
        &text,
        &[
            &pinned.to_string(),
            &cluster.pin().to_string(),
            "not the pinned one",
        ],
    );
}

#[tokio::test]
async fn another_cluster_is_told_by_its_ca_though_it_does_not_know_the_token() {
    let cluster = Cluster::start(Behaviour {
        signs_with: None,
        ..Behaviour::default()
    })
    .await;
    let pinned = malha_bootstrap::pin::CaPin::of_public_key(b"another");
    let (_root, machine) = machine();
    let text = failure(&options(cluster.address, vec![pinned]), &machine).await;
    assert_has(&text, &["not the pinned one"]);
}

#[tokio::test]
async fn somebody_between_who_passes_cluster_info_on() {
    // He has the true, signed cluster-info, but no key under its CA.
    let own = CertificateAuthority::generate("kubernetes", jiff::Timestamp::now()).expect("a CA");
    let cluster = Cluster::start(Behaviour {
        shows: Some(own),
        ..Behaviour::default()
    })
    .await;
    let text = refused(&cluster).await;
    assert_has(
        &text,
        &["not signed by the cluster's CA", "somebody else answers"],
    );
    assert_eq!(cluster.seen().len(), 1);
}

#[tokio::test]
async fn cluster_info_that_changes_between_the_fetches() {
    let instead = |number: usize, _: &Seen| {
        (number == 2).then(|| (200, json!({"data": {"kubeconfig": "kind: Config"}})))
    };
    let cluster = Cluster::start(Behaviour {
        instead: Box::new(instead),
        ..Behaviour::default()
    })
    .await;
    assert_has(
        &refused(&cluster).await,
        &["another cluster-info over verified TLS"],
    );
}

#[tokio::test]
async fn a_certificate_for_another_address() {
    let certified = vec![[192, 0, 2, 7].into()];
    let cluster = Cluster::start(Behaviour {
        certified,
        ..Behaviour::default()
    })
    .await;
    let text = refused(&cluster).await;
    assert_has(
        &text,
        &[
            "is not for 127.0.0.1, only for 192.0.2.7",
            "--apiserver-cert-extra-sans",
        ],
    );
}

#[tokio::test]
async fn a_ca_that_is_not_valid_yet() {
    let cluster = Cluster::start(Behaviour {
        made: hours(2),
        ..Behaviour::default()
    })
    .await;
    let text = refused(&cluster).await;
    assert_has(
        &text,
        &[
            "CA certificate is not valid before",
            "this machine's clock says",
            "the control plane's",
        ],
    );
}

#[tokio::test]
async fn a_ca_that_has_expired() {
    // Ten years and a day ago.
    let cluster = Cluster::start(Behaviour {
        made: hours(-3651 * 24),
        ..Behaviour::default()
    })
    .await;
    assert_has(
        &refused(&cluster).await,
        &["CA certificate was valid until", "renew the cluster's CA"],
    );
}

#[tokio::test]
async fn a_clock_that_is_ahead() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, mut machine) = machine();
    machine.clock = Clock::wrong_by(hours(3));
    let text = failure(&cluster.options(), &machine).await;
    assert_has(
        &text,
        &[
            "clock is 3 h 0 min ahead of the control plane's",
            "set the clocks",
        ],
    );
    cluster.assert_knows_no_secret();
}

#[tokio::test]
async fn a_clock_far_ahead_is_not_called_an_expired_certificate() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, mut machine) = machine();
    // Past the server certificate's year, within the CA's ten.
    machine.clock = Clock::wrong_by(hours(400 * 24));
    let text = failure(&cluster.options(), &machine).await;
    assert_has(&text, &["ahead of the control plane's", "set the clocks"]);
}

#[tokio::test]
async fn a_clock_that_is_behind() {
    let cluster = Cluster::start(Behaviour {
        made: hours(-48),
        ..Behaviour::default()
    })
    .await;
    let (_root, mut machine) = machine();
    machine.clock = Clock::wrong_by(SignedDuration::from_mins(-7));
    let text = failure(&cluster.options(), &machine).await;
    assert_has(&text, &["min behind the control plane's"]);
}

/// Answers one path in another way than usual.
fn at(path: &'static str, code: u16, answer: serde_json::Value) -> Behaviour {
    let instead =
        move |_: usize, seen: &Seen| seen.path.starts_with(path).then(|| (code, answer.clone()));
    Behaviour {
        instead: Box::new(instead),
        ..Behaviour::default()
    }
}

/// The token is sent now, for the control plane is proven; so only the text is looked at.
async fn refused_after_discovery(behaviour: Behaviour) -> String {
    let cluster = Cluster::start(behaviour).await;
    let (_root, machine) = machine();
    failure(&cluster.options(), &machine).await
}

const KUBEADM_CONFIG: &str = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config";
const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

#[tokio::test]
async fn a_token_that_expires_in_between() {
    let (code, status) = refusal(401, "Unauthorized");
    let text = refused_after_discovery(at(KUBEADM_CONFIG, code, status)).await;
    assert_has(
        &text,
        &[
            "does not accept the token",
            "expired",
            "malha token create --print-join-command",
        ],
    );
}

#[tokio::test]
async fn a_cluster_without_configuration() {
    let (code, status) = refusal(404, "not found");
    let text = refused_after_discovery(at(KUBEADM_CONFIG, code, status)).await;
    assert_has(&text, &["no ConfigMap kube-system/kubeadm-config"]);
}

fn node(ready: &str, address: &str) -> serde_json::Value {
    json!({"status": {
        "conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-11-25T02:30:31Z"}],
        "addresses": [{"type": "InternalIP", "address": address}],
    }})
}

#[tokio::test]
async fn a_name_that_is_taken() {
    // Not Ready, as every node before there is a pod network, but alive.
    for ready in ["True", "False"] {
        let text =
            refused_after_discovery(at("/api/v1/nodes/w1", 200, node(ready, "192.0.2.9"))).await;
        assert_has(
            &text,
            &[
                "\"w1\" is already in the cluster",
                "192.0.2.9",
                "--node-name",
                "kubectl delete node w1",
            ],
        );
    }
}

#[tokio::test]
async fn a_name_that_a_dead_node_or_this_machine_had() {
    for (ready, address) in [("Unknown", "192.0.2.9"), ("True", "127.0.0.1")] {
        let cluster = Cluster::start(at("/api/v1/nodes/w1", 200, node(ready, address))).await;
        let (_root, machine) = machine();
        join::enroll(&cluster.options(), &machine)
            .await
            .map(drop)
            .expect("the name is free");
    }
}

#[tokio::test]
async fn a_token_that_may_not_ask_for_certificates() {
    let (code, status) = refusal(403, "certificatesigningrequests is forbidden");
    let text = refused_after_discovery(at(CSRS, code, status)).await;
    assert_has(
        &text,
        &[
            "may not ask for a node's certificate",
            "is forbidden",
            "malha token create",
        ],
    );
}

#[tokio::test]
async fn a_request_that_nobody_looks_at() {
    for (conditions, wanted) in [
        (json!([]), "not approved within 0 s"),
        (
            json!([{"type": "Approved", "status": "True"}]),
            "approved, but not signed",
        ),
    ] {
        let answer = json!({"metadata": {"name": "csr-1"}, "status": {"conditions": conditions}});
        let cluster = Cluster::start(at(CSRS, 200, answer)).await;
        let (_root, machine) = machine();
        let mut hurried = cluster.options();
        hurried.limit = std::time::Duration::from_millis(2200);
        assert_has(&failure(&hurried, &machine).await, &["csr-1", wanted]);
    }
}

#[tokio::test]
async fn a_request_that_is_denied() {
    let answer = json!({
        "metadata": {"name": "csr-1"},
        "status": {"conditions": [{"type": "Denied", "status": "True", "message": "not today"}]},
    });
    let text = refused_after_discovery(at(CSRS, 200, answer)).await;
    assert_has(&text, &["csr-1 was not granted", "not today"]);
}

#[tokio::test]
async fn checks_come_before_any_request() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, mut machine) = machine();
    machine.privileged = false;
    let text = failure(&cluster.options(), &machine).await;
    assert_has(&text, &["needs root"]);
    machine.privileged = true;

    let named = Options {
        node_name: Some("under_score".to_owned()),
        ..cluster.options()
    };
    assert_has(
        &failure(&named, &machine).await,
        &["cannot be a node's name", "--node-name"],
    );
    let placed = Options {
        node_ips: vec![[192, 0, 2, 3].into()],
        ..cluster.options()
    };
    assert_has(
        &failure(&placed, &machine).await,
        &["192.0.2.3 is not an address of this machine"],
    );
    assert!(cluster.seen().is_empty());
}

#[tokio::test]
async fn any_pin_will_do_whichever_place_it_has() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, machine) = machine();
    let other = malha_bootstrap::pin::CaPin::of_public_key(b"another");
    let given = options(cluster.address, vec![other, cluster.pin()]);
    let enrolled = join::enroll(&given, &machine)
        .await
        .map_err(|e| format!("{e:#}"));
    assert_eq!(enrolled.map(|e| e.node_name.clone()), Ok(NODE.to_owned()));
}

#[tokio::test]
async fn without_pins_the_token_still_has_to_match() {
    let (_root, machine) = machine();
    let other: Token = "abcdef.fedcba9876543210".parse().expect("a token");
    let cluster = Cluster::start(Behaviour {
        signs_with: Some(other),
        ..Behaviour::default()
    })
    .await;
    let lax = options(cluster.address, Vec::new());
    assert_has(&failure(&lax, &machine).await, &["wrong for the token"]);
    let cluster = Cluster::start(Behaviour::default()).await;
    let lax = options(cluster.address, Vec::new());
    join::enroll(&lax, &machine).await.map(drop).expect("joins");
}

#[tokio::test]
async fn the_files_are_kubeadms() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (root, machine) = machine();
    let enrolled = join::enroll(&cluster.options(), &machine)
        .await
        .expect("joins");
    let joined = enrolled.keep();
    assert_eq!(joined.node_name, NODE);
    let mode = |path: &str| {
        let path = root.path().join(path);
        std::fs::metadata(&path)
            .expect("exists")
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode("etc/kubernetes/kubelet.conf"), 0o600);
    assert_eq!(mode("etc/kubernetes/pki/ca.crt"), 0o644);
    assert_eq!(mode("var/lib/kubelet/config.yaml"), 0o644);
    assert_eq!(mode("var/lib/kubelet/kubeadm-flags.env"), 0o644);
    assert_eq!(
        mode("var/lib/kubelet/pki/kubelet-client-current.pem"),
        0o600
    );
    let current = root
        .path()
        .join("var/lib/kubelet/pki/kubelet-client-current.pem");
    assert!(std::fs::read_link(&current).expect("a link").is_absolute());
    let pem = std::fs::read_to_string(current).expect("readable");
    assert!(pem.contains("BEGIN CERTIFICATE") && pem.contains("PRIVATE KEY"));
    assert!(
        !root
            .path()
            .join("etc/kubernetes/bootstrap-kubelet.conf")
            .exists()
    );
    let everything: Vec<_> = files(root.path());
    let secret = token().secret.expose().to_owned();
    for file in everything
        .iter()
        .map(|f| root.path().join(f))
        .filter(|f| f.is_file())
    {
        let text = std::fs::read_to_string(&file).expect("readable");
        assert!(
            !text.contains(&secret),
            "the token stays in {}",
            file.display()
        );
    }
    // The two fetches of cluster-info come first and without it; that the recorder would see it, the rest shows.
    let sent: Vec<bool> = cluster
        .seen()
        .iter()
        .map(|seen| seen.everything.contains(&secret))
        .collect();
    assert!(
        !sent[0] && !sent[1] && sent[2..].iter().all(|sent| *sent),
        "{sent:?}"
    );

    let Err(again) = join::enroll(&cluster.options(), &machine).await else {
        panic!("joined twice")
    };
    assert_has(
        &again.to_string(),
        &[
            "has already joined the cluster at https://127.0.0.1:",
            "malha reset",
        ],
    );
    assert_eq!(files(root.path()), everything, "nothing was touched");
}

#[tokio::test]
async fn a_machine_with_leftovers() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, machine) = machine();
    std::fs::create_dir_all(machine.paths.pki("")).expect("made");
    std::fs::write(machine.paths.pki("ca.crt"), "old").expect("written");
    let Err(error) = join::enroll(&cluster.options(), &machine).await else {
        panic!("joined")
    };
    common::documented(&error.to_string());
    assert_has(
        &error.to_string(),
        &["ca.crt already exists", "malha reset", "[FileAvailable-"],
    );
    assert_eq!(
        std::fs::read_to_string(machine.paths.pki("ca.crt")).expect("stays"),
        "old"
    );
    assert!(cluster.seen().is_empty());
}

#[tokio::test]
async fn a_machine_that_has_joined() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, machine) = machine();
    let joined = join::enroll(&cluster.options(), &machine).await;
    joined
        .map(|enrolled| enrolled.keep())
        .map_err(|e| format!("{e:#}"))
        .expect("joins");
    let before = files(&machine.paths.at("/"));
    let Err(again) = join::enroll(&cluster.options(), &machine).await else {
        panic!("joined twice")
    };
    common::documented(&format!("{again:#}"));
    assert_eq!(files(&machine.paths.at("/")), before);
}

#[tokio::test]
async fn a_user_who_is_not_root() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, mut machine) = machine();
    machine.privileged = false;
    failure(&cluster.options(), &machine).await;
    assert!(cluster.seen().is_empty());
}

#[tokio::test]
async fn a_name_that_no_node_can_have() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, machine) = machine();
    let named = Options {
        node_name: Some("under_score".to_owned()),
        ..cluster.options()
    };
    failure(&named, &machine).await;
}

#[test]
fn a_malformed_token() {
    let pin = malha_bootstrap::pin::CaPin::of_public_key(b"");
    let mut given = common::configuration(([127, 0, 0, 1], 1).into(), &[pin]);
    if let Some(by_token) = &mut given.by_token {
        by_token.token = Some("abcdef.9876543210fedcbA".to_owned());
    }
    let Err(error) = Options::new(given) else {
        panic!("accepted")
    };
    let text = format!("{error:#}");
    common::documented(&text);
    assert!(!text.contains("9876543210fedc"), "{text}");
}

#[test]
fn a_malformed_pin_and_none() {
    for pins in [vec!["md5:00".to_owned()], vec![]] {
        let pin = malha_bootstrap::pin::CaPin::of_public_key(b"");
        let mut given = common::configuration(([127, 0, 0, 1], 1).into(), &[pin]);
        if let Some(by_token) = &mut given.by_token {
            by_token.ca_cert_hashes = pins;
        }
        let Err(error) = Options::new(given) else {
            panic!("accepted")
        };
        common::documented(&format!("{error:#}"));
    }
}
