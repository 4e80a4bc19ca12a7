//! Pods, and the pod templates of workloads.

use serde_json::{Map, Value, json};

use crate::api::{
    json::{as_object, child, each, fill},
    validate::quantity,
};
use crate::auth::fields::items;

/// `0644`
const FILE_MODE: i64 = 0o644;
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// A pod: what a template gets, and what only counts when it is a pod.
pub(super) fn pod(pod: &mut Value) {
    let spec = child(pod, "spec");
    fill(spec, "enableServiceLinks", true);
    for containers in ["initContainers", "containers"] {
        for container in each(spec, containers) {
            requests(container);
        }
    }
    pod_spec(spec);
}

/// What is limited and not requested is requested up to the limit.
fn requests(container: &mut Map<String, Value>) {
    let Some(Value::Object(resources)) = container.get_mut("resources") else {
        return;
    };
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else {
        return;
    };
    if limits.is_empty() {
        return;
    }
    let requests = as_object(resources.entry("requests").or_insert(Value::Null));
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

/// The spec of a pod or of a template.
pub(super) fn pod_spec(spec: &mut Map<String, Value>) {
    fill(spec, "dnsPolicy", "ClusterFirst");
    fill(spec, "restartPolicy", "Always");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill(spec, "schedulerName", "default-scheduler");
    fill(spec, "securityContext", json!({}));
    // The old name of the field.
    if let Some(account) = spec.get("serviceAccount").cloned() {
        fill(spec, "serviceAccountName", account);
    }
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for containers in CONTAINERS {
        for container in each(spec, containers) {
            self::container(container, host_network);
        }
    }
    for volume in each(spec, "volumes") {
        self::volume(volume);
    }
}

fn container(container: &mut Map<String, Value>, host_network: bool) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or("");
    let policy = pull_policy(image);
    fill(container, "imagePullPolicy", policy);
    fill(container, "terminationMessagePath", "/dev/termination-log");
    fill(container, "terminationMessagePolicy", "File");
    for port in each(container, "ports") {
        fill(port, "protocol", "TCP");
        let number = port.get("containerPort").cloned();
        if let (true, Some(number)) = (host_network, number) {
            fill(port, "hostPort", number);
        }
    }
    for variable in each(container, "env") {
        let source = variable
            .get_mut("valueFrom")
            .and_then(|v| v.get_mut("fieldRef"));
        if let Some(Value::Object(field)) = source {
            fill(field, "apiVersion", "v1");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(Value::Object(probe)) = container.get_mut(name) {
            self::probe(probe);
        }
    }
    if let Some(Value::Object(lifecycle)) = container.get_mut("lifecycle") {
        for hook in lifecycle.values_mut() {
            http_get(as_object(hook));
        }
    }
}

/// An image without a tag is `latest`, which is always asked for again.
fn pull_policy(image: &str) -> &'static str {
    let (image, digest) = match image.split_once('@') {
        Some((image, _)) => (image, true),
        None => (image, false),
    };
    let last = image.rsplit('/').next().unwrap_or("");
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if !digest => "Always",
        _ => "IfNotPresent",
    }
}

fn probe(probe: &mut Map<String, Value>) {
    fill(probe, "timeoutSeconds", 1);
    fill(probe, "periodSeconds", 10);
    fill(probe, "successThreshold", 1);
    fill(probe, "failureThreshold", 3);
    http_get(probe);
    if let Some(Value::Object(grpc)) = probe.get_mut("grpc") {
        grpc.entry("service").or_insert_with(|| "".into());
    }
}

fn http_get(handler: &mut Map<String, Value>) {
    if let Some(Value::Object(get)) = handler.get_mut("httpGet") {
        fill(get, "path", "/");
        fill(get, "scheme", "HTTP");
    }
}

fn volume(volume: &mut Map<String, Value>) {
    if volume.keys().all(|key| key == "name") {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(Value::Object(source)) = volume.get_mut(source) {
            fill(source, "defaultMode", FILE_MODE);
            downward(source);
            for part in each(source, "sources") {
                projection(part);
            }
        }
    }
    if let Some(Value::Object(path)) = volume.get_mut("hostPath") {
        path.entry("type").or_insert_with(|| "".into());
    }
}

fn projection(part: &mut Map<String, Value>) {
    if let Some(Value::Object(token)) = part.get_mut("serviceAccountToken") {
        fill(token, "expirationSeconds", 3600);
    }
    if let Some(Value::Object(source)) = part.get_mut("downwardAPI") {
        downward(source);
    }
}

fn downward(source: &mut Map<String, Value>) {
    for item in each(source, "items") {
        if let Some(Value::Object(field)) = item.get_mut("fieldRef") {
            fill(field, "apiVersion", "v1");
        }
    }
}

/// What a pod's status says before anybody has looked at it.
pub(super) fn first_status(pod: &mut Value) {
    let qos = qos_class(&pod["spec"]);
    pod["status"] = json!({"phase": "Pending", "qosClass": qos});
}

/// How a pod's containers ask for cpu and memory decides who is killed first.
fn qos_class(spec: &Value) -> &'static str {
    let all: Vec<&Value> = ["/initContainers", "/containers"]
        .into_iter()
        .flat_map(|list| items(spec, list))
        .collect();
    let amount = |container: &Value, what: &str, of: &str| {
        let value = container.pointer(&format!("/resources/{what}/{of}"))?;
        quantity::parse(value).filter(|amount| *amount > 0)
    };
    let asks = |container: &&Value| {
        let kinds = [
            ("limits", "cpu"),
            ("limits", "memory"),
            ("requests", "cpu"),
            ("requests", "memory"),
        ];
        kinds
            .iter()
            .any(|(what, of)| amount(container, what, of).is_some())
    };
    let is_fixed = |container: &&Value| {
        ["cpu", "memory"].iter().all(|of| {
            let limit = amount(container, "limits", of);
            limit.is_some() && limit == amount(container, "requests", of)
        })
    };
    if !all.iter().any(asks) {
        "BestEffort"
    } else if all.iter().all(is_fixed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
