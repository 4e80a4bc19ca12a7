//! The server on the wire: TLS, both HTTP versions, credentials, and streams to nodes.

mod common;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use malha_apiserver::server::Server;
use malha_bootstrap::{
    names::Subject,
    pki::{CertificateAuthority, ClusterPki, Issue, KeyedCertificate, Purpose},
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

struct Cluster {
    server: Server,
    pki: ClusterPki,
    _dir: TempDir,
}

async fn cluster() -> Cluster {
    let (pki, dir) = (common::pki(), TempDir::new().unwrap());
    let server = common::start(&pki, dir.path()).await.unwrap();
    Cluster {
        server,
        pki,
        _dir: dir,
    }
}

fn certs(pem: &str) -> Vec<CertificateDer<'static>> {
    let certs = CertificateDer::pem_slice_iter(pem.as_bytes());
    certs.collect::<Result<_, _>>().unwrap()
}

fn key(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap()
}

impl Cluster {
    async fn connect(
        &self,
        alpn: &[&str],
        identity: Option<&KeyedCertificate>,
    ) -> TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certs(&self.pki.ca.cert_pem()).remove(0)).unwrap();
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some(own) => config
                .with_client_auth_cert(certs(&own.cert_pem), key(&own.key_pem))
                .unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let address = self.server.local_addr();
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::IpAddress(address.ip().into());
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, tcp).await.unwrap()
    }

    /// `GET` over HTTP/1.1.
    async fn get(
        &self,
        path: &str,
        identity: Option<&KeyedCertificate>,
        token: Option<&str>,
    ) -> (u16, Value) {
        let stream = self.connect(&["http/1.1"], identity).await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::get(path).header("host", "kubernetes");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::<Bytes>::default()).unwrap();
        answer(sender.send_request(request).await.unwrap()).await
    }
}

async fn answer(response: http::Response<hyper::body::Incoming>) -> (u16, Value) {
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap_or_default())
}

fn issue(ca: &CertificateAuthority, subject: Subject, purpose: Purpose) -> KeyedCertificate {
    let request = Issue {
        subject,
        purpose,
        dns_names: &[],
        ip_addresses: &[common::LOOPBACK],
    };
    ca.issue_keyed(&request, Timestamp::now()).unwrap()
}

#[tokio::test]
async fn a_certificate_or_a_token_says_who_it_is_and_a_bad_one_is_refused() {
    let c = cluster().await;
    let nodes = "/api/v1/nodes";
    let (code, list) = c.get(nodes, Some(&c.pki.admin), None).await;
    assert_eq!((code, &list["kind"]), (200, &json!("NodeList")));
    let (code, status) = c.get(nodes, None, None).await;
    assert_eq!((code, &status["reason"]), (403, &json!("Forbidden")));
    let other = CertificateAuthority::generate("kubernetes", Timestamp::now()).unwrap();
    let forged = issue(
        &other,
        Subject::member("root", &["system:masters"]),
        Purpose::Client,
    );
    let (code, status) = c.get(nodes, Some(&forged), None).await;
    assert_eq!((code, &status["message"]), (401, &json!("Unauthorized")));
    // A certificate of ours, but not for clients.
    let server = issue(&c.pki.ca, Subject::user("x"), Purpose::Server);
    assert_eq!(c.get(nodes, Some(&server), None).await.0, 401);
    assert_eq!(
        c.get("/version", None, Some("abcdef.0123456789abcdef"))
            .await
            .0,
        401
    );
    assert_eq!(c.get("/version", None, None).await.0, 200);
    c.server.shutdown().await;
}

#[tokio::test]
async fn http2_is_spoken_by_who_asks_for_it() {
    let c = cluster().await;
    let stream = c.connect(&["h2", "http/1.1"], Some(&c.pki.admin)).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let ask = |path: &str| {
        let uri = format!("https://kubernetes{path}");
        Request::get(uri).body(Full::<Bytes>::default()).unwrap()
    };
    // A watch and other requests share the connection.
    let watch = sender
        .send_request(ask("/api/v1/namespaces?watch=1"))
        .await
        .unwrap();
    for _ in 0..3 {
        let (code, list) = answer(
            sender
                .send_request(ask("/api/v1/namespaces"))
                .await
                .unwrap(),
        )
        .await;
        assert_eq!((code, list["items"].as_array().unwrap().len()), (200, 4));
    }
    let mut body = watch.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"{\"type\":\"ADDED\""));
    // Shutting down ends the watch.
    let shutdown = tokio::spawn(c.server.shutdown());
    while body.frame().await.is_some_and(|frame| frame.is_ok()) {}
    shutdown.await.unwrap();
}

/// A node that answers an upgrade and then says everything back.
async fn start_node(identity: &KeyedCertificate) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certs(&identity.cert_pem), key(&identity.key_pem))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((common::LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let mut stream = acceptor.accept(tcp).await.unwrap();
            let head = head(&mut stream).await;
            assert!(
                head.starts_with("POST /exec/default/p/c?command=cat&input=1"),
                "{head}"
            );
            let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
            stream.write_all(switching.as_bytes()).await.unwrap();
            let (mut read, mut write) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    });
    address
}

/// The head of a request or an answer.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn an_exec_is_passed_through_to_the_node_both_ways() {
    let c = cluster().await;
    let identity = issue(&c.pki.ca, Subject::user("system:node:n"), Purpose::Server);
    let node = start_node(&identity).await;
    let client = kube::Client::new(
        c.server
            .client_service(malha_apiserver::auth::superuser("test")),
        "default",
    );
    let post = |path: &str, object: Value| {
        let request = Request::post(path).body(object.to_string().into_bytes());
        let client = client.clone();
        async move { client.request::<Value>(request.unwrap()).await.unwrap() }
    };
    let status = json!({
        "addresses": [{"type": "InternalIP", "address": node.ip()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": node.port()}},
    });
    post(
        "/api/v1/nodes",
        json!({"metadata": {"name": "n"}, "status": status}),
    )
    .await;
    let namespace = "/api/v1/namespaces/default";
    post(
        &format!("{namespace}/serviceaccounts"),
        json!({"metadata": {"name": "default"}}),
    )
    .await;
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
    });
    post(&format!("{namespace}/pods"), pod).await;

    let mut stream = c.connect(&["http/1.1"], Some(&c.pki.admin)).await;
    let request = format!(
        "POST {namespace}/pods/p/exec?command=cat&stdin=true HTTP/1.1\r\nHost: kubernetes\r\n\
         Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let switched = head(&mut stream).await;
    assert!(switched.starts_with("HTTP/1.1 101 "), "{switched}");
    stream.write_all(b"hello").await.unwrap();
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"hello");
}
