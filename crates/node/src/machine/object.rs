//! The Node object. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus,
        NodeSystemInfo,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
};
use serde_json::{Value, json};

use super::NetworkState;

/// As many pods as a kubelet runs.
const MAX_PODS: &str = "110";

/// What a machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The node's name.
    pub name: String,
    /// The kernel's host name.
    pub hostname: String,
    /// At most one address of each family.
    pub addresses: Vec<IpAddr>,
    /// Where the agent serves logs and exec.
    pub port: u16,
    /// In Go's words.
    pub architecture: String,
    /// The kernel's release.
    pub kernel: String,
    /// The distribution's name.
    pub os_image: String,
    /// /etc/machine-id
    pub machine_id: String,
    /// The firmware's name of the machine.
    pub system_uuid: String,
    /// The kernel's name of this boot.
    pub boot_id: String,
    /// Processors.
    pub processors: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes of the disk that holds volumes.
    pub disk: u64,
}

/// What is scarce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Disk.
    pub disk: bool,
    /// Process numbers.
    pub pids: bool,
}

/// The object that registers the machine.
pub fn node(facts: &Facts, network: &NetworkState, pressure: Pressure, now: Timestamp) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(facts.name.clone()),
            labels: Some(labels(facts)),
            annotations: Some(
                [(
                    "volumes.kubernetes.io/controller-managed-attach-detach",
                    "true",
                )]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            ),
            ..ObjectMeta::default()
        },
        spec: None,
        status: Some(status(facts, &conditions(network, pressure, &[], now))),
    }
}

/// Labels that the node sets on itself.
pub fn labels(facts: &Facts) -> BTreeMap<String, String> {
    [
        ("beta.kubernetes.io/arch", facts.architecture.as_str()),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", &facts.architecture),
        ("kubernetes.io/hostname", &facts.name),
        ("kubernetes.io/os", "linux"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into()
}

/// Everything of the status that is the node's own.
pub fn status(facts: &Facts, conditions: &[NodeCondition]) -> NodeStatus {
    let quantity = |text: String| Quantity(text);
    let resources: BTreeMap<String, Quantity> = [
        ("cpu", facts.processors.to_string()),
        ("ephemeral-storage", format!("{}Ki", facts.disk / 1024)),
        ("hugepages-1Gi", "0".to_owned()),
        ("hugepages-2Mi", "0".to_owned()),
        ("memory", format!("{}Ki", facts.memory / 1024)),
        ("pods", MAX_PODS.to_owned()),
    ]
    .map(|(name, text)| (name.to_owned(), quantity(text)))
    .into();
    NodeStatus {
        addresses: Some(addresses(facts)),
        allocatable: Some(resources.clone()),
        capacity: Some(resources),
        conditions: Some(conditions.to_vec()),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: facts.port.into(),
            }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: facts.architecture.clone(),
            boot_id: facts.boot_id.clone(),
            container_runtime_version: format!("malha://{}", env!("CARGO_PKG_VERSION")),
            kernel_version: facts.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: malha_core::KUBERNETES_VERSION.to_owned(),
            machine_id: facts.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: facts.os_image.clone(),
            system_uuid: facts.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

fn addresses(facts: &Facts) -> Vec<NodeAddress> {
    let address = |kind: &str, address: String| NodeAddress {
        type_: kind.to_owned(),
        address,
    };
    let mut all: Vec<_> = facts
        .addresses
        .iter()
        .map(|ip| address("InternalIP", ip.to_string()))
        .collect();
    all.push(address("Hostname", facts.name.clone()));
    all
}

/// The conditions that are the node's own, in a kubelet's words. `before` are those of the object now: a condition
/// that has not changed keeps the time of its last change.
pub fn conditions(
    network: &NetworkState,
    pressure: Pressure,
    before: &[NodeCondition],
    now: Timestamp,
) -> Vec<NodeCondition> {
    let memory = match pressure.memory {
        true => (
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
        ),
        false => (
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
    };
    let disk = match pressure.disk {
        true => ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        false => ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    };
    let pids = match pressure.pids {
        true => (
            "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available",
        ),
        false => (
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
    };
    let network = network.message();
    let ready = match &network {
        Some(why) => ("KubeletNotReady", why.as_str()),
        None => ("KubeletReady", "kubelet is posting ready status"),
    };
    [
        ("MemoryPressure", pressure.memory, memory),
        ("DiskPressure", pressure.disk, disk),
        ("PIDPressure", pressure.pids, pids),
        ("Ready", network.is_none(), ready),
    ]
    .map(|(kind, holds, (reason, message))| {
        let status = if holds { "True" } else { "False" };
        let same = before
            .iter()
            .find(|c| c.type_ == kind && c.status == status);
        let since = same.and_then(|c| c.last_transition_time.clone());
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: since.or(Some(Time(now))),
        }
    })
    .to_vec()
}

/// Whether somebody who looks at the conditions sees a difference, heartbeats aside.
pub fn differ(before: &[NodeCondition], after: &[NodeCondition]) -> bool {
    let told = |c: &NodeCondition| (c.status.clone(), c.reason.clone(), c.message.clone());
    after.iter().any(|new| {
        let old = before.iter().find(|old| old.type_ == new.type_);
        old.map(told) != Some(told(new))
    })
}

/// The strategic merge patch that brings a node's status to `wanted`. Conditions merge by type, so others' stay;
/// addresses would too, although two may be of one type: they are replaced as a whole, as a kubelet does.
pub fn status_patch(before: &NodeStatus, wanted: &NodeStatus) -> Value {
    let mut status = serde_json::to_value(wanted).unwrap_or_default();
    if let Some(fields) = status.as_object_mut() {
        if before.addresses == wanted.addresses {
            fields.remove("addresses");
        } else if let Some(addresses) = fields.get_mut("addresses").and_then(Value::as_array_mut) {
            addresses.push(json!({"$patch": "replace"}));
        }
    }
    json!({ "status": status })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_node_without_a_network_says_what_a_kubelet_says() {
        let network = NetworkState::Failed("cni plugin not initialized".to_owned());
        let conditions = conditions(&network, Pressure::default(), &[], at(1));
        let ready = conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_deref()),
            ("False", Some("KubeletNotReady"))
        );
        assert_eq!(
            ready.message.as_deref(),
            Some(
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                 message:Network plugin returns error: cni plugin not initialized"
            )
        );
    }

    #[test]
    fn only_a_change_of_status_is_a_transition() {
        let failed = NetworkState::Failed("x".to_owned());
        let first = conditions(&failed, Pressure::default(), &[], at(1));
        let second = conditions(&failed, Pressure::default(), &first, at(2));
        assert!(!differ(&first, &second));
        let third = conditions(
            &NetworkState::Ready("malha".into()),
            Pressure::default(),
            &second,
            at(3),
        );
        assert!(differ(&second, &third));
        let since = |list: &[NodeCondition], kind: &str| {
            list.iter()
                .find(|c| c.type_ == kind)
                .unwrap()
                .last_transition_time
                .clone()
                .unwrap()
                .0
        };
        assert_eq!(
            (since(&second, "Ready"), since(&third, "Ready")),
            (at(1), at(3))
        );
        assert_eq!(since(&third, "DiskPressure"), at(1));
    }

    #[test]
    fn both_addresses_survive_a_patch() {
        let facts = Facts {
            name: "n".into(),
            addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            ..Facts::default()
        };
        let wanted = status(&facts, &[]);
        let patch = status_patch(&NodeStatus::default(), &wanted);
        assert_eq!(
            patch["status"]["addresses"],
            json!([
                {"type": "InternalIP", "address": "10.0.0.1"},
                {"type": "InternalIP", "address": "fd00::1"},
                {"type": "Hostname", "address": "n"},
                {"$patch": "replace"},
            ])
        );
        assert_eq!(
            status_patch(&wanted, &wanted)["status"].get("addresses"),
            None
        );
    }
}
