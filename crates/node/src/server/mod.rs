//! What the API server asks of the node, as a kubelet serves it: `/containerLogs`, `/exec`, `/attach`, `/portForward`,
//! `/pods`, `/healthz`.

mod access;
mod exec;
mod forward;
pub mod insecure;
mod logs;
mod query;
mod remote;
mod routes;
pub mod spdy;
mod tls;
mod upgrade;

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::Client;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{Config, pods::context::Registry, runtime::Runtime};

/// A client that has not finished its greeting in this time is turned away.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// A response's body.
type Body = BoxBody<Bytes, io::Error>;

/// A running server; it goes on when this is dropped.
#[derive(Debug)]
pub struct Server {
    task: JoinHandle<()>,
}

impl Server {
    /// Takes no more connections.
    pub fn stop(self) {
        self.task.abort();
    }
}

/// What requests are answered from.
struct Shared {
    config: Arc<Config>,
    client: Client,
    runtime: Arc<Runtime>,
    registry: Registry,
}

/// Starts it.
///
/// # Errors
/// When the port is in use, or there is no certificate.
pub async fn start(
    config: Arc<Config>,
    client: Client,
    runtime: Arc<Runtime>,
    registry: Registry,
) -> Result<Server> {
    let acceptor = TlsAcceptor::from(Arc::new(tls::server_config(&config)?));
    let listener = listen(&config).await?;
    let shared = Arc::new(Shared {
        config,
        client,
        runtime,
        registry,
    });
    let task = tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((tcp, from)) => drop(tokio::spawn(serve(
                    tcp,
                    from,
                    acceptor.clone(),
                    shared.clone(),
                ))),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(Server { task })
}

/// Every address of both families, or of IPv4 where there is no IPv6.
async fn listen(config: &Config) -> Result<TcpListener> {
    let all = config.listen();
    let bound = match TcpListener::bind(all).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, config.port)).await
        }
        other => other,
    };
    bound.with_context(|| {
        format!("cannot listen on port {}: does a kubelet or another node agent run here? give another --port", config.port)
    })
}

async fn serve(tcp: TcpStream, from: SocketAddr, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let _ = tcp.set_nodelay(true);
    let tls = match timeout(HANDSHAKE_LIMIT, acceptor.accept(tcp)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            tracing::debug!(%from, %error, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let certificate = tls
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|all| all.first());
    let user = certificate.and_then(access::of_certificate);
    let service = service_fn(move |request| {
        let (shared, user) = (shared.clone(), user.clone());
        async move { Ok::<_, Infallible>(routes::answer(request, user, shared).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_LIMIT)
        .serve_connection(TokioIo::new(tls), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%from, %error, "connection ended");
    }
}

/// A response of text.
fn text(code: u16, text: impl Into<String>) -> Response<Body> {
    let body = Full::from(text.into())
        .map_err(|never: Infallible| match never {})
        .boxed();
    let mut response = Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    response
}
