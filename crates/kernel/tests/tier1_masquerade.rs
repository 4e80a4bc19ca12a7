//! Masquerade, as the nft program sees it and as packets do.
mod common;

use std::net::UdpSocket;

use common::{new_netns, path, sh, words};
use malha_kernel::NetNs;
use malha_kernel::masquerade::{self, Masquerade};

fn masquerade() -> Masquerade {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Masquerade {
        pods: nets(&["10.244.0.0/16", "fd00:244::/48", "10.244.3.0/24"]),
        inside: nets(&["172.31.0.1/32", "172.31.0.2/32", "fd00:31::1/128"]),
    }
}

const WANTED: &str = r#"
table inet malha {
    set pods_v4 { type ipv4_addr flags interval elements = { 10.244.0.0/16 } }
    set inside_v4 { type ipv4_addr flags interval elements = { 10.244.0.0/16, 172.31.0.1, 172.31.0.2, 224.0.0.0/4 } }
    set pods_v6 { type ipv6_addr flags interval elements = { fd00:244::/48 } }
    set inside_v6 { type ipv6_addr flags interval elements = { fd00:31::1, fd00:244::/48, ff00::/8 } }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname != "lo" ip saddr @pods_v4 ip daddr != @inside_v4 masquerade fully-random
        oifname != "lo" ip6 saddr @pods_v6 ip6 daddr != @inside_v6 masquerade fully-random
    }
}"#;

fn list(netns: &NetNs) -> String {
    words(&sh(netns, "nft list ruleset"))
}

#[test]
fn the_table_is_applied_changed_and_removed_and_others_stay() {
    let netns = new_netns();
    sh(&netns, "nft add table inet other");
    let other = list(&netns);
    for _ in 0..2 {
        netns.run(|| masquerade().apply()).unwrap().unwrap();
        assert_eq!(list(&netns), format!("{other} {}", words(WANTED)));
    }
    let four_only = Masquerade {
        pods: vec!["10.0.0.0/8".parse().unwrap()],
        inside: Vec::new(),
    };
    netns.run(|| four_only.apply()).unwrap().unwrap();
    let listed = list(&netns);
    assert!(
        listed.contains("elements = { 10.0.0.0/8, 224.0.0.0/4 }") && !listed.contains("v6"),
        "{listed}"
    );
    for _ in 0..2 {
        netns.run(masquerade::remove).unwrap().unwrap();
        assert_eq!(list(&netns), other);
    }
}

#[test]
fn a_thread_that_runs_a_runtime_may_call_it() {
    let netns = new_netns();
    let in_runtime = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async { masquerade().apply() })
    };
    netns.run(in_runtime).unwrap().unwrap();
    assert_eq!(list(&netns), words(WANTED));
}

/// A pod, its node, and the world: outside the world sees the node's address, inside it sees the pod's.
#[test]
fn packets_to_the_world_have_the_nodes_address() {
    let (pod, node, world) = (new_netns(), new_netns(), new_netns());
    sh(
        &node,
        &format!(
            "ip link add p type veth peer name eth0 netns {}; ip link add eth0 type veth peer name eth0 netns {}
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
             ip addr add 10.244.3.1/24 dev p; ip addr add fd00:244::1/64 dev p nodad; ip link set p up
             ip addr add 172.31.0.1/24 dev eth0; ip addr add fd00:31::1/64 dev eth0 nodad; ip link set eth0 up; ip link set lo up",
            path(&pod),
            path(&world)
        ),
    );
    sh(
        &pod,
        "ip addr add 10.244.3.7/24 dev eth0; ip addr add fd00:244::7/64 dev eth0 nodad; ip link set eth0 up
         ip route add default via 10.244.3.1; ip route add default via fd00:244::1",
    );
    sh(
        &world,
        "ip addr add 172.31.0.2/24 dev eth0; ip addr add 172.31.0.3/24 dev eth0; ip addr add fd00:31::2/64 dev eth0 nodad
         ip addr add fd00:31::3/64 dev eth0 nodad; ip link set eth0 up
         ip route add 10.244.0.0/16 via 172.31.0.1; ip route add fd00:244::/48 via fd00:31::1",
    );
    let mut wanted = masquerade();
    wanted.inside.push("fd00:31::2/128".parse().unwrap());
    node.run(|| wanted.apply()).unwrap().unwrap();
    for (to, seen_from) in [
        ("172.31.0.3", "172.31.0.1"),
        ("172.31.0.2", "10.244.3.7"),
        ("fd00:31::3", "fd00:31::1"),
        ("fd00:31::2", "fd00:244::7"),
    ] {
        let to: std::net::IpAddr = to.parse().unwrap();
        let bind = |netns: &NetNs, address: std::net::IpAddr| {
            netns
                .run(|| UdpSocket::bind((address, 0)).unwrap())
                .unwrap()
        };
        let any: std::net::IpAddr = if to.is_ipv4() {
            "0.0.0.0".parse().unwrap()
        } else {
            "::".parse().unwrap()
        };
        let (server, client) = (bind(&world, to), bind(&pod, any));
        server
            .set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        client
            .send_to(b"hello", server.local_addr().unwrap())
            .unwrap();
        let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
        assert_eq!(from.ip().to_string(), seen_from, "to {to}");
    }
}

#[test]
fn its_presence_is_told() {
    let netns = new_netns();
    let present = || netns.run(masquerade::is_present).unwrap().unwrap();
    assert!(!present());
    sh(&netns, "nft add table ip malha; nft add table inet other");
    assert!(!present(), "the tables are others'");
    netns.run(|| masquerade().apply()).unwrap().unwrap();
    assert!(present());
    netns.run(masquerade::remove).unwrap().unwrap();
    assert!(!present());
}
