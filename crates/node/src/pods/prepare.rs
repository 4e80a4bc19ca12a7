//! From a pod to its sandbox: what is asked of the runtime, and the files every container has.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::{
    dns::{self, ClusterDns},
    resources::milli,
};
use crate::{
    Config,
    runtime::{PodNetwork, SandboxRequest},
};

/// Settings of the kernel that concern nobody but the pod.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// What is asked of the runtime.
///
/// # Errors
/// Reason and message, when the pod asks for what it cannot have on any try.
pub fn request(pod: &Pod, attempt: u32) -> Result<SandboxRequest, (String, String)> {
    let spec = pod.spec.clone().unwrap_or_default();
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let name = text(&pod.metadata.name);
    let host_network = spec.host_network == Some(true);
    Ok(SandboxRequest {
        attempt,
        host_network,
        host_ipc: spec.host_ipc == Some(true),
        shared_pid: spec.share_process_namespace == Some(true) && spec.host_pid != Some(true),
        hostname: dns::hostname(&spec, &name),
        sysctls: sysctls(&spec, host_network)?,
        pod: PodNetwork {
            namespace: text(&pod.metadata.namespace),
            name,
            uid: text(&pod.metadata.uid),
            ports: ports(&spec),
            bandwidth: (bandwidth(pod, "ingress"), bandwidth(pod, "egress")),
        },
    })
}

fn sysctls(
    spec: &PodSpec,
    host_network: bool,
) -> Result<BTreeMap<String, String>, (String, String)> {
    let asked = spec
        .security_context
        .as_ref()
        .and_then(|s| s.sysctls.clone())
        .unwrap_or_default();
    let mut kept = BTreeMap::new();
    for sysctl in asked {
        let name = sysctl.name.replace('/', ".");
        let of_host = host_network && name.starts_with("net.");
        if of_host || !SAFE_SYSCTLS.contains(&name.as_str()) {
            return Err((
                "SysctlForbidden".to_owned(),
                format!("forbidden sysctl: {:?} not allowlisted", sysctl.name),
            ));
        }
        kept.insert(name, sysctl.value);
    }
    Ok(kept)
}

fn ports(spec: &PodSpec) -> Vec<(u16, u16, String, String)> {
    let all = spec
        .containers
        .iter()
        .flat_map(|c| c.ports.iter().flatten());
    all.filter_map(|port| {
        let host = u16::try_from(port.host_port?).ok().filter(|p| *p > 0)?;
        let own = u16::try_from(port.container_port).ok()?;
        let protocol = port
            .protocol
            .as_deref()
            .unwrap_or("TCP")
            .to_ascii_lowercase();
        Some((
            host,
            own,
            protocol,
            port.host_ip.clone().unwrap_or_default(),
        ))
    })
    .collect()
}

/// Bits a second.
fn bandwidth(pod: &Pod, direction: &str) -> Option<u64> {
    let key = format!("kubernetes.io/{direction}-bandwidth");
    let text = pod.metadata.annotations.as_ref()?.get(&key)?;
    let quantity = k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.clone());
    u64::try_from(milli(&quantity)? / 1000)
        .ok()
        .filter(|rate| *rate > 0)
}

/// The files that every container of a pod has in /etc, by their names there.
pub fn etc_files(pod_dir: &Path) -> [(&'static str, PathBuf); 3] {
    ["hosts", "resolv.conf", "hostname"].map(|name| (name, pod_dir.join("etc").join(name)))
}

/// Writes them.
///
/// # Errors
/// When the directory cannot be written to.
pub fn write_etc(pod: &Pod, ips: &[IpAddr], config: &Config, pod_dir: &Path) -> io::Result<()> {
    let spec = pod.spec.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let hostname = dns::hostname(&spec, pod.metadata.name.as_deref().unwrap_or_default());
    let of_host = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cluster = ClusterDns {
        servers: config.cluster_dns.clone(),
        domain: config.cluster_domain.clone(),
    };
    let own_name = match spec.host_network {
        Some(true) => of_host("/etc/hostname"),
        _ => format!("{hostname}\n"),
    };
    let texts = [
        dns::hosts_file(&spec, &hostname, ips, &of_host("/etc/hosts")),
        dns::resolv_conf(&spec, &namespace, &cluster, &of_host("/etc/resolv.conf")),
        own_name,
    ];
    fs::create_dir_all(pod_dir.join("etc"))?;
    for ((_, path), text) in etc_files(pod_dir).iter().zip(texts) {
        fs::write(path, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(spec: Value, annotations: Value) -> Result<SandboxRequest, (String, String)> {
        let mut whole = json!({"containers": [{"name": "c", "ports": [
            {"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}, {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"},
        ]}]});
        whole
            .as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        let pod = json!({"metadata": {"name": "p", "annotations": annotations}, "spec": whole});
        request(&serde_json::from_value(pod).unwrap(), 0)
    }

    #[test]
    fn requests() {
        let request = of(json!({}), json!({"kubernetes.io/egress-bandwidth": "1M"})).unwrap();
        assert_eq!(request.pod.bandwidth, (None, Some(1_000_000)));
        let ports = [(8080, 80, "tcp", ""), (53, 53, "udp", "192.0.2.1")];
        let ports = ports.map(|(a, b, c, d)| (a, b, c.to_owned(), d.to_owned()));
        assert_eq!(request.pod.ports, ports);
        assert_eq!(request.hostname, "p");
    }

    #[test]
    fn sysctls_of_others_are_forbidden() {
        let sysctl =
            |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        assert_eq!(
            of(sysctl("net.ipv4.tcp_syncookies"), json!({}))
                .unwrap()
                .sysctls
                .len(),
            1
        );
        let (reason, message) = of(sysctl("kernel.panic"), json!({})).unwrap_err();
        assert_eq!(
            (reason.as_str(), message.as_str()),
            (
                "SysctlForbidden",
                "forbidden sysctl: \"kernel.panic\" not allowlisted"
            )
        );
        let mut host = sysctl("net.ipv4.tcp_syncookies");
        host["hostNetwork"] = json!(true);
        assert!(of(host, json!({})).is_err());
    }
}
