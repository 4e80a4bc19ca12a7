//! Asking an agent: what `malha status` and the probes do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::status::AgentStatus;

/// How long an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why an agent did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nobody.
    #[error(
        "no agent answers on {path}: {source}; check its pod on this node (kubectl -n kube-system get pods -l \
         app.kubernetes.io/name=malha -o wide), and that this is run as root on the node itself"
    )]
    Absent {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not answer.
    #[error(
        "the agent on {path} does not answer within 5 s: look at its log (kubectl -n kube-system logs), or restart its pod"
    )]
    Silent {
        /// The socket.
        path: PathBuf,
    },
    /// It said something else than it should.
    #[error("the agent on {path} cannot be understood: {problem}; it may be of another version")]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What was wrong.
        problem: String,
    },
}

/// The status of the agent on a socket.
///
/// # Errors
/// [`Error`], whose text has the remedy.
pub async fn status(socket: &Path) -> Result<AgentStatus, Error> {
    let (_, body) = get(socket, "/status").await?;
    serde_json::from_slice(&body).map_err(|error| garbled(socket, &error))
}

/// Whether the agent serves pods; if not, why.
///
/// # Errors
/// [`Error`].
pub async fn ready(socket: &Path) -> Result<Result<(), String>, Error> {
    let (status, body) = get(socket, "/readyz").await?;
    Ok(match status {
        StatusCode::OK => Ok(()),
        _ => Err(String::from_utf8_lossy(&body).trim().to_owned()),
    })
}

/// Any page of the API: status code and body.
///
/// # Errors
/// [`Error`].
pub async fn get(socket: &Path, path: &str) -> Result<(StatusCode, Bytes), Error> {
    let exchange = async {
        let response = send(socket, path).await?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| garbled(socket, &error))?;
        Ok((status, body.to_bytes()))
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .unwrap_or_else(|_| {
            Err(Error::Silent {
                path: socket.to_owned(),
            })
        })
}

/// Send a request; the body of the answer may be endless.
///
/// # Errors
/// [`Error`].
pub async fn send(socket: &Path, path: &str) -> Result<Response<Incoming>, Error> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| Error::Absent {
            path: socket.to_owned(),
            source,
        })?;
    let broken = |error: hyper::Error| garbled(socket, &error);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(http::header::HOST, "agent")
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| garbled(socket, &error))?;
    sender.send_request(request).await.map_err(broken)
}

fn garbled(socket: &Path, problem: &dyn std::fmt::Display) -> Error {
    Error::Garbled {
        path: socket.to_owned(),
        problem: problem.to_string(),
    }
}
