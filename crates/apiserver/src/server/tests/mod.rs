//! The server as a client in the same process sees it, object logic, admission and store included.

mod access;
mod deletion;
mod golden;
mod lifecycle;
mod parts;
mod services;
mod watches;
mod writes;

use std::net::Ipv4Addr;

use http::Request;
use http_body_util::Full;
use jiff::Timestamp;
use malha_bootstrap::pki::{ClusterPki, ServingNames};
use serde_json::json;
use tempfile::TempDir;
use tower::Service;

use super::*;
use crate::{
    auth::{self, fields::text},
    status::Status,
};
use http_body_util::BodyExt;
use serde_json::Value;

/// A running server over a directory of its own.
struct Harness {
    server: Server,
    dir: TempDir,
    pki: ClusterPki,
}

/// An answer.
#[derive(Debug)]
struct Answer {
    code: u16,
    content_type: String,
    warnings: Vec<String>,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The answer's object, which must have come with this code.
    #[track_caller]
    fn is(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.text);
        self.json()
    }

    #[track_caller]
    fn refused(self, code: u16, message: &str) -> Value {
        let status = self.is(code);
        assert_eq!(text(&status, "/message"), message);
        status
    }
}

fn pki() -> ClusterPki {
    let names = ServingNames {
        dns_domain: "cluster.local".to_owned(),
        ..ServingNames::default()
    };
    ClusterPki::generate(&names, Timestamp::now()).unwrap()
}

fn config(pki: &ClusterPki, dir: &std::path::Path) -> Config {
    Config {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        data_dir: dir.to_owned(),
        serving_cert: pki.apiserver.cert_pem.clone(),
        serving_key: pki.apiserver.key_pem.clone().into(),
        client_ca: pki.ca.cert_pem(),
        service_account_key: pki.service_accounts.private_pem.clone().into(),
        service_account_public_keys: vec![pki.service_accounts.public_pem.clone()],
        kubelet_client_cert: pki.kubelet_client.cert_pem.clone(),
        kubelet_client_key: pki.kubelet_client.key_pem.clone().into(),
        service_ranges: vec![
            "10.96.0.0/24".parse().unwrap(),
            "fd00:96::/112".parse().unwrap(),
        ],
        advertise: Ipv4Addr::LOCALHOST.into(),
    }
}

impl Harness {
    async fn new() -> Self {
        let (dir, pki) = (TempDir::new().unwrap(), pki());
        let server = Server::start(config(&pki, dir.path())).await.unwrap();
        Self { server, dir, pki }
    }

    /// Sends a request as the administrator: `"POST /api/v1/…"`.
    async fn send(&self, line: &str, body: Value) -> Answer {
        self.send_as(&auth::superuser("admin"), line, &[], body)
            .await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), Value::Null).await
    }

    /// With headers `"Name: value"`; a string as body is sent as it is.
    async fn send_with(&self, line: &str, headers: &[&str], body: Value) -> Answer {
        self.send_as(&auth::superuser("admin"), line, headers, body)
            .await
    }

    async fn send_as(&self, user: &UserInfo, line: &str, headers: &[&str], body: Value) -> Answer {
        let response = self.response(user, line, headers, body).await;
        let (head, body) = response.into_parts();
        let header = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            code: head.status.as_u16(),
            content_type: head
                .headers
                .get("content-type")
                .map(header)
                .unwrap_or_default(),
            warnings: head.headers.get_all("warning").iter().map(header).collect(),
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn response(
        &self,
        user: &UserInfo,
        line: &str,
        headers: &[&str],
        body: Value,
    ) -> http::Response<Body> {
        let (method, uri) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers.iter().filter_map(|header| header.split_once(": ")) {
            request = request.header(name, value);
        }
        let body = match body {
            Value::Null => String::new(),
            Value::String(text) => text,
            value => value.to_string(),
        };
        let request = request.body(Full::from(body)).unwrap();
        self.server
            .client_service(user.clone())
            .call(request)
            .await
            .unwrap()
    }

    /// Creates an object where it belongs.
    #[track_caller]
    fn create(&self, path: &str, object: Value) -> impl Future<Output = Value> {
        let line = format!("POST {path}");
        async move { self.send(&line, object).await.is(201) }
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "1"}})
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    })
}

/// What pods need to be there before them.
async fn with_account(harness: &Harness) {
    let account = json!({"metadata": {"name": "default"}});
    harness
        .create("/api/v1/namespaces/default/serviceaccounts", account)
        .await;
}
