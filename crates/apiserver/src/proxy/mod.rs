//! Reaching into pods: logs, exec, attach and port-forward, passed on to the pod's node.
//!
//! The caller has authenticated, authorized (`get pods/log`, `create pods/exec`, …) and looked up the pod and its node.
//! What happens in the pod is the node's business: [`logs`] streams its answer, [`exec`] and its siblings pass the
//! upgraded connection's bytes through both ways, websocket and SPDY/3.1 alike, without looking at them.
//! Paths and parameters are those of the kubelet's API (`/containerLogs`, `/exec`, `/attach`, `/portForward`).

mod client;
mod logs;
mod streams;
mod target;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;

pub use client::{ClientError, NodeClient};
pub use logs::logs;
pub use streams::{attach, exec, port_forward};

/// An error of a body on its way.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A response body that may take as long as its pod.
pub type Body = BoxBody<Bytes, BoxError>;

#[cfg(test)]
mod tests;
