//! Request bodies, with an end in size and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::BodyExt;

use super::Body;
use crate::status::Status;

/// As an API server on etcd: nothing larger could be stored.
const MAX_BYTES: usize = 3 << 20;
/// A client that takes longer to send this much is not sending.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a request's body.
///
/// # Errors
/// 413 when it is too large, 408 when it does not come, 400 when the connection breaks.
pub(super) async fn read(request: Request<Body>) -> Result<Bytes, Status> {
    let late = "the body of the request did not come in time";
    tokio::time::timeout(TIMEOUT, collect(request.into_body()))
        .await
        .map_err(|_| Status::new(408, "Timeout", late))?
}

async fn collect(mut body: Body) -> Result<Bytes, Status> {
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Status::bad_request(format!("cannot read the body of the request: {error}"))
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if collected.len() + data.len() > MAX_BYTES {
            return Err(Status::new(
                413,
                "RequestEntityTooLarge",
                format!("Request entity too large: limit is {MAX_BYTES}"),
            ));
        }
        collected.extend_from_slice(&data);
    }
    Ok(collected.freeze())
}
