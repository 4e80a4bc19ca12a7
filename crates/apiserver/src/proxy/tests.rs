//! A little node on loopback, asked through the real client.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1, server, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use malha_bootstrap::{
    names::Subject,
    pki::{CertificateAuthority, Issue, KeyedCertificate, Purpose},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::status::Status;

fn now() -> Timestamp {
    Timestamp::now()
}

fn serving(ca: &CertificateAuthority, ip: &str) -> KeyedCertificate {
    let issue = Issue {
        subject: Subject::user("system:node:w1"),
        purpose: Purpose::Server,
        dns_names: &[],
        ip_addresses: &[ip.parse().unwrap()],
    };
    ca.issue_keyed(&issue, now()).unwrap()
}

fn client(ca: &CertificateAuthority) -> NodeClient {
    let issue = Issue {
        subject: Subject::user("kube-apiserver-kubelet-client"),
        purpose: Purpose::Client,
        dns_names: &[],
        ip_addresses: &[],
    };
    let own = ca.issue_keyed(&issue, now()).unwrap();
    NodeClient::new(&own.cert_pem, &own.key_pem, &ca.cert_pem()).unwrap()
}

fn ca() -> CertificateAuthority {
    CertificateAuthority::generate("kubernetes", now()).unwrap()
}

/// Starts a node that demands a client certificate; it stops with the test's runtime.
async fn start_node(identity: &KeyedCertificate) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(crate::auth::client_verifier())
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else {
                    return;
                };
                let known = tls.get_ref().1.peer_certificates().is_some();
                let service = service_fn(move |request| answer(request, known));
                let connection = server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(tls), service);
                let _ = connection.with_upgrades().await;
            });
        }
    });
    address
}

async fn answer(
    mut request: Request<Incoming>,
    known: bool,
) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    let asked = request.uri().to_string();
    let reply = |code: StatusCode, text: String| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = code;
        response
    };
    assert!(
        !request.headers().contains_key(header::AUTHORIZATION),
        "credentials must not reach the node"
    );
    if !known {
        return Ok(reply(StatusCode::UNAUTHORIZED, "Unauthorized".to_owned()));
    }
    Ok(match request.uri().path() {
        "/containerLogs/default/p/waiting" => {
            let text = "container \"waiting\" in pod \"p\" is waiting to start: ContainerCreating";
            reply(StatusCode::BAD_REQUEST, text.to_owned())
        }
        "/containerLogs/default/p/broken" => reply(
            StatusCode::INTERNAL_SERVER_ERROR,
            "disk on fire\n".to_owned(),
        ),
        "/exec/default/p/refused" => reply(StatusCode::FORBIDDEN, "no".to_owned()),
        path if path.starts_with("/containerLogs/") => {
            reply(StatusCode::OK, format!("asked {asked}\n"))
        }
        _ => {
            let protocol = request.headers()[header::UPGRADE].clone();
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                stream
                    .write_all(format!("ran {asked}\n").as_bytes())
                    .await
                    .unwrap();
                // Echo until the client says the last word, then end.
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() && byte != *b"." {
                    stream.write_all(&byte).await.unwrap();
                }
                stream.shutdown().await.unwrap();
            });
            let mut response = reply(StatusCode::SWITCHING_PROTOCOLS, String::new());
            response
                .headers_mut()
                .insert(header::CONNECTION, "Upgrade".parse().unwrap());
            response.headers_mut().insert(header::UPGRADE, protocol);
            response.headers_mut().insert(
                "x-stream-protocol-version",
                "v4.channel.k8s.io".parse().unwrap(),
            );
            response
        }
    })
}

fn pod(containers: &[&str]) -> Value {
    let containers: Vec<_> = containers
        .iter()
        .map(|name| json!({"name": name}))
        .collect();
    json!({
        "metadata": {"namespace": "default", "name": "p"},
        "spec": {"nodeName": "w1", "containers": containers, "initContainers": [{"name": "init"}]},
    })
}

fn node(at: SocketAddr) -> Value {
    json!({"metadata": {"name": "w1"}, "status": {
        "addresses": [{"type": "Hostname", "address": "w1"}, {"type": "InternalIP", "address": at.ip().to_string()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": at.port()}},
    }})
}

async fn log(
    query: &str,
    pod: &Value,
    node: Option<&Value>,
    client: &NodeClient,
) -> Result<String, Status> {
    let request = Request::get(format!("https://server/log?{query}"))
        .header(header::AUTHORIZATION, "Bearer secret")
        .body(())
        .unwrap();
    let response = logs(request, pod, node, client).await?;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn logs_come_from_the_node() {
    let ca = ca();
    let client = client(&ca);
    let node = node(start_node(&serving(&ca, "127.0.0.1")).await);
    let at = Some(&node);
    let one = pod(&["c"]);
    assert_eq!(
        log(
            "tailLines=5&follow=true&pretty=1&limitBytes=",
            &one,
            at,
            &client
        )
        .await
        .unwrap(),
        "asked /containerLogs/default/p/c?follow=true&tailLines=5\n"
    );
    assert_eq!(
        log("container=init", &one, at, &client).await.unwrap(),
        "asked /containerLogs/default/p/init\n"
    );
    let table = [
        (
            pod(&["a", "b"]),
            "",
            400,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [init]",
        ),
        (
            pod(&["a"]),
            "container=x",
            400,
            "container x is not valid for pod p",
        ),
        (
            pod(&["a"]),
            "container=..%2f..%2fpods",
            400,
            "container ..%2f..%2fpods is not valid for pod p",
        ),
        (
            pod(&["waiting"]),
            "",
            400,
            "container \"waiting\" in pod \"p\" is waiting to start: ContainerCreating",
        ),
        (
            pod(&["broken"]),
            "",
            500,
            "Internal error occurred: disk on fire",
        ),
    ];
    for (pod, query, code, text) in table {
        let status = log(query, &pod, at, &client).await.unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (code, text));
    }
    let mut waiting = pod(&["c"]);
    waiting["spec"]["nodeName"] = Value::Null;
    assert_eq!(log("", &waiting, None, &client).await.unwrap(), "");
}

#[tokio::test]
async fn an_unreachable_node_is_named() {
    let ca = ca();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    let status = log("", &pod(&["c"]), Some(&node(gone)), &client(&ca))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code, status.message),
        (
            500,
            format!(
                "Get \"https://{gone}/containerLogs/default/p/c\": dial tcp {gone}: connect: connection refused"
            )
        )
    );
    let status = log("", &pod(&["c"]), None, &client(&ca)).await.unwrap_err();
    assert_eq!(status.message, "node \"w1\" of the pod was not found");
}

#[tokio::test]
async fn a_certificate_of_the_cluster_must_be_right_and_others_are_taken() {
    let (ca, other) = (
        ca(),
        CertificateAuthority::generate("w1-ca", now()).unwrap(),
    );
    let impostor = CertificateAuthority::generate("kubernetes", now()).unwrap();
    let table = [
        ("of the cluster", serving(&ca, "127.0.0.1"), true),
        (
            "of the cluster, for another address",
            serving(&ca, "10.0.0.1"),
            false,
        ),
        (
            "that claims the cluster's CA",
            serving(&impostor, "127.0.0.1"),
            false,
        ),
        ("of its own", serving(&other, "10.0.0.1"), true),
    ];
    for (what, identity, accepted) in table {
        let node = node(start_node(&identity).await);
        let result = log("", &pod(&["c"]), Some(&node), &client(&ca)).await;
        assert_eq!(result.is_ok(), accepted, "certificate {what}: {result:?}");
    }
}

/// Serves `exec` for a node on loopback, as the API server's routing does.
async fn start_server(node: Value, client: NodeClient, pod: Value) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (node, client, pod) = (node.clone(), client.clone(), pod.clone());
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| async {
                    let response = exec(request, &pod, Some(&node), &client).await;
                    Ok::<_, Infallible>(response.unwrap_or_else(|status| {
                        let body = Full::from(status.message)
                            .map_err(|never| match never {})
                            .boxed();
                        let mut response = Response::new(body);
                        *response.status_mut() = StatusCode::from_u16(status.code).unwrap();
                        response
                    }))
                });
                let connection = server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(tcp), service);
                let _ = connection.with_upgrades().await;
            });
        }
    });
    address
}

async fn ask(server: SocketAddr, request: Request<String>) -> Response<Incoming> {
    let tcp = tokio::net::TcpStream::connect(server).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.unwrap()
}

fn upgrade(method: &str, query: &str, protocol: &str) -> Request<String> {
    Request::builder()
        .method(method)
        .uri(format!("/exec?{query}"))
        .header(header::HOST, "server")
        .header(header::AUTHORIZATION, "Bearer secret")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, protocol)
        .body(String::new())
        .unwrap()
}

#[tokio::test]
async fn exec_joins_client_and_node_byte_for_byte() {
    let ca = ca();
    let node = node(start_node(&serving(&ca, "127.0.0.1")).await);
    let server = start_server(node, client(&ca), pod(&["c"])).await;
    for (method, protocol) in [("GET", "websocket"), ("POST", "SPDY/3.1")] {
        let query =
            "command=sh&command=-c&command=echo%20hi&stdin=true&stdout=true&tty=false&stderr=1";
        let mut response = ask(server, upgrade(method, query, protocol)).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()[header::UPGRADE], protocol);
        assert_eq!(
            response.headers()["x-stream-protocol-version"],
            "v4.channel.k8s.io"
        );
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        stream.write_all(b"abc.").await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        let first = "ran /exec/default/p/c?command=sh&command=-c&command=echo%20hi&input=1&output=1&error=1\n";
        assert_eq!(said, format!("{first}abc"));
    }
}

#[tokio::test]
async fn exec_refusals_reach_the_client() {
    let ca = ca();
    let node = node(start_node(&serving(&ca, "127.0.0.1")).await);
    let server = start_server(node, client(&ca), pod(&["c", "refused"])).await;
    let plain = Request::post("/exec?command=x&container=c")
        .header(header::HOST, "s")
        .body(String::new())
        .unwrap();
    let table = [
        (plain, 400, "Upgrade request required"),
        (
            upgrade("GET", "container=c", "websocket"),
            400,
            "you must specify at least one command for the container",
        ),
        (
            upgrade("GET", "container=refused&command=x", "websocket"),
            403,
            "no",
        ),
        (
            upgrade("GET", "container=y&command=x", "websocket"),
            400,
            "container y is not valid for pod p",
        ),
    ];
    for (request, code, text) in table {
        let response = ask(server, request).await;
        assert_eq!(response.status().as_u16(), code, "{text}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, text.as_bytes());
    }
}
