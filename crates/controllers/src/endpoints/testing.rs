//! A Service and its pods, in few words.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::{Value, json};

use crate::testing::object;

/// The Service `web` that selects `app=web` and leads from 80 to 8080; `extra` fields overwrite.
pub fn service(extra: Value) -> Arc<Service> {
    let mut spec = json!({
        "selector": {"app": "web"}, "clusterIP": "10.96.0.10", "ports": [{"port": 80, "targetPort": 8080}],
    });
    spec.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    object(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "svc", "labels": {"app": "web"}}, "spec": spec,
    }))
}

/// `name` and any of `ready`, `going`, `ended`, `noip`, `other` (another label), `web=PORT`, `node=NAME`. The first pod
/// has the addresses 10.0.0.1 and fd00::1, and so on.
pub fn pods(list: &[&str]) -> Vec<Arc<Pod>> {
    let pods = list.iter().enumerate().map(|(index, text)| {
        let words: Vec<&str> = text.split(' ').collect();
        let is = |word: &str| words[1..].contains(&word);
        let value = |key: &str| words[1..].iter().find_map(|word| word.strip_prefix(key));
        let n = index + 1;
        let ips = if is("noip") { json!([]) } else { json!([{"ip": format!("10.0.0.{n}")}, {"ip": format!("fd00::{n:x}")}]) };
        let mut pod = json!({
            "metadata": {
                "name": words[0], "namespace": "default", "uid": words[0],
                "labels": {"app": if is("other") { "other" } else { "web" }},
            },
            "spec": {"nodeName": value("node=").unwrap_or("w1"), "containers": [{"name": "c"}]},
            "status": {
                "phase": if is("ended") { "Succeeded" } else { "Running" }, "podIPs": ips,
                "conditions": [{"type": "Ready", "status": if is("ready") { "True" } else { "False" }}],
            },
        });
        if is("going") {
            pod["metadata"]["deletionTimestamp"] = "2026-11-25T12:00:00Z".into();
        }
        if let Some(port) = value("web=") {
            let port: i32 = port.parse().unwrap();
            pod["spec"]["containers"][0]["ports"] = json!([{"name": "web", "containerPort": port}]);
        }
        object(pod)
    });
    pods.collect()
}
