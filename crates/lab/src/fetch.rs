//! One HTTP request to a test server.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The body of `http://ADDRESS:PORT/PATH`, which has to be answered with 200.
///
/// # Errors
/// When the server cannot be reached, or answers otherwise.
pub async fn get(server: SocketAddr, path: &str) -> Result<Bytes> {
    let stream = TcpStream::connect(server)
        .await
        .with_context(|| format!("cannot reach {server}"))?;
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::get(path)
        .header(http::header::HOST, server.to_string())
        .body(Empty::<Bytes>::new())?;
    let response = client.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    ensure!(
        status.is_success(),
        "{server}{path}: {status}: {}",
        String::from_utf8_lossy(&body)
    );
    Ok(body)
}
