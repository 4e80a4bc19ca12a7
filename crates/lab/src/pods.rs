//! The test pods: one on every node, each a [`crate::serve`] server.

use serde_json::{Value, json};

/// The label of every test pod.
pub const LABEL: &str = "app=probe";
/// Where a test pod serves HTTP.
pub const HTTP_PORT: u16 = 8080;
/// Where a test pod echoes TCP and UDP.
pub const ECHO_PORT: u16 = 7070;

/// A test pod on a node.
#[must_use]
pub fn probe(name: &str, node: &str) -> Value {
    let ports = [HTTP_PORT, ECHO_PORT, ECHO_PORT].map(|port| port.to_string());
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "probe"}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "probe",
                "image": "malha",
                "command": ["/usr/bin/malha", "lab", "serve"],
                "args": ["--http", ports[0], "--tcp", ports[1], "--udp", ports[2]],
                "ports": [{"containerPort": HTTP_PORT}],
                "readinessProbe": {
                    "httpGet": {"path": "/healthz", "port": HTTP_PORT},
                    "periodSeconds": 1,
                },
            }],
        },
    })
}
