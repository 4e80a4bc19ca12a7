//! Nodes and what the storage API says of them.

use jiff::Timestamp;
use serde_json::Value;

use super::{Printer, age, column::Column, count, name, or};
use crate::auth::fields::{items, strings, text};

pub(super) const NODES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text(
            "Status",
            "Whether the node is ready, and whether it takes pods.",
        ),
        Column::text("Roles", "The roles that its labels name."),
        Column::AGE,
        Column::text("Version", "The version of its kubelet."),
        Column::text("Internal-IP", "Its first address inside the cluster.").wide(),
        Column::text("External-IP", "Its first address outside the cluster.").wide(),
        Column::text("OS-Image", "The operating system.").wide(),
        Column::text("Kernel-Version", "The kernel.").wide(),
        Column::text("Container-Runtime", "The container runtime.").wide(),
    ],
    cells: node,
};

fn node(node: &Value, now: Timestamp) -> Vec<Value> {
    let info = |field: &str, instead| {
        let pointer = format!("/status/nodeInfo/{field}");
        Value::from(or(text(node, &pointer), instead))
    };
    vec![
        name(node),
        status(node).into(),
        roles(node).into(),
        age::created(node, now),
        info("kubeletVersion", ""),
        address(node, "InternalIP").into(),
        address(node, "ExternalIP").into(),
        info("osImage", "<unknown>"),
        info("kernelVersion", "<unknown>"),
        info("containerRuntimeVersion", "<unknown>"),
    ]
}

fn status(node: &Value) -> String {
    let mut conditions = items(node, "/status/conditions").iter();
    let ready = conditions.find(|c| text(c, "/type") == "Ready");
    let ready = match ready.map(|c| text(c, "/status")) {
        None => "Unknown",
        Some("True") => "Ready",
        Some(_) => "NotReady",
    };
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        return format!("{ready},SchedulingDisabled");
    }
    ready.to_owned()
}

fn roles(node: &Value) -> String {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.as_str() {
            "kubernetes.io/role" => value.as_str(),
            key => key.strip_prefix("node-role.kubernetes.io/"),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    or(&roles.join(","), "<none>").to_owned()
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let mut all = items(node, "/status/addresses").iter();
    let found = all.find(|a| text(a, "/type") == kind);
    or(found.map_or("", |a| text(a, "/address")), "<none>")
}

pub(super) const CSI_NODES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::number("Drivers", "The number of storage drivers on the node."),
        Column::AGE,
    ],
    cells: |node, now| {
        vec![
            name(node),
            count(node, "/spec/drivers").into(),
            age::created(node, now),
        ]
    },
};

pub(super) const CSI_DRIVERS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::flag(
            "AttachRequired",
            "Whether volumes are attached before they are mounted.",
        ),
        Column::flag(
            "PodInfoOnMount",
            "Whether the driver is told about the pod.",
        ),
        Column::flag("StorageCapacity", "Whether capacity counts in scheduling."),
        Column::text("TokenRequests", "The audiences of tokens for the driver."),
        Column::flag(
            "RequiresRepublish",
            "Whether volumes are mounted again and again.",
        ),
        Column::text("Modes", "The ways volumes come to be."),
        Column::AGE,
    ],
    cells: csi_driver,
};

fn csi_driver(driver: &Value, now: Timestamp) -> Vec<Value> {
    let flag = |field: &str, default| {
        let value = driver.pointer(&format!("/spec/{field}"));
        Value::from(value.and_then(Value::as_bool).unwrap_or(default))
    };
    let audiences: Vec<_> = items(driver, "/spec/tokenRequests")
        .iter()
        .map(|request| text(request, "/audience"))
        .collect();
    let modes: Vec<_> = strings(driver, "/spec/volumeLifecycleModes").collect();
    vec![
        name(driver),
        flag("attachRequired", true),
        flag("podInfoOnMount", false),
        flag("storageCapacity", false),
        or(&audiences.join(","), "<unset>").into(),
        flag("requiresRepublish", false),
        or(&modes.join(","), "<none>").into(),
        age::created(driver, now),
    ]
}
