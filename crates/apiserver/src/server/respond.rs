//! Answers.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use super::Body;
use crate::{api::negotiate::Accept, status::Status};

/// Bytes of a media type.
pub(super) fn bytes(
    code: u16,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let body = Full::new(body.into()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

/// A line of text.
pub(super) fn text(code: u16, body: impl Into<Bytes>) -> Response<Body> {
    bytes(code, "text/plain; charset=utf-8", body)
}

/// A JSON document.
pub(super) fn json(code: u16, value: &Value) -> Response<Body> {
    bytes(code, "application/json", value.to_string())
}

/// An answer in the form the client accepts.
pub(super) fn answer(accept: &Accept, code: u16, value: &Value) -> Response<Body> {
    bytes(code, accept.content_type(), accept.encode(value))
}

/// A refusal.
pub(super) fn refusal(status: &Status) -> Response<Body> {
    let mut response = json(status.code, &status.to_json());
    let seconds = status
        .details
        .get("retryAfterSeconds")
        .and_then(Value::as_u64);
    let retry = seconds.or((status.code == 429).then_some(1));
    if let Some(seconds) = retry {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Adds a `Warning: 299` header for each text.
pub(super) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let plain = warning.replace(|c: char| c.is_control(), " ");
        let quoted = plain.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
