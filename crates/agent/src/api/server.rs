//! The HTTP side.

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::drops::{DropLine, DropWatch};
use super::status::{AgentStatus, EndpointStatus};
use crate::target::Health;

type Body = BoxBody<Bytes, Infallible>;

/// Where the answers come from.
pub trait Sources: Send + Sync + 'static {
    /// `/status`
    fn status(&self) -> AgentStatus;
    /// `/readyz`
    fn health(&self) -> Health;
    /// `/endpoints`
    fn endpoints(&self) -> Vec<EndpointStatus>;
    /// `/drops`
    fn drops(&self) -> &DropWatch;
}

/// The API, as long as it lives.
#[derive(Debug)]
pub struct Api {
    path: PathBuf,
    inode: u64,
    task: tokio::task::JoinHandle<()>,
}

impl Api {
    /// Serve on a socket of mode 0600, in place of who served there before.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn serve(path: &Path, sources: Arc<dyn Sources>) -> Result<Self> {
        let (listener, inode) =
            bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
        let task = tokio::spawn(accept(listener, sources));
        Ok(Self {
            path: path.to_owned(),
            inode,
            task,
        })
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.task.abort();
        // A successor may have put its own socket there already.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Renamed into place, with its mode: at no moment can anybody else connect.
fn bind(path: &Path) -> std::io::Result<(UnixListener, u64)> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let _ = fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
    let inode = fs::metadata(&temporary)?.ino();
    fs::rename(&temporary, path)?;
    Ok((listener, inode))
}

async fn accept(listener: UnixListener, sources: Arc<dyn Sources>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let sources = sources.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, &*sources);
                async { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the API ended early");
            }
        });
    }
}

fn answer(request: &Request<Incoming>, sources: &dyn Sources) -> Response<Body> {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served\n");
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match sources.health().reason() {
            None => text(StatusCode::OK, "ok\n"),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{reason}\n")),
        },
        "/status" => json(&sources.status()),
        "/endpoints" => json(&sources.endpoints()),
        "/drops" => stream(sources.drops().subscribe()),
        path => {
            let known = "known are /healthz, /readyz, /status, /endpoints, /drops";
            text(
                StatusCode::NOT_FOUND,
                &format!("there is no {path}: {known}\n"),
            )
        }
    }
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", full(text.to_owned()))
}

fn json(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => respond(StatusCode::OK, "application/json", full(bytes)),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    }
}

fn stream(lines: Receiver<Arc<DropLine>>) -> Response<Body> {
    let frames = futures::stream::unfold(lines, |mut lines| async move {
        loop {
            match lines.recv().await {
                Ok(line) => {
                    let mut bytes = serde_json::to_vec(&*line).unwrap_or_default();
                    bytes.push(b'\n');
                    return Some((Ok(Frame::data(Bytes::from(bytes))), lines));
                }
                // Too slow: what was missed is counted as lost by nobody, the counters have it.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    respond(
        StatusCode::OK,
        "application/x-ndjson",
        BodyExt::boxed(StreamBody::new(frames)),
    )
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

fn respond(status: StatusCode, kind: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Ok(value) = kind.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}
