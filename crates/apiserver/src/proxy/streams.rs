//! `exec`, `attach` and `portforward`: after the node's 101 the connection belongs to client and node.
//!
//! The client's `Upgrade` headers go to the node untouched and its 101 comes back untouched, so whatever protocol they
//! agree on (websocket, SPDY/3.1) is theirs. A node that refuses answers the client itself: kubectl then tries the other
//! protocol.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};

use super::{
    Body, NodeClient,
    logs::empty,
    target::{Query, address, container, path},
};
use crate::{auth::fields::text, status::Status};

/// How long one direction may go on after the other has ended.
const LINGER: Duration = Duration::from_secs(10);

/// Runs a command in a container (`create pods/exec`).
///
/// # Errors
/// 400 for a request without an upgrade, a container that does not exist or a pod without a node; 500 when the node
/// cannot be reached.
pub async fn exec<B>(
    request: Request<B>,
    pod: &Value,
    node: Option<&Value>,
    client: &NodeClient,
) -> Result<Response<Body>, Status> {
    let query = Query::of(request.uri());
    let mut parameters: Vec<_> = query
        .all("command")
        .map(|word| format!("command={word}"))
        .collect();
    if parameters.is_empty() {
        return Err(Status::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    parameters.extend(stream_flags(&query));
    let path = path("exec", pod, Some(container(pod, &query)?), &parameters);
    pass_through(request, &path, target(pod, node)?, client).await
}

/// Attaches to a container's main process (`create pods/attach`).
///
/// # Errors
/// As [`exec`].
pub async fn attach<B>(
    request: Request<B>,
    pod: &Value,
    node: Option<&Value>,
    client: &NodeClient,
) -> Result<Response<Body>, Status> {
    let query = Query::of(request.uri());
    let parameters: Vec<_> = stream_flags(&query).collect();
    let path = path("attach", pod, Some(container(pod, &query)?), &parameters);
    pass_through(request, &path, target(pod, node)?, client).await
}

/// Forwards ports into a pod (`create pods/portforward`).
///
/// # Errors
/// As [`exec`].
pub async fn port_forward<B>(
    request: Request<B>,
    pod: &Value,
    node: Option<&Value>,
    client: &NodeClient,
) -> Result<Response<Body>, Status> {
    let query = Query::of(request.uri());
    let parameters: Vec<_> = query
        .all("ports")
        .map(|port| format!("port={port}"))
        .collect();
    let path = path("portForward", pod, None, &parameters);
    pass_through(request, &path, target(pod, node)?, client).await
}

/// The streams asked for, as the kubelet names them.
fn stream_flags(query: &Query<'_>) -> impl Iterator<Item = String> {
    [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ]
    .into_iter()
    .filter(|(flag, _)| query.flag(flag))
    .map(|(_, name)| format!("{name}=1"))
}

fn target(pod: &Value, node: Option<&Value>) -> Result<SocketAddr, Status> {
    if text(pod, "/spec/nodeName").is_empty() {
        let name = text(pod, "/metadata/name");
        return Err(Status::bad_request(format!(
            "pod {name} does not have a host assigned"
        )));
    }
    address(pod, node)
}

async fn pass_through<B>(
    mut request: Request<B>,
    path: &str,
    to: SocketAddr,
    client: &NodeClient,
) -> Result<Response<Body>, Status> {
    if !request.headers().contains_key(header::UPGRADE) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let failed = |why: String| Status::internal(format!("error dialing backend: {why}"));
    let mut ask = Request::new(empty());
    *ask.method_mut() = request.method().clone();
    *ask.uri_mut() = path
        .parse()
        .map_err(|e: http::uri::InvalidUri| failed(e.to_string()))?;
    *ask.headers_mut() = passed_on(request.headers());
    let host = to
        .to_string()
        .parse()
        .map_err(|_| failed(format!("bad address {to}")))?;
    ask.headers_mut().insert(header::HOST, host);
    let mut answer = client
        .send(to, ask)
        .await
        .map_err(|e| failed(e.to_string()))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let of_client = hyper::upgrade::on(&mut request);
        let of_node = hyper::upgrade::on(&mut answer);
        let response = answer.map(|_| empty());
        tokio::spawn(async move {
            match tokio::try_join!(of_client, of_node) {
                Ok((a, b)) => join(a, b).await,
                Err(error) => tracing::debug!(%to, %error, "upgrade did not complete"),
            }
        });
        return Ok(response);
    }
    let mut response = answer.map(|body| body.map_err(Into::into).boxed());
    // These speak of the connection to the node, not of ours.
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        response.headers_mut().remove(name);
    }
    Ok(response)
}

/// The headers the node needs; who the client is stays here.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let kept = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("sec-websocket-")
            || [
                "connection",
                "upgrade",
                "x-stream-protocol-version",
                "origin",
                "user-agent",
            ]
            .contains(&name)
    };
    let mut passed: HeaderMap = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| kept(name)) {
        if let Some(value) = without_token(value) {
            passed.append(name, value);
        }
    }
    passed
}

/// A header without the bearer token that a websocket client may offer as one of its subprotocols.
fn without_token(value: &HeaderValue) -> Option<HeaderValue> {
    const TOKEN: &str = "base64url.bearer.authorization.k8s.io.";
    let Ok(text) = value.to_str() else {
        return None;
    };
    if !text.contains(TOKEN) {
        return Some(value.clone());
    }
    let kept: Vec<_> = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.starts_with(TOKEN))
        .collect();
    if kept.is_empty() {
        None
    } else {
        HeaderValue::from_str(&kept.join(", ")).ok()
    }
}

/// Copies both ways until both have ended, or one has and the other takes too long.
async fn join(client: Upgraded, node: Upgraded) {
    let (mut client_read, mut client_write) = split(TokioIo::new(client));
    let (mut node_read, mut node_write) = split(TokioIo::new(node));
    let up = one_way(&mut client_read, &mut node_write);
    let down = one_way(&mut node_read, &mut client_write);
    tokio::pin!(up, down);
    tokio::select! {
        () = &mut up => { let _ = tokio::time::timeout(LINGER, down).await; }
        () = &mut down => { let _ = tokio::time::timeout(LINGER, up).await; }
    }
}

async fn one_way(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) {
    if let Err(error) = copy(from, to).await {
        tracing::debug!(%error, "stream to a pod broke");
    }
    let _ = to.shutdown().await;
}
