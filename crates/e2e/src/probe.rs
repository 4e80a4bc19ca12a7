//! Test pods: `malha lab serve` on every node.

use serde_json::{Value, json};

/// Ports of `malha lab serve`.
pub const HTTP: u16 = 8080;
/// TCP and UDP echo.
pub const ECHO: u16 = 7070;

/// A test pod.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The pod's name.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its node's address.
    pub node_address: String,
    /// Its addresses, one of each family at most.
    pub addresses: Vec<String>,
}

impl Probe {
    /// Of a pod that runs.
    pub(crate) fn new(pod: &Value) -> Self {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let addresses = pod["status"]["podIPs"].as_array().expect("addresses");
        Self {
            name: text(&pod["metadata"]["name"]),
            node: text(&pod["spec"]["nodeName"]),
            node_address: text(&pod["status"]["hostIP"]),
            addresses: addresses.iter().map(|entry| text(&entry["ip"])).collect(),
        }
    }

    /// `ADDRESS:PORT` for each of its addresses.
    pub fn at(&self, port: u16) -> impl Iterator<Item = String> + '_ {
        self.addresses
            .iter()
            .map(move |address| socket(address, port))
    }
}

/// An address and a port, as programs take them.
#[must_use]
pub fn socket(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

fn pod(image: &str) -> Value {
    json!({
        "terminationGracePeriodSeconds": 1,
        "tolerations": [{ "operator": "Exists" }],
        "containers": [{
            "name": "c", "image": image, "imagePullPolicy": "IfNotPresent",
            "command": ["/usr/bin/malha", "lab", "serve"],
        }],
    })
}

pub(crate) fn daemon_set(image: &str) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": { "name": "probe", "namespace": "default" },
        "spec": {
            "selector": { "matchLabels": { "app": "probe" } },
            "template": { "metadata": { "labels": { "app": "probe" } }, "spec": pod(image) },
        },
    })
    .to_string()
}

/// A pod on a node whose HTTP server is also the node's, at a port; and its UDP echo, at the next one.
#[must_use]
pub fn hostport_pod(name: &str, node: &str, image: &str, port: u16) -> String {
    let mut spec = pod(image);
    spec["nodeName"] = json!(node);
    spec["containers"][0]["ports"] = json!([
        { "containerPort": HTTP, "hostPort": port },
        { "containerPort": ECHO, "hostPort": port + 1, "protocol": "UDP" },
    ]);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "labels": { "app": name } },
        "spec": spec,
    })
    .to_string()
}
