//! From cluster and host to desired state, as golden text.

use std::collections::BTreeMap;
use std::net::IpAddr;

use malha_agent::config::{Config, Routing};
use malha_agent::model::{Host, HostAddress, Index, Inputs, Link, NodeFacts, Path, desired};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn node(name: &str, addresses: &[&str], ranges: &[&str]) -> NodeFacts {
    NodeFacts {
        name: name.to_owned(),
        addresses: addresses.iter().map(|a| ip(a)).collect(),
        pod_ranges: ranges.iter().map(|r| r.parse().expect("a range")).collect(),
        created: "2026-01-01T00:00:00Z".to_owned(),
    }
}

/// A host with one uplink, eth0 (index 2), and the default route through .254 for what is not on it.
fn host(addresses: &[&str], mtu: u32, others: &[&str]) -> Host {
    let addresses: Vec<HostAddress> = addresses
        .iter()
        .map(|net| HostAddress {
            index: 2,
            net: net.parse().expect("a network"),
        })
        .collect();
    let link = Link {
        index: 2,
        name: "eth0".to_owned(),
        mtu,
        ethernet: true,
    };
    let mut host = Host {
        links: BTreeMap::from([(2, link)]),
        addresses,
        paths: BTreeMap::new(),
    };
    for other in others.iter().map(|other| ip(other)) {
        let source = host
            .addresses
            .iter()
            .map(|a| a.net.addr())
            .find(|a| a.is_ipv4() == other.is_ipv4());
        let router = if other.is_ipv4() {
            ip("172.20.0.254")
        } else {
            ip("fd00:20::254")
        };
        let gateway = host.on_link(other).is_none().then_some(router);
        host.paths.insert(
            other,
            Path {
                index: 2,
                gateway,
                source,
                mtu,
            },
        );
    }
    host
}

fn index(nodes: Vec<NodeFacts>) -> Index {
    let mut index = Index::default();
    index.reset(nodes);
    index
}

/// Three nodes: one and two in one subnet, three behind a router.
fn three() -> (Index, Host) {
    let nodes = vec![
        node(
            "one",
            &["172.20.0.1", "fd00:20::1"],
            &["10.244.1.0/24", "fd00:244:0:1::/64"],
        ),
        node(
            "two",
            &["172.20.0.2", "fd00:20::2"],
            &["10.244.2.0/24", "fd00:244:0:2::/64"],
        ),
        node(
            "three",
            &["172.21.0.3", "fd00:21::3"],
            &["10.244.3.0/24", "fd00:244:0:3::/64"],
        ),
    ];
    let mut index = index(nodes);
    index.set_cluster_ranges(vec![
        "10.244.0.0/16".parse().unwrap(),
        "fd00:244::/48".parse().unwrap(),
    ]);
    let others = ["172.20.0.2", "fd00:20::2", "172.21.0.3", "fd00:21::3"];
    (
        index,
        host(&["172.20.0.1/24", "fd00:20::1/64"], 1500, &others),
    )
}

fn text(routing: Routing, index: &Index, host: &Host) -> String {
    text_with(|config| config.routing = routing, index, host)
}

fn text_with(change: impl FnOnce(&mut Config), index: &Index, host: &Host) -> String {
    let mut config = Config::new("one");
    change(&mut config);
    match desired(&Inputs {
        config: &config,
        index,
        host,
    }) {
        Ok(desired) => desired.to_string(),
        Err(waiting) => format!("{waiting}\n"),
    }
}

#[track_caller]
fn same(found: &str, wanted: &str) {
    let wanted: Vec<&str> = wanted
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let found: Vec<&str> = found.lines().collect();
    assert!(
        found == wanted,
        "found:\n{}\nwanted:\n{}",
        found.join("\n"),
        wanted.join("\n")
    );
}

#[test]
fn overlay_leads_everywhere_through_tunnels() {
    let (index, host) = three();
    same(
        &text(Routing::Overlay, &index, &host),
        "node one ranges 10.244.1.0/24,fd00:244:0:1::/64
         cluster 10.244.0.0/16,fd00:244::/48
         overlay vni 77 port 8472 addresses 10.244.1.1,fd00:244:0:1::1 mtu 1450
         mtu pod 1450 direct 1500
         uplinks eth0
         route 10.244.0.0/16 blackhole
         route 10.244.1.0/24 blackhole
         route 10.244.1.1/32 local
         route 10.244.2.0/24 overlay 172.20.0.2
         route 10.244.3.0/24 overlay 172.21.0.3
         route 172.20.0.1/32 local
         route 172.20.0.2/32 overlay 172.20.0.2
         route 172.21.0.3/32 overlay 172.21.0.3
         route fd00:20::1/128 local
         route fd00:20::2/128 overlay 172.20.0.2
         route fd00:21::3/128 overlay 172.21.0.3
         route fd00:244::/48 blackhole
         route fd00:244:0:1::/64 blackhole
         route fd00:244:0:1::1/128 local
         route fd00:244:0:2::/64 overlay 172.20.0.2
         route fd00:244:0:3::/64 overlay 172.21.0.3
         kernel 10.244.0.0/16 unreachable
         kernel 10.244.1.0/24 unreachable
         kernel 10.244.2.0/24 overlay src 172.20.0.1
         kernel 10.244.3.0/24 overlay src 172.20.0.1
         kernel fd00:244::/48 unreachable
         kernel fd00:244:0:1::/64 unreachable
         kernel fd00:244:0:2::/64 overlay src fd00:20::1
         kernel fd00:244:0:3::/64 overlay src fd00:20::1
         masquerade 10.244.1.0/24,fd00:244:0:1::/64 except to 10.244.0.0/16,172.20.0.1/32,fd00:20::1/128,fd00:244::/48",
    );
}

#[test]
fn auto_is_direct_within_the_subnet_only() {
    let (index, host) = three();
    same(
        &text(Routing::Auto, &index, &host),
        "node one ranges 10.244.1.0/24,fd00:244:0:1::/64
         cluster 10.244.0.0/16,fd00:244::/48
         overlay vni 77 port 8472 addresses 10.244.1.1,fd00:244:0:1::1 mtu 1450
         mtu pod 1450 direct 1500
         uplinks eth0
         route 10.244.0.0/16 blackhole
         route 10.244.1.0/24 blackhole
         route 10.244.1.1/32 local
         route 10.244.2.0/24 direct 172.20.0.2 link 2
         route 10.244.3.0/24 overlay 172.21.0.3
         route 172.20.0.1/32 local
         route 172.21.0.3/32 overlay 172.21.0.3
         route fd00:20::1/128 local
         route fd00:21::3/128 overlay 172.21.0.3
         route fd00:244::/48 blackhole
         route fd00:244:0:1::/64 blackhole
         route fd00:244:0:1::1/128 local
         route fd00:244:0:2::/64 direct fd00:20::2 link 2
         route fd00:244:0:3::/64 overlay 172.21.0.3
         kernel 10.244.0.0/16 unreachable
         kernel 10.244.1.0/24 unreachable
         kernel 10.244.2.0/24 via 172.20.0.2 link 2 src 172.20.0.1
         kernel 10.244.3.0/24 overlay src 172.20.0.1
         kernel fd00:244::/48 unreachable
         kernel fd00:244:0:1::/64 unreachable
         kernel fd00:244:0:2::/64 via fd00:20::2 link 2 src fd00:20::1
         kernel fd00:244:0:3::/64 overlay src fd00:20::1
         masquerade 10.244.1.0/24,fd00:244:0:1::/64 except to 10.244.0.0/16,172.20.0.1/32,172.20.0.2/32,fd00:20::1/128,fd00:20::2/128,fd00:244::/48",
    );
}

#[test]
fn direct_goes_through_the_router_and_needs_no_overlay() {
    let (index, host) = three();
    let text = text(Routing::Direct, &index, &host);
    for line in [
        "overlay none\n",
        "mtu pod 1500 direct 1500\n",
        "route 10.244.2.0/24 direct 172.20.0.2 link 2\n",
        "route 10.244.3.0/24 direct 172.20.0.254 link 2\n",
        "route fd00:244:0:3::/64 direct fd00:20::254 link 2\n",
        "kernel fd00:244:0:3::/64 via fd00:20::254 link 2 src fd00:20::1\n",
    ] {
        assert!(text.contains(line), "no {line}{text}");
    }
    assert!(
        !text.contains("route 172.21.0.3"),
        "no host routes without overlay\n{text}"
    );
}

#[test]
fn an_ipv6_underlay_costs_seventy_bytes() {
    let nodes = vec![
        node("one", &["fd00:20::1"], &["fd00:244:0:1::/64"]),
        node("two", &["fd00:20::2"], &["fd00:244:0:2::/64"]),
    ];
    let text = text(
        Routing::Overlay,
        &index(nodes),
        &host(&["fd00:20::1/64"], 1500, &["fd00:20::2"]),
    );
    assert!(
        text.contains("mtu pod 1430 direct 1500\n") && text.contains("overlay fd00:20::2\n"),
        "{text}"
    );
}

#[test]
fn the_smallest_path_decides_the_mtu_and_the_flag_overrides() {
    let (index, mut host) = three();
    host.paths.get_mut(&ip("172.21.0.3")).unwrap().mtu = 1400;
    assert!(text(Routing::Auto, &index, &host).contains("mtu pod 1350 direct 1500\n"));
    assert!(text(Routing::Overlay, &index, &host).contains("mtu 1350\nmtu pod 1350"));
    let forced = text_with(|config| config.mtu = 1300, &index, &host);
    assert!(
        forced.contains("mtu 1300\nmtu pod 1300 direct 1300\n") && !forced.contains("warning"),
        "{forced}"
    );
    let large = text_with(|config| config.mtu = 9000, &index, &host);
    assert!(
        large.contains(
            "warning --mtu 9000 is more than the smallest way to another node carries (1350)"
        ),
        "{large}"
    );
}

#[test]
fn alone_in_the_cluster() {
    let nodes = || index(vec![node("one", &["172.20.0.1"], &["10.244.1.0/24"])]);
    let host = host(&["172.20.0.1/24"], 1500, &[]);
    same(
        &text_with(|config| config.masquerade = false, &nodes(), &host),
        "node one ranges 10.244.1.0/24
         cluster 10.244.1.0/24
         overlay vni 77 port 8472 addresses 10.244.1.1 mtu 1450
         mtu pod 1500 direct 1500
         uplinks eth0
         route 10.244.1.0/24 blackhole
         route 10.244.1.1/32 local
         route 172.20.0.1/32 local
         kernel 10.244.1.0/24 unreachable",
    );
    assert!(text(Routing::Overlay, &nodes(), &host).contains("mtu pod 1450 direct 1500\n"));
}

#[test]
fn a_node_that_left_leaves_nothing() {
    let (mut index, host) = three();
    index.delete("three");
    let text = text(Routing::Auto, &index, &host);
    assert!(
        !text.contains("172.21.0.3") && !text.contains("10.244.3.0"),
        "{text}"
    );
    assert!(
        text.contains("mtu pod 1500"),
        "all that are left are reached directly\n{text}"
    );
}

#[test]
fn waiting_says_for_what() {
    let alone = host(&["172.20.0.1/24"], 1500, &[]);
    let with = |facts| index(vec![facts]);
    let table = [
        (Index::default(), "waiting for the list of nodes"),
        (index(vec![]), "waiting for node one to be registered"),
        (
            with(node("one", &["172.20.0.1"], &[])),
            "waiting for a pod range of node one",
        ),
        (
            with(node("one", &[], &["10.244.1.0/24"])),
            "waiting for an InternalIP of node one",
        ),
        (
            with(node("one", &["172.20.0.9"], &["10.244.1.0/24"])),
            "no link of this host has it",
        ),
        (
            with(node("one", &["172.20.0.1"], &["172.20.0.128/25"])),
            "the pod range 172.20.0.128/25 overlaps 172.20.0.0/24, the network of this node's address on eth0",
        ),
    ];
    for (index, wanted) in table {
        let text = text(Routing::Auto, &index, &alone);
        assert!(text.contains(wanted), "{text}");
    }
}

#[test]
fn problems_are_named_and_the_rest_works() {
    let nodes = vec![
        node("one", &["172.20.0.1"], &["10.244.1.0/24"]),
        node("clash", &["172.20.0.2"], &["10.244.1.128/25"]),
        node("early", &["172.20.0.3"], &[]),
        node("ghost", &["172.20.0.1"], &["10.244.4.0/24"]),
        node("good", &["172.20.0.5"], &["10.244.5.0/24"]),
        node("lost", &["198.51.100.6"], &["10.244.6.0/24"]),
        node("six", &["fd00:20::7"], &["10.244.7.0/24"]),
    ];
    let text = text(
        Routing::Auto,
        &index(nodes),
        &host(&["172.20.0.1/24"], 1500, &["172.20.0.5"]),
    );
    for line in [
        "problem node clash: its pod range 10.244.1.128/25 overlaps 10.244.1.0/24 of node one and is not routed",
        "problem node early: has no pod range yet",
        "problem node ghost: has this node's address 172.20.0.1: if it is gone, delete it",
        "problem node lost: this host has no route to its address 198.51.100.6",
        "problem node six: has no address of a family that this node has an address of",
        "route 10.244.5.0/24 direct 172.20.0.5 link 2\n",
    ] {
        assert!(text.contains(line), "no {line}\n{text}");
    }
    assert!(!text.contains("route 10.244.6.0/24 overlay"), "{text}");
}

#[test]
fn tunnels_that_would_start_at_another_address_are_noticed() {
    let (index, mut host) = three();
    host.paths.get_mut(&ip("172.21.0.3")).unwrap().source = Some(ip("192.0.2.1"));
    let text = text(Routing::Auto, &index, &host);
    assert!(
        text.contains("leave from 192.0.2.1, but this node is known as 172.20.0.1"),
        "{text}"
    );
}

/// Both ends of every pair of nodes must choose the same tunnel, whatever the order of their addresses.
#[test]
fn both_ends_choose_the_same_tunnel() {
    let one = node("one", &["fd00:20::1", "172.20.0.1"], &["10.244.1.0/24"]);
    let two = node("two", &["172.21.0.2", "fd00:21::2"], &["10.244.2.0/24"]);
    let nodes = || index(vec![one.clone(), two.clone()]);
    let from_one = text(
        Routing::Auto,
        &nodes(),
        &host(
            &["fd00:20::1/64", "172.20.0.1/24"],
            1500,
            &["172.21.0.2", "fd00:21::2"],
        ),
    );
    let from_two = text_with(
        |config| config.node_name = "two".to_owned(),
        &nodes(),
        &host(
            &["172.21.0.2/24", "fd00:21::2/64"],
            1500,
            &["fd00:20::1", "172.20.0.1"],
        ),
    );
    assert!(
        from_one.contains("route 10.244.2.0/24 overlay 172.21.0.2\n"),
        "{from_one}"
    );
    assert!(
        from_two.contains("route 10.244.1.0/24 overlay 172.20.0.1\n"),
        "{from_two}"
    );
}

/// What a node has, one that joins later cannot take by claiming it, whatever its name.
#[test]
fn the_older_of_two_nodes_is_believed() {
    let mut nodes = vec![
        node("one", &["172.20.0.1"], &["10.244.1.0/24"]),
        node("old", &["172.20.0.2"], &["10.244.2.0/24"]),
        node("a-new", &["172.20.0.3"], &["10.244.0.0/16"]),
    ];
    nodes[2].created = "2026-06-01T00:00:00Z".to_owned();
    let text = text(
        Routing::Auto,
        &index(nodes),
        &host(&["172.20.0.1/24"], 1500, &[]),
    );
    assert!(
        text.contains("route 10.244.2.0/24 direct 172.20.0.2 link 2\n"),
        "{text}"
    );
    assert!(
        text.contains("problem node a-new: its pod range 10.244.0.0/16 overlaps"),
        "{text}"
    );
}
