//! Two nodes, their pods, real traffic: every path, both families.
mod common;

use common::{Mode, Node, Pod, two_nodes};

/// Everybody reaches everybody: pods on both nodes, and the nodes.
fn matrix(mode: Mode) {
    let (one, two) = two_nodes(mode);
    let (a, b, c) = (Pod::new(&one, 5), Pod::new(&one, 6), Pod::new(&two, 5));
    for (from, to, what) in [
        (&a, &b, "same node"),
        (&a, &c, "across nodes"),
        (&c, &b, "and back"),
    ] {
        for address in to.addresses() {
            assert!(
                from.namespace.pings(*address),
                "{what}: {address}\n{}",
                reasons(&[&one, &two])
            );
        }
    }
    for (node, pod, what) in [(&one, &a, "own node"), (&two, &a, "other node")] {
        for (node_address, pod_address) in node.addresses().iter().zip(pod.addresses()) {
            assert!(
                node.namespace.pings(*pod_address),
                "{what} to pod {pod_address}\n{}",
                reasons(&[&one, &two])
            );
            assert!(
                pod.namespace.pings(*node_address),
                "pod to {what} {node_address}\n{}",
                reasons(&[&one, &two])
            );
        }
    }
}

fn reasons(nodes: &[&Node]) -> String {
    let drops = nodes.iter().flat_map(|node| node.datapath.drops().unwrap());
    let seen = drops.filter(|drop| drop.packets > 0);
    seen.map(|drop| format!("{}: {}\n", drop.reason.name(), drop.packets))
        .collect()
}

#[test]
fn overlay_over_ipv4() {
    matrix(Mode::Overlay);
}

#[test]
fn overlay_over_ipv6() {
    matrix(Mode::Overlay6);
}

#[test]
fn direct() {
    matrix(Mode::Direct);
}
