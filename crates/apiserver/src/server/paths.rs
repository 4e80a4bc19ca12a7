//! Paths that are no resources: discovery, OpenAPI, health, version.

use http::{HeaderMap, Method, Response, header};
use serde_json::{Value, json};

use super::{Body, Inner, respond};
use crate::{
    api::{discovery, negotiate::DiscoveryFormat, openapi},
    status::Status,
};

const OPENAPI_V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Answers a path.
///
/// # Errors
/// 405 for anything but reading.
pub(super) fn serve(
    inner: &Inner,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    verbose: bool,
) -> Result<Response<Body>, Status> {
    if ![Method::GET, Method::HEAD].contains(method) {
        return Err(crate::api::errors::method_not_allowed());
    }
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let format = DiscoveryFormat::parse(accept);
    let found =
        |document: Option<Value>| document.map_or_else(page_not_found, |d| respond::json(200, &d));
    let segments: Vec<_> = path.split('/').filter(|s| !s.is_empty()).collect();
    Ok(match segments.as_slice() {
        [] => respond::json(200, &discovery::paths()),
        ["api"] => document(format, &discovery::api(format, &inner.address)),
        ["apis"] => document(format, &discovery::apis(format)),
        ["api", version] => found(discovery::resources("", version)),
        ["apis", group] => found(discovery::group(group)),
        ["apis", group, version] => found(discovery::resources(group, version)),
        ["openapi", "v2"] => respond::bytes(200, OPENAPI_V2, openapi::v2_protobuf()),
        ["openapi", "v3"] => respond::json(200, &openapi::index()),
        ["openapi", "v3", path @ ..] => found(openapi::document(&path.join("/"))),
        ["version"] => respond::json(200, &version()),
        [check @ ("healthz" | "livez" | "readyz"), ..] => health(inner, check, verbose),
        _ => page_not_found(),
    })
}

fn document(format: DiscoveryFormat, value: &Value) -> Response<Body> {
    respond::bytes(200, format.content_type(), value.to_string())
}

/// What an API server says where it has nothing: plain text, not a Status.
pub(super) fn page_not_found() -> Response<Body> {
    respond::text(404, "404 page not found\n")
}

fn health(inner: &Inner, check: &str, verbose: bool) -> Response<Body> {
    match inner.store.health() {
        Ok(()) if verbose => respond::text(200, format!("[+]store ok\n{check} check passed\n")),
        Ok(()) => respond::text(200, "ok"),
        Err(why) => {
            let text = format!("[-]store failed: {why}\n{check} check failed\n");
            respond::text(500, text)
        }
    }
}

fn version() -> Value {
    let full = malha_core::KUBERNETES_VERSION;
    let mut parts = full.trim_start_matches('v').split(['.', '+']);
    let mut part = || parts.next().unwrap_or("0").to_owned();
    json!({
        "major": part(), "minor": part(), "gitVersion": full, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("linux/{}", match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }),
    })
}
