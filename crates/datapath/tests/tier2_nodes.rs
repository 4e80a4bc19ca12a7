//! Two nodes, their pods, real traffic: every path, both families, and what must not pass.
mod common;

use std::net::{IpAddr, TcpListener};

use common::{Mode, Namespace, Node, Pod, eventually, traffic, two_nodes, two_nodes_with};
use malha_datapath::{AttachMode, Config, NextHop, Node as NodeConfig, Reason};

/// Everybody reaches everybody, by ICMP, UDP and TCP: pods on both nodes, and the nodes.
fn matrix(mode: Mode, attach: AttachMode) {
    let (one, two) = two_nodes_with(mode, |config| Config { attach, ..config });
    let (a, b, c) = (Pod::new(&one, 5), Pod::new(&one, 6), Pod::new(&two, 5));
    let nodes = [&one, &two];
    for family in [0, 1] {
        let pod = |pod: &'_ Pod| pod.addresses()[family];
        let node = |node: &Node| node.addresses()[family];
        reach((&a.namespace, pod(&a)), (&b.namespace, pod(&b)), &nodes);
        reach((&a.namespace, pod(&a)), (&c.namespace, pod(&c)), &nodes);
        reach((&c.namespace, pod(&c)), (&b.namespace, pod(&b)), &nodes);
        for host in nodes {
            reach(
                (&host.namespace, node(host)),
                (&a.namespace, pod(&a)),
                &nodes,
            );
            reach(
                (&a.namespace, pod(&a)),
                (&host.namespace, node(host)),
                &nodes,
            );
        }
    }
    let quiet = [Reason::LinkLocal, Reason::Multicast, Reason::NotIp];
    for node in nodes {
        let drops = node
            .datapath
            .drops()
            .unwrap()
            .into_iter()
            .filter(|drop| drop.packets > 0);
        let loud: Vec<_> = drops.filter(|drop| !quiet.contains(&drop.reason)).collect();
        assert!(
            loud.is_empty(),
            "nothing of this should be dropped: {loud:?}"
        );
    }
}

fn reach(from: (&Namespace, IpAddr), to: (&Namespace, IpAddr), nodes: &[&Node]) {
    let what = |kind: &str| format!("{kind} from {} to {}\n{}", from.1, to.1, reasons(nodes));
    assert!(from.0.pings(to.1), "{}", what("ping"));
    traffic::udp(from, to).unwrap_or_else(|error| panic!("{}: {error}", what("UDP")));
    let listener = to.0.enter(|| TcpListener::bind((to.1, 0)).unwrap());
    let seen = traffic::tcp_through(from, listener.local_addr().unwrap(), &listener)
        .unwrap_or_else(|error| panic!("{}: {error}", what("TCP")));
    // A node has two addresses, and Linux chooses.
    let is_node = |node: &&Node| {
        node.addresses().contains(&from.1) && node.overlay_addresses().contains(&seen)
    };
    assert!(seen == from.1 || nodes.iter().any(is_node), "{seen}");
}

fn reasons(nodes: &[&Node]) -> String {
    let drops = nodes.iter().flat_map(|node| node.datapath.drops().unwrap());
    let seen = drops.filter(|drop| drop.packets > 0);
    seen.map(|drop| format!("{}: {}\n", drop.reason.name(), drop.packets))
        .collect()
}

#[test]
fn overlay_over_ipv4() {
    matrix(Mode::Overlay, AttachMode::Auto);
}

#[test]
fn overlay_over_ipv6() {
    matrix(Mode::Overlay6, AttachMode::Auto);
}

#[test]
fn direct() {
    matrix(Mode::Direct, AttachMode::Auto);
}

#[test]
fn overlay_without_tcx() {
    matrix(Mode::Overlay, AttachMode::Filter);
}

#[test]
fn direct_without_tcx() {
    matrix(Mode::Direct, AttachMode::Filter);
}

fn add_to_loopback(namespace: &Namespace, address: IpAddr) {
    let nodad = if address.is_ipv6() { "nodad" } else { "" };
    namespace.sh(&format!("ip addr add {address} dev lo {nodad}"));
}

#[test]
fn a_pod_cannot_send_as_another() {
    let (one, two) = two_nodes(Mode::Overlay);
    let (a, b, c) = (Pod::new(&one, 5), Pod::new(&one, 6), Pod::new(&two, 5));
    let mut events = one.datapath.events().unwrap();
    for (family, stranger) in [(0, "192.0.2.9"), (1, "2001:db8::9")] {
        for forged in [
            stranger.parse().unwrap(),
            b.addresses()[family],
            one.addresses()[family],
        ] {
            let before = one.drops(Reason::SpoofedSource);
            add_to_loopback(&a.namespace, forged);
            let sent =
                traffic::udp_socket(&a.namespace, forged).send_to(b"x", (c.addresses()[family], 9));
            sent.unwrap();
            eventually("the forged packet is counted", || {
                one.drops(Reason::SpoofedSource) > before
            });
            let event = std::iter::from_fn(|| events.next_event()).last().unwrap();
            assert_eq!(
                (event.reason, event.source),
                (Reason::SpoofedSource, forged)
            );
            assert_eq!(
                (event.destination, event.destination_port),
                (c.addresses()[family], 9)
            );
            assert_eq!((event.ifindex, event.protocol), (a.endpoint.ifindex, 17));
        }
    }
    // A change of address flushes the neighbours.
    a.namespace.sh(&format!(
        "ip link set eth0 address 02:00:00:00:00:01; ip neigh replace 169.254.1.1 lladdr {} dev eth0",
        common::mac_text(a.endpoint.host_mac)
    ));
    assert!(!a.namespace.pings(c.addresses()[0]));
    assert!(one.drops(Reason::SpoofedMac) > 0);
}

#[test]
fn a_closed_endpoint_gets_nothing_from_its_first_packet_on() {
    let (one, two) = two_nodes(Mode::Overlay);
    let (a, c) = (Pod::new(&one, 5), Pod::new(&two, 5));
    let closed = Pod::with_state(&one, 7, false);
    let count = || {
        closed
            .namespace
            .sh("awk '/eth0/ {print $3}' /proc/net/dev")
            .trim()
            .to_owned()
    };
    for address in closed.addresses() {
        for from in [&a.namespace, &c.namespace, &one.namespace, &two.namespace] {
            assert!(!from.pings(*address), "{address} is closed");
        }
        assert!(
            !closed
                .namespace
                .pings(a.addresses()[usize::from(address.is_ipv6())]),
            "nor does it send"
        );
    }
    assert_eq!(count(), "0", "not one packet came in");
    assert!(one.drops(Reason::EndpointClosed) >= 8);
    assert!(
        one.datapath
            .endpoints()
            .set_open(closed.addresses(), true)
            .unwrap()
    );
    for address in closed.addresses() {
        assert!(
            a.namespace.pings(*address)
                && c.namespace.pings(*address)
                && one.namespace.pings(*address)
        );
    }
    assert!(
        one.datapath
            .endpoints()
            .set_open(closed.addresses(), false)
            .unwrap()
    );
    assert!(!a.namespace.pings(closed.addresses()[0]));
}

#[test]
fn the_overlay_believes_only_the_node_that_holds_the_source() {
    let (one, two) = two_nodes(Mode::Overlay);
    let (a, c) = (Pod::new(&one, 5), Pod::new(&two, 5));
    let prefixes = two.pod_prefixes().map(|prefix| prefix.parse().unwrap());
    for prefix in prefixes {
        one.datapath
            .routes()
            .upsert(
                prefix,
                NextHop::Overlay {
                    vtep: "172.31.0.99".parse().unwrap(),
                },
            )
            .unwrap();
    }
    for address in a.addresses() {
        let before = one.drops(Reason::SpoofedOverlay);
        assert!(!c.namespace.pings(*address));
        assert!(one.drops(Reason::SpoofedOverlay) > before);
    }
    let node = NodeConfig {
        vni: common::VNI + 1,
        ..two.datapath.node().unwrap()
    };
    two.datapath.configure(&node).unwrap();
    assert!(!c.namespace.pings(a.addresses()[0]));
    assert!(one.drops(Reason::BadTunnel) > 0);
}

#[test]
fn the_uplink_takes_no_pod_address_that_belongs_in_the_overlay() {
    let (one, two) = two_nodes(Mode::Overlay);
    let (a, _b) = (Pod::new(&one, 5), Pod::new(&one, 6));
    for (forged, victim, gateway) in [
        ("10.244.2.77", a.addresses()[0], one.four()),
        ("10.244.1.6", a.addresses()[0], one.four()),
        ("fd00:244:2::77", a.addresses()[1], one.six()),
    ] {
        let before = one.drops(Reason::SpoofedUplink);
        let forged: IpAddr = forged.parse().unwrap();
        add_to_loopback(&two.namespace, forged);
        two.namespace
            .sh(&format!("ip route replace {victim} via {gateway}"));
        traffic::udp_socket(&two.namespace, forged)
            .send_to(b"x", (victim, 9))
            .unwrap();
        eventually("the forged packet is counted", || {
            one.drops(Reason::SpoofedUplink) > before
        });
    }
}

/// A link with `route_localnet`, which host ports need, must not let a pod reach what listens on the node's loopback.
#[test]
fn a_pod_cannot_reach_the_nodes_loopback() {
    let one = Node::new(1);
    let a = Pod::new(&one, 5);
    one.namespace.sh(&format!(
        "echo 1 > /proc/sys/net/ipv4/conf/{}/route_localnet",
        a.link
    ));
    let before = one.drops(Reason::Loopback);
    let server = traffic::udp_socket(&one.namespace, "127.0.0.1".parse().unwrap());
    a.namespace.sh(
        "ip link set lo down; ip addr flush dev lo; ip rule add pref 1 to 127.0.0.0/8 lookup main; ip rule del pref 0
         ip rule add pref 2 lookup local; echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
         ip route add 127.0.0.0/8 via 169.254.1.1 dev eth0 onlink",
    );
    let client = traffic::udp_socket(&a.namespace, a.addresses()[0]);
    client.send_to(b"x", server.local_addr().unwrap()).unwrap();
    eventually("it is counted", || one.drops(Reason::Loopback) > before);
}

#[test]
fn unknown_pods_have_their_reasons() {
    let (one, two) = two_nodes(Mode::Overlay);
    let a = Pod::new(&one, 5);
    for (nobody, node, reason) in [
        ("10.244.9.9", &one, Reason::NoRoute),
        ("fd00:244:9::9", &one, Reason::NoRoute),
        ("10.244.2.200", &two, Reason::NoEndpoint),
        ("fd00:244:2::200", &two, Reason::NoEndpoint),
    ] {
        let before = node.drops(reason);
        assert!(!a.namespace.pings(nobody.parse().unwrap()));
        assert!(node.drops(reason) > before, "{nobody}: {}", reason.name());
    }
}

#[test]
fn hops_are_counted_and_too_large_packets_are_answered() {
    let (one, two) = two_nodes(Mode::Overlay);
    let (a, b, c) = (Pod::new(&one, 5), Pod::new(&one, 6), Pod::new(&two, 5));
    for pod in [&b, &c] {
        for address in pod.addresses() {
            let output = a
                .namespace
                .try_sh(&format!("ping -n -c 1 -W 2 -t 1 {address}"));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                text.contains("Time") && text.contains("xceeded"),
                "{address}: {text}"
            );
        }
    }
    a.namespace.sh("ip link set eth0 mtu 9000");
    one.namespace
        .sh(&format!("ip link set {} mtu 9000", a.link));
    for address in c.addresses() {
        let output = a
            .namespace
            .try_sh(&format!("ping -n -c 2 -W 2 -M do -s 2000 {address}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(
            text.contains("1430"),
            "{address}: the path's MTU is told\n{text}"
        );
    }
    for family in [0, 1] {
        traffic::tcp(
            (&a.namespace, a.addresses()[family]),
            (&c.namespace, c.addresses()[family]),
        )
        .unwrap();
    }
}

#[test]
fn a_restarted_or_upgraded_agent_loses_no_packet() {
    for (mode, attach) in [
        (Mode::Overlay, AttachMode::Auto),
        (Mode::Direct, AttachMode::Filter),
    ] {
        let (mut one, mut two) = two_nodes_with(mode, |config| Config { attach, ..config });
        let (a, c) = (Pod::new(&one, 5), Pod::new(&two, 5));
        for (from, to) in [(&a, &c), (&c, &a)] {
            let ends = (
                (&from.namespace, from.addresses()[0]),
                (&to.namespace, to.addresses()[0]),
            );
            let (sent, lost) = traffic::lost_during(ends.0, ends.1, || {
                for version in 0..3u8 {
                    one.reopen(None);
                    two.reopen(None);
                    // A changed object: a byte after its end changes its hash and nothing else.
                    let changed = [malha_datapath::object_bytes(), &[version]].concat();
                    one.reopen(Some(&changed));
                    two.reopen(Some(&changed));
                }
            });
            assert!(sent > 100, "the stream ran");
            assert!(lost.is_empty(), "{mode:?}: lost {lost:?} of {sent}");
        }
        assert!(a.namespace.pings(c.addresses()[1]));
    }
}
