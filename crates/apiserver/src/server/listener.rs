//! Connections: accepted, secured, served, and at the end waited for.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Inner,
    config::StartError,
    handle::{Caller, handle},
};

/// Connections at a time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 4096;
/// A node holds some hundred watches over one connection.
const MAX_STREAMS: u32 = 1000;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Also how long an HTTP/1.1 connection may be idle: longer than clients keep theirs (90 s), so that they are the ones to
/// close it and no request meets a closing connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(180);
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long requests may take to finish when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// Takes the port.
///
/// # Errors
/// When it is taken already, or the address is not this machine's.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| {
        let remedy = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "another process has the port: stop it, or choose another port"
            }
            io::ErrorKind::AddrNotAvailable => "choose an address that this machine has",
            io::ErrorKind::PermissionDenied => "run as root, or choose a port above 1023",
            _ => "choose another address or port",
        };
        StartError::Listen {
            address,
            source,
            remedy,
        }
    })
}

/// Accepts and serves until told to stop, then until the connections have ended (for a while).
pub(super) async fn run(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    inner: Arc<Inner>,
    stop: watch::Receiver<bool>,
) {
    let mut stopping = stop.clone();
    let acceptor = TlsAcceptor::from(tls);
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            () = stopped(&mut stopping) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (accepted, place) = accept => match accepted {
                Ok((stream, peer)) => {
                    let connection = Connection { inner: inner.clone(), peer, stop: stop.clone() };
                    let acceptor = acceptor.clone();
                    connections.spawn(async move {
                        connection.serve(stream, acceptor).await;
                        drop(place);
                    });
                }
                // Out of file descriptors, or the client was gone at once.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
    drop(listener);
    let drained = timeout(GRACE, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::warn!(
            left = connections.len(),
            "connections did not end in time, closing them"
        );
        connections.shutdown().await;
    }
}

/// Waits until the server is told to stop (or is gone).
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

struct Connection {
    inner: Arc<Inner>,
    peer: SocketAddr,
    stop: watch::Receiver<bool>,
}

impl Connection {
    async fn serve(mut self, stream: TcpStream, acceptor: TlsAcceptor) {
        let peer = self.peer;
        let _ = stream.set_nodelay(true);
        let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "TLS handshake failed"),
            Err(_) => return tracing::debug!(%peer, "TLS handshake timed out"),
        };
        let (_, session) = stream.get_ref();
        let cert = session.peer_certificates().and_then(|certs| certs.first());
        let caller = Caller::Peer(cert.map(|cert| cert.clone().into_owned()));
        let inner = self.inner.clone();
        let service = service_fn(move |request| {
            let answer = handle(inner.clone(), caller.clone(), request);
            async { Ok::<_, Infallible>(answer.await) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .keep_alive_interval(PING_EVERY);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = stopped(&mut self.stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }
}
