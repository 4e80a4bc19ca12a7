//! Agents on nodes made of namespaces: from a watched node to a ping.
mod common;

use common::node::World;
use common::{eventually, process};

/// Not a test: what the agents of the other tests run.
#[test]
fn agent_process() {
    process::run();
}

/// Every pod reaches every pod and every node, both families.
fn matrix(routing: &str) {
    let world = World::new();
    let mut nodes = vec![world.node(0, 1), world.node(0, 2), world.node(1, 3)];
    nodes
        .iter_mut()
        .for_each(|node| node.settings.routing = routing.to_owned());
    if routing == "direct" {
        // The router between the subnets has to know the pod ranges.
        for node in &nodes {
            for (range, address) in node.ranges.iter().zip(&node.addresses) {
                world
                    .fabric
                    .0
                    .sh(&format!("ip route add {range} via {address}"));
            }
        }
    }
    let _agents: Vec<_> = nodes.iter().map(|node| node.serve()).collect();
    nodes.iter().for_each(|node| node.wait_peers(2));
    let pods: Vec<_> = nodes
        .iter()
        .map(|node| node.pod("a"))
        .chain([nodes[0].pod("b")])
        .collect();
    for pod in &pods {
        pods.iter()
            .for_each(|other| pod.reaches(&other.addresses()));
        nodes.iter().for_each(|node| pod.reaches(&node.ips()));
    }
    for node in &nodes {
        for address in pods.iter().flat_map(|pod| pod.addresses()) {
            assert!(
                node.namespace.pings(address),
                "{} does not reach {address}",
                node.settings.node
            );
        }
        let status = node.status().expect("a status");
        assert_eq!(status.complaints(), Vec::<String>::new());
        let loud: Vec<_> = status
            .drops
            .iter()
            .filter(|drop| !["NOT_IP", "LINK_LOCAL", "MULTICAST"].contains(&drop.reason.as_str()))
            .collect();
        assert!(
            loud.is_empty(),
            "nothing of this should be dropped: {loud:?}"
        );
    }
}

#[test]
fn overlay() {
    matrix("overlay");
}

#[test]
fn direct() {
    matrix("direct");
}

#[test]
fn auto() {
    matrix("auto");
}

#[test]
fn the_conflist_comes_last_and_the_condition_follows() {
    let world = World::new();
    let mut node = world.node(0, 1);
    let ranges = std::mem::take(&mut node.ranges);
    node.register();
    let agent = node.start();
    eventually("the agent says what it waits for", || {
        node.status().is_some_and(|status| {
            status
                .health
                .reason
                .is_some_and(|reason| reason.contains("spec.podCIDRs"))
        })
    });
    assert!(!node.conflist().exists());
    eventually("the node says so", || {
        world
            .api
            .network_condition("node1")
            .is_some_and(|(status, reason, message)| {
                status == "True"
                    && reason == "MalhaIsDown"
                    && message.contains("waiting for a pod range")
            })
    });
    node.ranges = ranges;
    node.register();
    node.wait_ready();
    eventually("the node says so", || {
        world
            .api
            .network_condition("node1")
            .is_some_and(|(status, reason, _)| status == "False" && reason == "MalhaIsUp")
    });
    let allowed = [
        "get /api/v1/namespaces/kube-system/configmaps/kubeadm-config",
        "get /api/v1/nodes",
        "get /readyz",
        "get /api/v1/namespaces",
        "get /api/v1/pods",
        "get /apis/networking.k8s.io/v1/networkpolicies",
        "patch /api/v1/nodes/node1/status",
        "post /api/v1/namespaces/default/events",
        "watch /api/v1/namespaces",
        "watch /api/v1/nodes",
        "watch /api/v1/pods",
        "watch /apis/networking.k8s.io/v1/networkpolicies",
    ];
    for request in world.api.requests() {
        assert!(
            allowed.contains(&request.as_str()),
            "{request} is not in the manifest's RBAC"
        );
    }
    agent.terminate();
    assert!(
        node.conflist().exists(),
        "an agent that is replaced leaves the node Ready"
    );
}

/// An underlay of IPv6 alone, and pods of both families.
#[test]
fn overlay_over_ipv6() {
    let world = World::new();
    let nodes = [1, 2].map(|number| {
        let mut node = world.node(0, number);
        node.namespace
            .sh(&format!("ip addr del {}/24 dev eth0", node.addresses[0]));
        node.addresses.remove(0);
        node.settings.routing = "overlay".to_owned();
        node.register();
        node
    });
    let _agents = nodes.each_ref().map(|node| node.serve());
    nodes.iter().for_each(|node| node.wait_peers(1));
    let pods = nodes.each_ref().map(|node| node.pod("a"));
    pods[0].reaches(&pods[1].addresses());
    pods[1].reaches(&pods[0].addresses());
    pods[0].reaches(&nodes[1].ips());
    let status = nodes[0].status().expect("a status");
    assert_eq!((status.mtu, status.complaints()), (Some(1430), vec![]));
}

#[test]
fn the_agent_is_small() {
    let world = World::new();
    let node = world.node(0, 1);
    let _agent = node.serve();
    let bytes = node.status().expect("a status").resident_bytes;
    eprintln!("resident: {:.1} MiB", bytes as f64 / 1_048_576.0);
    assert!(bytes > 0);
}

/// Who may ask, and what for.
#[test]
fn the_sockets_are_roots_and_drops_come_with_names() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let node = world.node(0, 1);
    let agent = node.serve();
    let paths = node.settings.paths();
    for socket in [&paths.cni_socket, &paths.api_socket] {
        let mode = std::fs::metadata(socket)
            .expect("a socket")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{}", socket.display());
    }
    let pod = node.pod("a");
    // Nobody has this address.
    let mut ping = pod.namespace.command("ping");
    ping.args(["-n", "-c", "1", "-W", "1", "10.244.1.99"]);
    let line = node.first_drop(move || drop(ping.output()));
    assert_eq!(
        (line.reason.as_str(), line.source_pod.as_deref()),
        ("NO_ROUTE", Some("default/a"))
    );
    assert_eq!(line.destination.to_string(), "10.244.1.99");
    let listed = node.get("/endpoints");
    assert!(
        listed.contains("\"pod\":\"default/a\"") && listed.contains("container-a"),
        "{listed}"
    );
    assert!(node.get("/nonsense").contains("known are /healthz"));
    agent.terminate();
    assert!(!paths.cni_socket.exists() && !paths.api_socket.exists());
}
