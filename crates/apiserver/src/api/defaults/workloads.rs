//! Workloads: how many, how they are replaced, and their pod templates.

use serde_json::{Map, Value, json};

use super::pods;
use crate::api::json::{as_object, child, fill};

pub(super) fn daemon_set(set: &mut Value) {
    let spec = child(set, "spec");
    template(spec);
    fill(spec, "revisionHistoryLimit", 10);
    rolling(spec, "updateStrategy", json!(0), json!(1));
}

pub(super) fn deployment(deployment: &mut Value) {
    let spec = child(deployment, "spec");
    template(spec);
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
    rolling(spec, "strategy", json!("25%"), json!("25%"));
}

pub(super) fn replica_set(set: &mut Value) {
    let spec = child(set, "spec");
    template(spec);
    fill(spec, "replicas", 1);
}

fn template(spec: &mut Map<String, Value>) {
    if let Some(template @ Value::Object(_)) = spec.get_mut("template") {
        pods::pod_spec(child(template, "spec"));
    }
}

fn rolling(spec: &mut Map<String, Value>, field: &str, surge: Value, unavailable: Value) {
    let strategy = as_object(spec.entry(field).or_insert(Value::Null));
    fill(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = as_object(strategy.entry("rollingUpdate").or_insert(Value::Null));
        fill(rolling, "maxSurge", surge);
        fill(rolling, "maxUnavailable", unavailable);
    }
}
