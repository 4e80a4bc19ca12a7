//! `GET pods/NAME/log`: the node's answer, streamed for as long as it comes.

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{
    Body, NodeClient,
    target::{Query, address, container, path},
};
use crate::{auth::fields::text, status::Status};

/// No error message of a node is longer than this.
const MAX_ERROR_BYTES: usize = 16 * 1024;
/// What of the request is the node's to know.
const PASSED_ON: [&str; 7] = [
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
];

/// Streams a container's log.
///
/// A pod that is not bound to a node yet has an empty log, as on Kubernetes.
///
/// # Errors
/// 400 for a container that does not exist or has not started, 500 with `Get "https://…": …` when the node cannot be
/// asked.
pub async fn logs<B>(
    request: Request<B>,
    pod: &Value,
    node: Option<&Value>,
    client: &NodeClient,
) -> Result<Response<Body>, Status> {
    let query = Query::of(request.uri());
    let container = container(pod, &query)?;
    if text(pod, "/spec/nodeName").is_empty() {
        return Ok(plain(empty()));
    }
    let to = address(pod, node)?;
    let parameters: Vec<_> = PASSED_ON
        .iter()
        .filter_map(|key| query.first(key).map(|value| format!("{key}={value}")))
        .collect();
    let path = path("containerLogs", pod, Some(container), &parameters);
    let failed = |why: String| Status::internal(format!("Get \"https://{to}{path}\": {why}"));
    let ask = Request::get(&path)
        .header(header::HOST, to.to_string())
        .body(empty())
        .map_err(|e| failed(e.to_string()))?;
    let answer = client
        .send(to, ask)
        .await
        .map_err(|e| failed(e.to_string()))?;
    if answer.status().is_success() {
        return Ok(plain(answer.into_body().map_err(Into::into).boxed()));
    }
    Err(refused(answer, text(pod, "/metadata/name")).await)
}

fn plain(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let kind = header::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

pub(super) fn empty() -> Body {
    Empty::<Bytes>::new()
        .map_err(|never| match never {})
        .boxed()
}

/// The node's refusal as a Status.
async fn refused(answer: Response<Incoming>, pod: &str) -> Status {
    let code = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ERROR_BYTES)
        .collect()
        .await;
    let message = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned());
    let message = message.unwrap_or_else(|_| "the node's answer could not be read".to_owned());
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(message),
        StatusCode::INTERNAL_SERVER_ERROR => {
            Status::internal(format!("Internal error occurred: {message}"))
        }
        StatusCode::NOT_FOUND => Status {
            details: json!({
                "name": pod, "kind": "pods/log",
                "causes": [{"reason": "UnexpectedServerResponse", "message": message}],
            }),
            ..Status::new(
                404,
                "NotFound",
                format!("the server could not find the requested resource ( pods/log {pod})"),
            )
        },
        other => Status::new(
            other.as_u16(),
            "",
            format!(
                "the node answered the request for the log of pod \"{pod}\" with {other}: {message}"
            ),
        ),
    }
}
