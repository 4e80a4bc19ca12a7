//! Which node, which container, which parameters: the address of a request to a node.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::{
    auth::fields::{items, text},
    status::Status,
};

const DEFAULT_PORT: u16 = 10250;

/// The query of a request, its values still percent-encoded: they are compared with names and passed on, never decoded.
pub(super) struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    pub fn of(uri: &'a http::Uri) -> Self {
        let pairs = uri
            .query()
            .unwrap_or("")
            .split('&')
            .filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .collect(),
        )
    }

    pub fn all(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(name, _)| *name == key)
            .map(|(_, value)| *value)
    }

    pub fn first(&self, key: &str) -> Option<&'a str> {
        self.all(key).next().filter(|value| !value.is_empty())
    }

    /// Kubernetes' idea of true: there, and neither `false` nor `0`.
    pub fn flag(&self, key: &str) -> bool {
        self.all(key)
            .next()
            .is_some_and(|value| value != "false" && value != "0")
    }
}

/// Where a pod's node listens.
///
/// # Errors
/// 500 when the node is not there or has told no address.
pub(super) fn address(pod: &Value, node: Option<&Value>) -> Result<SocketAddr, Status> {
    let name = text(pod, "/spec/nodeName");
    let node =
        node.ok_or_else(|| Status::internal(format!("node \"{name}\" of the pod was not found")))?;
    let of_kind = |kind: &str| {
        let mut all = items(node, "/status/addresses").iter();
        all.find_map(|a| {
            let address = text(a, "/address").parse::<IpAddr>().ok()?;
            (text(a, "/type") == kind).then_some(address)
        })
    };
    let ip = of_kind("InternalIP")
        .or_else(|| of_kind("ExternalIP"))
        .ok_or_else(|| {
            Status::internal(format!(
                "no preferred addresses found; known addresses of node \"{name}\": none"
            ))
        })?;
    let port = node
        .pointer("/status/daemonEndpoints/kubeletEndpoint/Port")
        .and_then(Value::as_u64)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0);
    Ok(SocketAddr::new(ip, port.unwrap_or(DEFAULT_PORT)))
}

/// The container asked for, or the only one.
///
/// # Errors
/// 400 when the pod has no such container, or several and none was named.
pub(super) fn container<'a>(pod: &'a Value, query: &Query<'_>) -> Result<&'a str, Status> {
    let names = |list: &str| -> Vec<&'a str> {
        items(pod, list)
            .iter()
            .map(|container| text(container, "/name"))
            .collect()
    };
    let pod_name = text(pod, "/metadata/name");
    let (containers, init) = (names("/spec/containers"), names("/spec/initContainers"));
    let Some(wanted) = query.first("container") else {
        return match containers.as_slice() {
            [only] => Ok(only),
            [] => Err(Status::bad_request(format!(
                "a container name must be specified for pod {pod_name}"
            ))),
            many => {
                let mut message = format!(
                    "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                    many.join(" ")
                );
                if !init.is_empty() {
                    message.push_str(&format!(
                        " or one of the init containers: [{}]",
                        init.join(" ")
                    ));
                }
                Err(Status::bad_request(message))
            }
        };
    };
    let ephemeral = names("/spec/ephemeralContainers");
    let mut all = containers.into_iter().chain(init).chain(ephemeral);
    all.find(|name| *name == wanted).ok_or_else(|| {
        Status::bad_request(format!(
            "container {wanted} is not valid for pod {pod_name}"
        ))
    })
}

/// `/KIND/NAMESPACE/POD[/CONTAINER][?QUERY]`
pub(super) fn path(kind: &str, pod: &Value, container: Option<&str>, query: &[String]) -> String {
    let mut path = format!("/{kind}");
    let names = [
        text(pod, "/metadata/namespace"),
        text(pod, "/metadata/name"),
    ];
    for name in names.into_iter().chain(container) {
        path.push('/');
        path.push_str(&segment(name));
    }
    if !query.is_empty() {
        path.push('?');
        path.push_str(&query.join("&"));
    }
    path
}

/// One path segment; whatever is in it cannot leave it.
fn segment(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_~".contains(&b);
    let dots = name.bytes().all(|b| b == b'.');
    name.bytes()
        .map(|b| match b {
            b if plain(b) || (b == b'.' && !dots) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}
