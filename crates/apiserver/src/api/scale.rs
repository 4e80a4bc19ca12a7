//! The `scale` subresource: the number of replicas of a workload, whatever its kind.

use serde_json::{Value, json};

use super::{
    errors::{self, FieldError},
    json::child,
    resources::find_kind,
    table,
};
use crate::{auth::fields::text, status::Status};

/// The `autoscaling/v1 Scale` of a workload.
pub fn get(workload: &Value) -> Value {
    let of = |pointer| {
        workload
            .pointer(pointer)
            .and_then(Value::as_i64)
            .unwrap_or(0)
    };
    let metadata = &workload["metadata"];
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {},
        "spec": {"replicas": of("/spec/replicas")},
        "status": {"replicas": of("/status/replicas"), "selector": table::selector_text(&workload["spec"]["selector"])},
    });
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        super::json::copy(metadata, child(&mut scale, "metadata"), field);
    }
    scale
}

/// The workload with the replicas of a Scale.
///
/// # Errors
/// 409 when the Scale names another version or uid than the object's; 422 when the number is negative.
pub fn put(workload: &Value, scale: &Value) -> Result<Value, Status> {
    let name = text(workload, "/metadata/name");
    let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64);
    let replicas = replicas.unwrap_or(0);
    if replicas < 0 {
        let why = "must be greater than or equal to 0";
        let error = FieldError::invalid("spec.replicas", &replicas.into(), why);
        return Err(errors::invalid("autoscaling", "Scale", name, &[error]));
    }
    let differs = |field: &str| {
        let asked = text(scale, field);
        !asked.is_empty() && asked != text(workload, field)
    };
    if differs("/metadata/resourceVersion") || differs("/metadata/uid") {
        let resource = find_kind(text(workload, "/apiVersion"), text(workload, "/kind"));
        return Err(match resource {
            Some(resource) => errors::modified(resource, name),
            None => Status::internal(format!("the scaled object {name} is of no known kind")),
        });
    }
    let mut scaled = workload.clone();
    child(&mut scaled, "spec").insert("replicas".to_owned(), replicas.into());
    Ok(scaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_read_and_written() {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "d", "namespace": "n", "uid": "u", "resourceVersion": "5", "labels": {"a": "b"}},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "x"}}}, "status": {"replicas": 1},
        });
        let mut scale = get(&deployment);
        assert_eq!(
            scale["metadata"],
            json!({"name": "d", "namespace": "n", "uid": "u", "resourceVersion": "5"})
        );
        assert_eq!(scale["status"], json!({"replicas": 1, "selector": "app=x"}));
        scale["spec"]["replicas"] = 4.into();
        assert_eq!(put(&deployment, &scale).unwrap()["spec"]["replicas"], 4);
        scale["metadata"]["resourceVersion"] = "4".into();
        assert_eq!(put(&deployment, &scale).unwrap_err().code, 409);
        assert_eq!(
            put(&deployment, &json!({"spec": {"replicas": -1}}))
                .unwrap_err()
                .code,
            422
        );
    }
}
