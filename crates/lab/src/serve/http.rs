//! The HTTP side of the test server.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr};

use anyhow::{Context, Result};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::dial;

pub async fn serve(listener: TcpListener) -> Result<()> {
    loop {
        let (stream, peer) = listener.accept().await.context("cannot accept")?;
        let answer = service_fn(move |request| answer(request, peer));
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new();
            // A client that goes away is no error of the server's.
            let _ = connection
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let query = query(request.uri().query().unwrap_or(""));
    let (status, text) = match request.uri().path() {
        "/healthz" => (StatusCode::OK, "ok".to_owned()),
        "/hostname" => (StatusCode::OK, hostname()),
        "/clientip" => (StatusCode::OK, peer.ip().to_canonical().to_string()),
        "/echo" => (
            StatusCode::OK,
            query.get("msg").cloned().unwrap_or_default(),
        ),
        "/dial" => match dial::dial(&query).await {
            Ok(outcome) => (StatusCode::OK, serde_json::json!(outcome).to_string()),
            Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}")),
        },
        _ => (StatusCode::NOT_FOUND, "not found".to_owned()),
    };
    let mut response = Response::new(Full::from(text + "\n"));
    *response.status_mut() = status;
    Ok(response)
}

/// Names and values; nothing that is asked here needs percent-encoding.
fn query(text: &str) -> BTreeMap<String, String> {
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn hostname() -> String {
    nix::unistd::gethostname().map_or_else(
        |_| String::new(),
        |name| name.to_string_lossy().into_owned(),
    )
}
