//! What a pod may learn of itself. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::api::resource::Quantity};

use super::resources::milli;

/// What the pod's own object does not say yet.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The node's addresses.
    pub host_ips: Vec<String>,
    /// The pod's addresses.
    pub pod_ips: Vec<String>,
    /// The node's processors and memory (bytes): what a container without limits has.
    pub capacity: (u64, u64),
}

/// The text of a field.
///
/// # Errors
/// When a pod cannot refer to it.
pub fn field(pod: &Pod, around: &Surroundings, path: &str) -> Result<String, String> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |text: Option<&String>| Ok(text.cloned().unwrap_or_default());
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    match path {
        "metadata.name" => text(metadata.name.as_ref()),
        "metadata.namespace" => text(metadata.namespace.as_ref()),
        "metadata.uid" => text(metadata.uid.as_ref()),
        "metadata.labels" => Ok(map(metadata.labels.as_ref())),
        "metadata.annotations" => Ok(map(metadata.annotations.as_ref())),
        "spec.nodeName" => text(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" => Ok(first(&around.host_ips)),
        "status.hostIPs" => Ok(around.host_ips.join(",")),
        "status.podIP" => Ok(first(&around.pod_ips)),
        "status.podIPs" => Ok(around.pod_ips.join(",")),
        _ => {
            let keyed = |prefix: &str| {
                path.strip_prefix(prefix)?
                    .strip_prefix("['")?
                    .strip_suffix("']")
            };
            match (keyed("metadata.labels"), keyed("metadata.annotations")) {
                (Some(key), _) => text(metadata.labels.as_ref().and_then(|l| l.get(key))),
                (None, Some(key)) => text(metadata.annotations.as_ref().and_then(|a| a.get(key))),
                (None, None) => Err(format!("unsupported fieldPath: {path}")),
            }
        }
    }
}

/// One `key="value"` a line, sorted.
fn map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={v:?}"))
        .collect();
    lines.join("\n")
}

/// A container's limit or request in units of `divisor`, rounded up.
///
/// # Errors
/// When there is no such container or resource, or the divisor is no quantity.
pub fn resource(
    pod: &Pod,
    around: &Surroundings,
    container: &str,
    path: &str,
    divisor: Option<&str>,
) -> Result<String, String> {
    let spec = pod.spec.as_ref().ok_or("the pod has no spec")?;
    let mut all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let found = all
        .find(|c| c.name == container)
        .ok_or_else(|| format!("container {container} not found"))?;
    let (kind, name) = path
        .split_once('.')
        .ok_or_else(|| format!("unsupported resource: {path}"))?;
    let resources = found.resources.clone().unwrap_or_default();
    let amounts = match kind {
        "limits" => resources.limits,
        "requests" => resources.requests,
        _ => return Err(format!("unsupported resource: {path}")),
    };
    let amount = amounts.unwrap_or_default().get(name).and_then(milli);
    let whole = match (name, kind) {
        ("cpu", "limits") => u128::from(around.capacity.0) * 1000,
        ("memory", "limits") => u128::from(around.capacity.1) * 1000,
        _ => 0,
    };
    let divisor = match divisor {
        None | Some("" | "0") => 1000,
        Some(text) => milli(&Quantity(text.to_owned()))
            .filter(|d| *d > 0)
            .ok_or_else(|| format!("divisor {text:?} is no quantity"))?,
    };
    Ok(amount.unwrap_or(whole).div_ceil(divisor).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_and_resources() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "labels": {"b": "2", "a": "1"}},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "resources": {"limits": {"cpu": "250m"}}}]},
        }))
        .unwrap();
        let around = Surroundings {
            host_ips: vec!["10.0.0.1".into()],
            pod_ips: vec!["10.1.0.1".into(), "fd00::1".into()],
            capacity: (4, 1 << 30),
        };
        let table = [
            ("metadata.name", "p"),
            ("metadata.labels", "a=\"1\"\nb=\"2\""),
            ("metadata.labels['b']", "2"),
            ("metadata.annotations['none']", ""),
            ("spec.nodeName", "n"),
            ("status.hostIP", "10.0.0.1"),
            ("status.podIPs", "10.1.0.1,fd00::1"),
        ];
        for (path, expected) in table {
            assert_eq!(
                field(&pod, &around, path).as_deref(),
                Ok(expected),
                "{path}"
            );
        }
        assert_eq!(
            field(&pod, &around, "spec.x").unwrap_err(),
            "unsupported fieldPath: spec.x"
        );
        let resource = |path, divisor| resource(&pod, &around, "c", path, divisor);
        assert_eq!(resource("limits.cpu", None).as_deref(), Ok("1"));
        assert_eq!(resource("limits.cpu", Some("1m")).as_deref(), Ok("250"));
        assert_eq!(
            resource("limits.memory", Some("1Mi")).as_deref(),
            Ok("1024")
        );
        assert_eq!(resource("requests.memory", None).as_deref(), Ok("0"));
    }
}
