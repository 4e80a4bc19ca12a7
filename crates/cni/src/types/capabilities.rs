//! `runtimeConfig`: what a runtime tells plugins that declared a capability.
//!
//! containerd writes `HostPort`, CRI-O and podman `hostPort`; Go's decoder takes either, so keys are compared without
//! case here too.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{CniError, code, json};

/// A transport protocol of a port mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, also when the runtime names none.
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

/// A port of the node that leads to a port of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// The node's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The protocol of both.
    pub protocol: Protocol,
    /// The node's address to listen on; none means all.
    pub host_ip: Option<IpAddr>,
}

/// Rates in bits per second, bursts in bits. Zero means unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Bandwidth {
    /// Towards the container.
    #[serde(rename = "ingressrate")]
    pub ingress_rate: u64,
    /// Towards the container.
    #[serde(rename = "ingressburst")]
    pub ingress_burst: u64,
    /// From the container.
    #[serde(rename = "egressrate")]
    pub egress_rate: u64,
    /// From the container.
    #[serde(rename = "egressburst")]
    pub egress_burst: u64,
}

/// The capability arguments that this plugin understands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapabilityArgs {
    /// `portMappings`, without those whose host port is 0.
    pub port_mappings: Vec<PortMapping>,
    /// `bandwidth`
    pub bandwidth: Option<Bandwidth>,
    /// `ips`: addresses asked for.
    pub ips: Vec<IpNet>,
    /// `mac`
    pub mac: Option<String>,
    /// `cgroupPath`
    pub cgroup_path: Option<String>,
    /// `io.kubernetes.cri.pod-annotations`
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawMapping {
    #[serde(default, rename = "hostport")]
    host: i64,
    #[serde(default, rename = "containerport")]
    container: i64,
    #[serde(default, deserialize_with = "json::or_default")]
    protocol: String,
    #[serde(default, rename = "hostip", deserialize_with = "json::address")]
    host_ip: Option<IpAddr>,
}

impl CapabilityArgs {
    /// Reads a `runtimeConfig` object.
    ///
    /// # Errors
    /// Code 7, naming the key and what is wrong with its value.
    pub fn parse(object: &Map<String, Value>) -> Result<Self, CniError> {
        let object = json::lower_keys(object);
        Ok(Self {
            port_mappings: port_mappings(&object)?,
            bandwidth: field(&object, "bandwidth")?,
            ips: addresses(&object)?,
            mac: field(&object, "mac")?,
            cgroup_path: field(&object, "cgrouppath")?,
            annotations: annotations(&object)?,
        })
    }
}

fn invalid(key: &str, problem: impl std::fmt::Display) -> CniError {
    CniError::new(
        code::INVALID_CONF,
        format!("runtimeConfig.{key} is not valid: {problem}"),
    )
}

fn field<T: for<'de> Deserialize<'de>>(
    object: &Map<String, Value>,
    key: &str,
) -> Result<Option<T>, CniError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => T::deserialize(json::lower_keys_within(value))
            .map(Some)
            .map_err(|e| invalid(key, e)),
    }
}

fn port_mappings(object: &Map<String, Value>) -> Result<Vec<PortMapping>, CniError> {
    let raw: Vec<RawMapping> = field(object, "portmappings")?.unwrap_or_default();
    raw.into_iter()
        .filter(|mapping| mapping.host != 0)
        .map(port_mapping)
        .collect()
}

fn port_mapping(raw: RawMapping) -> Result<PortMapping, CniError> {
    let port = |number: i64| {
        u16::try_from(number)
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| {
                invalid(
                    "portMappings",
                    format!("{number} is not a port (1 to 65535)"),
                )
            })
    };
    let protocol = match raw.protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => {
            return Err(invalid(
                "portMappings",
                format!("protocol {other:?} is none of tcp, udp, sctp"),
            ));
        }
    };
    Ok(PortMapping {
        host_port: port(raw.host)?,
        container_port: port(raw.container)?,
        protocol,
        host_ip: raw.host_ip,
    })
}

/// Addresses come with a prefix length or without.
fn addresses(object: &Map<String, Value>) -> Result<Vec<IpNet>, CniError> {
    let texts: Vec<String> = field(object, "ips")?.unwrap_or_default();
    let read = |text: &String| {
        let whole = text.parse::<IpNet>().ok();
        whole
            .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
            .ok_or_else(|| invalid("ips", format!("{text:?} is not an address")))
    };
    texts.iter().map(read).collect()
}

/// Unlike the others', the keys inside belong to users: their case is kept.
fn annotations(object: &Map<String, Value>) -> Result<BTreeMap<String, String>, CniError> {
    const KEY: &str = "io.kubernetes.cri.pod-annotations";
    match object.get(KEY) {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(value) => BTreeMap::deserialize(value).map_err(|e| invalid(KEY, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: Value) -> Result<CapabilityArgs, CniError> {
        CapabilityArgs::parse(value.as_object().expect("an object"))
    }

    #[test]
    fn containerd_and_crio_mean_the_same() {
        let containerd = parse(json!({
            "portMappings": [
                {"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ""},
                {"HostPort": 0, "ContainerPort": 81, "Protocol": "tcp", "HostIP": ""}
            ],
            "bandwidth": {"IngressRate": 100, "IngressBurst": 4294967295u64, "EgressRate": 50, "EgressBurst": 7},
            "dns": {"Servers": ["10.0.0.10"]},
            "cgroupPath": "/kubepods/x",
            "io.kubernetes.cri.pod-annotations": {"Case/Kept": "Yes"}
        }));
        let crio = parse(json!({
            "portmappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
            "bandwidth": {"ingressRate": 100, "ingressBurst": 4294967295u64, "egressRate": 50, "egressBurst": 7},
            "cgrouppath": "/kubepods/x",
            "io.kubernetes.cri.pod-annotations": {"Case/Kept": "Yes"}
        }));
        assert_eq!(containerd, crio);
        let parsed = containerd.expect("capability arguments");
        assert_eq!(parsed.port_mappings.len(), 1);
        assert_eq!(
            parsed.bandwidth.expect("bandwidth").ingress_burst,
            4_294_967_295
        );
        assert_eq!(parsed.annotations["Case/Kept"], "Yes");
    }

    #[test]
    fn wrong_values_are_named() {
        let wrong = [
            json!({"portMappings": [{"hostPort": 70000, "containerPort": 80}]}),
            json!({"portMappings": [{"hostPort": 80, "containerPort": 0}]}),
            json!({"portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "icmp"}]}),
            json!({"portMappings": [{"hostPort": 80, "containerPort": 80, "hostIP": "here"}]}),
            json!({"bandwidth": {"ingressRate": "fast"}}),
            json!({"ips": ["ten"]}),
        ];
        for value in wrong {
            let error = parse(value.clone()).expect_err(&value.to_string());
            assert_eq!(error.code, code::INVALID_CONF);
            assert!(error.msg.starts_with("runtimeConfig."), "{error}");
        }
    }

    #[test]
    fn null_is_absent() {
        let nothing = parse(json!({"portMappings": null, "bandwidth": null, "ips": null}));
        assert_eq!(nothing, Ok(CapabilityArgs::default()));
    }
}
