//! From a pod to what a Service needs to know of it.

use k8s_openapi::{
    api::core::v1::{Pod, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::Selection;
use crate::pods;

/// A port as one pod offers it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub name: Option<String>,
    pub port: i32,
    pub protocol: String,
    pub app_protocol: Option<String>,
}

/// One pod's address of one family.
pub(super) struct Backend<'a> {
    pub pod: &'a Pod,
    pub address: &'a str,
    /// New connections may come.
    pub ready: bool,
    /// It answers, perhaps only until it has stopped.
    pub serving: bool,
    pub terminating: bool,
    /// Its own DNS name below a headless Service.
    pub hostname: Option<String>,
    pub ports: Vec<Port>,
}

/// The pods that have an address of the family and have not run to their end.
pub(super) fn backends<'a>(selection: &Selection<'a>, family: &str) -> Vec<Backend<'a>> {
    let publish = selection.spec.publish_not_ready_addresses == Some(true);
    let pods = selection.pods.iter().filter(|pod| !pods::is_finished(pod));
    let backends = pods.filter_map(|pod| {
        let terminating = pods::is_terminating(&pod.metadata);
        let serving = pods::is_ready(pod);
        Some(Backend {
            pod,
            address: address(pod, family)?,
            ready: publish || (serving && !terminating),
            serving,
            terminating,
            hostname: hostname(pod, selection.name()),
            ports: ports(selection.spec.ports.as_deref().unwrap_or_default(), pod),
        })
    });
    backends.collect()
}

fn address<'a>(pod: &'a Pod, family: &str) -> Option<&'a str> {
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut all = all
        .chain(status.pod_ip.as_deref())
        .filter(|ip| !ip.is_empty());
    all.find(|ip| ip.contains(':') == (family == "IPv6"))
}

fn hostname(pod: &Pod, service: &str) -> Option<String> {
    let spec = pods::spec(pod)?;
    let name = spec.hostname.clone().filter(|name| !name.is_empty())?;
    (spec.subdomain.as_deref() == Some(service)).then_some(name)
}

/// The Service's ports as numbers of this pod; a named port that the pod does not have is left out.
fn ports(wanted: &[ServicePort], pod: &Pod) -> Vec<Port> {
    let mut ports: Vec<Port> = wanted
        .iter()
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            let number = match &port.target_port {
                None => port.port,
                Some(IntOrString::Int(0)) => port.port,
                Some(IntOrString::Int(number)) => *number,
                Some(IntOrString::String(name)) => named(pod, name, &protocol)?,
            };
            Some(Port {
                name: Some(port.name.clone().unwrap_or_default()),
                port: number,
                protocol,
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    ports.sort();
    ports
}

fn named(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pods::spec(pod)?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars =
        sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    let mut matching = ports.filter(|port| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    });
    matching.next().map(|port| port.container_port)
}
