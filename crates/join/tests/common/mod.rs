//! A stand-in for an API server, which can be made to fail in every way that matters, and remembers all it was told.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use malha_bootstrap::{
    csr::NODES_GROUP,
    jws,
    kubeadm::{ClusterConfiguration, KubeletConfiguration, Networking},
    kubeconfig::Kubeconfig,
    pin::CaPin,
    pki::{CertificateAuthority, ServingNames, apiserver_serving},
    token::Token,
};
use malha_join::{
    client::Limits,
    clock::Clock,
    configuration::{ByToken, JoinConfiguration},
    join::Options,
    machine::Machine,
    paths::Paths,
    progress::Progress,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub const TOKEN: &str = "abcdef.0123456789abcdef";
pub const NODE: &str = "w1";

/// The token of these tests.
pub fn token() -> Token {
    TOKEN.parse().expect("a token")
}

/// What a server was asked.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    /// Request line, headers and body, as text.
    pub everything: String,
}

/// A cluster's CA, and who answers for it.
pub struct Cluster {
    pub ca: CertificateAuthority,
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// Chooses another answer than the usual one: status and body.
pub type Instead = Box<dyn Fn(usize, &Seen) -> Option<(u16, Value)> + Send + Sync>;

/// How a server deviates from a good one.
pub struct Behaviour {
    /// Signs `cluster-info`; not at all if none.
    pub signs_with: Option<Token>,
    /// Whose certificate is shown, if not one by the cluster's CA.
    pub shows: Option<CertificateAuthority>,
    /// The CA named in `cluster-info`, if not the server's own.
    pub names_ca: Option<String>,
    /// Addresses its certificate is for.
    pub certified: Vec<IpAddr>,
    /// When its CA was made, relative to now.
    pub made: SignedDuration,
    /// What its clock is wrong by.
    pub clock: SignedDuration,
    /// Answers instead of the good server, by the number of the request (from 1).
    pub instead: Instead,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            signs_with: Some(token()),
            shows: None,
            names_ca: None,
            certified: vec![Ipv4Addr::LOCALHOST.into()],
            made: SignedDuration::ZERO,
            clock: SignedDuration::ZERO,
            instead: Box::new(|_, _| None),
        }
    }
}

struct Server {
    behaviour: Behaviour,
    cluster_info: Value,
    authority: CertificateAuthority,
    certificate: Mutex<Option<String>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Cluster {
    /// Starts a server on a free port of 127.0.0.1.
    pub async fn start(mut behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let made = Timestamp::now()
            .checked_add(behaviour.made)
            .expect("a time");
        let ca = CertificateAuthority::generate("kubernetes", made).expect("a CA");
        let again = || CertificateAuthority::from_pem(&ca.cert_pem(), &ca.key_pem()).expect("a CA");
        let signer = behaviour.shows.take().unwrap_or_else(again);
        let tls = acceptor(&signer, &behaviour.certified, made);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let named = behaviour.names_ca.clone().unwrap_or_else(|| ca.cert_pem());
        let server = Arc::new(Server {
            cluster_info: cluster_info(address, &named, behaviour.signs_with.as_ref()),
            authority: again(),
            certificate: Mutex::new(None),
            seen: seen.clone(),
            behaviour,
        });
        tokio::spawn(accept(listener, tls, server));
        Self { ca, address, seen }
    }

    /// The pin of its CA.
    pub fn pin(&self) -> CaPin {
        CaPin::of_certificates(&self.ca.cert_pem()).expect("a CA")[0]
    }

    /// What it was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    /// Nothing that was sent here holds the token's secret half, nor a private key.
    pub fn assert_knows_no_secret(&self) {
        for seen in self.seen() {
            assert!(!seen.everything.contains("0123456789abcdef"), "{seen:?}");
            assert!(!seen.everything.contains("PRIVATE KEY"), "{seen:?}");
        }
    }

    /// What a user would join it with.
    pub fn options(&self) -> Options {
        options(self.address, vec![self.pin()])
    }
}

/// What a user would join with.
pub fn configuration(address: SocketAddr, pins: &[CaPin]) -> JoinConfiguration {
    JoinConfiguration {
        by_token: Some(ByToken {
            endpoint: address.to_string(),
            token: Some(TOKEN.to_owned()),
            ca_cert_hashes: pins.iter().map(CaPin::to_string).collect(),
            unsafe_skip_ca_verification: pins.is_empty(),
        }),
        node_name: Some(NODE.to_owned()),
        ..JoinConfiguration::default()
    }
}

/// The same, understood.
pub fn options(address: SocketAddr, pins: Vec<CaPin>) -> Options {
    Options::new(configuration(address, &pins)).expect("valid options")
}

/// A machine with its files in a directory of its own, impatient enough for tests.
pub fn machine() -> (tempfile::TempDir, Machine) {
    let root = tempfile::tempdir().expect("a directory");
    let machine = Machine {
        paths: Paths::under(root.path()),
        clock: Clock::default(),
        progress: Progress::Silent,
        privileged: true,
        limits: Limits {
            connect: Duration::from_secs(3),
            answer: Duration::from_secs(5),
        },
        patience: Duration::from_millis(400),
    };
    (root, machine)
}

/// Everything below a directory, for comparing.
pub fn files(root: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() && !path.is_symlink() {
                left.push(path.clone());
            }
            let relative = path.strip_prefix(root).expect("below the root");
            found.push(relative.display().to_string());
        }
    }
    found.sort();
    found
}

fn acceptor(ca: &CertificateAuthority, certified: &[IpAddr], now: Timestamp) -> TlsAcceptor {
    let names = ServingNames {
        ip_addresses: certified.to_vec(),
        dns_domain: "cluster.local".to_owned(),
        ..ServingNames::default()
    };
    // The usual certificate is for 127.0.0.1 as well: a plain one is needed to be for anything else.
    let keyed = match certified.contains(&Ipv4Addr::LOCALHOST.into()) {
        true => apiserver_serving(ca, &names, now).expect("a certificate"),
        false => {
            let request = malha_bootstrap::pki::Issue {
                subject: malha_bootstrap::names::Subject::member("x", &[NODES_GROUP]),
                purpose: malha_bootstrap::pki::Purpose::Server,
                dns_names: &[],
                ip_addresses: certified,
            };
            ca.issue_keyed(&request, now).expect("a certificate")
        }
    };
    let chain = CertificateDer::pem_slice_iter(keyed.cert_pem.as_bytes());
    let chain: Vec<_> = chain.collect::<Result<_, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(keyed.key_pem.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a configuration");
    TlsAcceptor::from(Arc::new(config))
}

fn cluster_info(address: SocketAddr, ca_pem: &str, signer: Option<&Token>) -> Value {
    let server = format!("https://{address}");
    let kubeconfig = Kubeconfig::cluster_info(&server, ca_pem)
        .to_yaml()
        .expect("YAML");
    let mut data = json!({"kubeconfig": kubeconfig});
    if let Some(token) = signer {
        // Filed under the real token's ID also when made with another secret.
        let key = jws::config_map_key(&token.id);
        data[key] = Value::from(jws::sign_detached(kubeconfig.as_bytes(), token));
    }
    json!({"kind": "ConfigMap", "apiVersion": "v1", "data": data})
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, server: Arc<Server>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, server) = (tls.clone(), server.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(server.answer(request).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let seen = Seen {
            method: head.method.to_string(),
            path: head.uri.to_string(),
            everything: format!("{head:?}\n{}", String::from_utf8_lossy(&body)),
        };
        let number = {
            let mut list = self.seen.lock().expect("no panic");
            list.push(seen.clone());
            list.len()
        };
        let (status, content) =
            (self.behaviour.instead)(number, &seen).unwrap_or_else(|| self.usual(&seen, &body));
        let date = Timestamp::now()
            .checked_add(self.behaviour.clock)
            .expect("a time");
        let date = jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&date)
            .expect("a date");
        Response::builder()
            .status(StatusCode::from_u16(status).expect("a status"))
            .header(header::DATE, date)
            .body(Full::new(Bytes::from(content.to_string())))
            .expect("an answer")
    }

    fn usual(&self, seen: &Seen, body: &[u8]) -> (u16, Value) {
        let path = seen.path.split('?').next().unwrap_or_default();
        let config_map = |key: &str, text: String| (200, json!({"data": {key: text}}));
        match (seen.method.as_str(), path) {
            ("GET", "/api/v1/namespaces/kube-public/configmaps/cluster-info") => {
                (200, self.cluster_info.clone())
            }
            ("GET", "/api/v1/namespaces/kube-system/configmaps/kubeadm-config") => {
                let networking = Networking::default();
                let text =
                    ClusterConfiguration::new("v1.31.4", "127.0.0.1:6443", networking).to_yaml();
                config_map("ClusterConfiguration", text.expect("YAML"))
            }
            ("GET", "/api/v1/namespaces/kube-system/configmaps/kubelet-config") => {
                let text =
                    KubeletConfiguration::new(vec!["10.96.0.10".to_owned()], "cluster.local");
                config_map("kubelet", text.to_yaml().expect("YAML"))
            }
            ("GET", "/api/v1/nodes/w1") => refusal(404, "nodes \"w1\" not found"),
            ("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests") => {
                self.sign(&serde_json::from_slice(body).expect("JSON"));
                (201, json!({"metadata": {"name": "csr-1"}}))
            }
            ("GET", "/apis/certificates.k8s.io/v1/certificatesigningrequests/csr-1") => {
                let certificate = self.certificate.lock().expect("no panic").clone();
                (200, json!({"status": {"certificate": certificate}}))
            }
            _ => refusal(404, "the server could not find the requested resource"),
        }
    }

    fn sign(&self, request: &Value) {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let encoded = request["spec"]["request"].as_str().expect("a request");
        let pem = String::from_utf8(STANDARD.decode(encoded).expect("base64")).expect("PEM");
        let usages = ["digital signature", "client auth"].map(str::to_owned);
        let day = Duration::from_secs(86_400);
        let signed = self
            .authority
            .sign_csr(&pem, Timestamp::now(), day, &usages)
            .expect("signed");
        *self.certificate.lock().expect("no panic") = Some(STANDARD.encode(signed));
    }
}

/// Holds what a failed join says against the rows of docs/join.md that name this test, if any do.
pub fn documented(line: &str) {
    let thread = std::thread::current();
    let test = format!(
        "{}::{}",
        env!("CARGO_CRATE_NAME"),
        thread.name().expect("a test's thread has its name")
    );
    let mut rows = malha_peer::faults::rows().expect("the table of docs/join.md");
    rows.retain(|row| row.test == test);
    assert!(
        rows.is_empty() || rows.iter().any(|row| row.describes(line)),
        "not as in docs/join.md: {line}\n{rows:#?}"
    );
}

/// A Kubernetes `Status`.
pub fn refusal(code: u16, message: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code});
    (code, status)
}
