//! Endpoints as CNI speaks of them, and back.

use std::net::IpAddr;

use malha_cni::types::{CniError, Interface, IpConfig, PluginConf, Protocol, Route, Success};
use malha_cni::wire::Request;
use malha_endpoint::{Endpoint, Error, HostPort, Key, Pod, gateway};
use malha_kernel::mac_text;

/// Index of the pod's end among a result's interfaces.
const POD_END: usize = 1;

/// The attachment that a request is about.
pub fn key(request: &Request) -> Key {
    Key::new(request.container_id.as_str(), request.ifname.as_str())
}

/// The pod that a request names.
pub fn pod(request: &Request) -> Option<Pod> {
    let pod = request.args.pod()?;
    Some(Pod {
        namespace: pod.namespace,
        name: pod.name,
        uid: pod.uid.unwrap_or_default(),
    })
}

/// The host ports that a request asks for.
pub fn ports(config: &PluginConf) -> Vec<HostPort> {
    let number = |protocol| match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    };
    let mappings = config.capabilities.port_mappings.iter();
    mappings
        .map(|mapping| HostPort {
            address: mapping.host_ip,
            protocol: number(mapping.protocol),
            port: mapping.host_port,
            container_port: mapping.container_port,
        })
        .collect()
}

/// The result of ADD.
pub fn success(endpoint: &Endpoint) -> Success {
    let interface = |name: &str, mac, sandbox: &str| Interface {
        name: name.to_owned(),
        mac: mac_text(mac),
        mtu: Some(endpoint.mtu),
        sandbox: sandbox.to_owned(),
        ..Interface::default()
    };
    let host_end = interface(&endpoint.host_link, endpoint.host_mac, "");
    let pod_end = interface(&endpoint.key.ifname, endpoint.mac, &endpoint.sandbox);
    let ips = endpoint.networks().map(|address| IpConfig {
        interface: Some(POD_END),
        address,
        gateway: Some(gateway(address.addr())),
    });
    Success {
        interfaces: vec![host_end, pod_end],
        ips: ips.collect(),
        routes: endpoint
            .routes()
            .map(|(dst, gw)| Route::new(dst, Some(gw)))
            .collect(),
        ..Success::default()
    }
}

/// The addresses that the result of ADD names for this interface in the container; None: there is no such result.
pub fn expected_addresses(config: &PluginConf, ifname: &str) -> Option<Vec<IpAddr>> {
    let result = config.prev_result.as_ref()?;
    let is_pods = |index: usize| {
        let interface = result.interfaces.get(index);
        interface.is_some_and(|interface| interface.name == ifname && !interface.sandbox.is_empty())
    };
    let ours = result
        .ips
        .iter()
        .filter(|ip| ip.interface.is_some_and(is_pods));
    Some(ours.map(|ip| ip.address.addr()).collect())
}

/// The attachments that GC may not touch.
pub fn valid(config: &PluginConf) -> Vec<Key> {
    let valid = config.valid_attachments.iter().flatten();
    valid
        .map(|id| Key::new(id.container_id.as_str(), id.ifname.as_str()))
        .collect()
}

/// An error, with CNI's number.
pub fn error(attempt: &str, error: &Error) -> CniError {
    CniError::new(error.cni_code(), attempt).with_details(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint {
            id: 7,
            key: Key::new("c1", "eth0"),
            pod: None,
            sandbox: "/run/netns/c1".to_owned(),
            netns_inode: 1,
            netns_device: 2,
            host_link: "mlh000000000001".to_owned(),
            addresses: vec![
                "10.244.1.2".parse().unwrap(),
                "fd00:244::2".parse().unwrap(),
            ],
            mac: [0x0a, 0x58, 10, 244, 1, 2],
            host_mac: [0x0a, 0x58, 169, 254, 1, 1],
            mtu: 1450,
            ports: Vec::new(),
        }
    }

    #[test]
    fn a_result_names_both_ends_addresses_and_default_routes() {
        let result = success(&endpoint());
        result.check_indices().unwrap();
        let text = serde_json::to_value(&result).unwrap();
        let wanted = serde_json::json!({
            "interfaces": [
                { "name": "mlh000000000001", "mac": "0a:58:a9:fe:01:01", "mtu": 1450 },
                { "name": "eth0", "mac": "0a:58:0a:f4:01:02", "mtu": 1450, "sandbox": "/run/netns/c1" },
            ],
            "ips": [
                { "interface": 1, "address": "10.244.1.2/32", "gateway": "169.254.1.1" },
                { "interface": 1, "address": "fd00:244::2/128", "gateway": "fe80::1" },
            ],
            "routes": [{ "dst": "0.0.0.0/0", "gw": "169.254.1.1" }, { "dst": "::/0", "gw": "fe80::1" }],
        });
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_full_range_asks_to_try_later() {
        let full = Error::Full {
            prefix: "10.0.0.0/29".parse().unwrap(),
            capacity: 5,
            resting: 0,
            rest: Duration::from_secs(30),
        };
        let error = error("cannot attach c1/eth0", &full);
        assert_eq!(error.code, 11);
        assert!(error.details.contains("10.0.0.0/29"), "{error}");
    }
}
