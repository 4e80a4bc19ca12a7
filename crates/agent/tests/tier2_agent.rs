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
        "patch /api/v1/nodes/node1/status",
        "post /api/v1/namespaces/default/events",
        "watch /api/v1/nodes",
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
