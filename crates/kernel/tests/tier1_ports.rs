//! Port mappings, as the nft program sees them and as packets do.
mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use common::{eventually, new_netns, path, sh, words};
use malha_kernel::NetNs;
use malha_kernel::masquerade::{self, Masquerade};
use malha_kernel::ports::{self, PortMapping};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

fn mapping(address: &str, protocol: u8, port: u16, target: &str) -> PortMapping {
    PortMapping {
        address: address.parse().ok(),
        protocol,
        port,
        target: target.parse().unwrap(),
    }
}

fn list(netns: &NetNs) -> String {
    words(&sh(netns, "nft list ruleset"))
}

const WANTED: &str = r#"
table inet malha {
    map ports_v4 { type inet_proto . inet_service : ipv4_addr . inet_service elements = { udp . 53 : 10.244.1.5 . 5353 } }
    map ports_at_v4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service elements = { 172.31.0.1 . tcp . 80 : 10.244.1.6 . 8080 } }
    set callers_v4 { type ipv4_addr . ipv4_addr elements = { 10.244.1.5 . 10.244.1.5, 10.244.1.6 . 10.244.1.6 } }
    map ports_v6 { type inet_proto . inet_service : ipv6_addr . inet_service elements = { sctp . 53 : fd00:244::5 . 5353 } }
    map ports_at_v6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service elements = { fd00:31::1 . tcp . 80 : fd00:244::5 . 8080 } }
    set callers_v6 { type ipv6_addr . ipv6_addr elements = { fd00:244::5 . fd00:244::5 } }
    chain ports {
        dnat ip to ip daddr . meta l4proto . th dport map @ports_at_v4
        dnat ip to meta l4proto . th dport map @ports_v4
        dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports_at_v6
        dnat ip6 to meta l4proto . th dport map @ports_v6
    }
    chain ports_in { type nat hook prerouting priority dstnat; policy accept; fib daddr type local jump ports }
    chain ports_out { type nat hook output priority dstnat; policy accept; ip6 daddr ::1 return fib daddr type local jump ports }
    chain ports_back { type nat hook postrouting priority srcnat; policy accept;
        ip saddr . ip daddr @callers_v4 masquerade fully-random
        ip6 saddr . ip6 daddr @callers_v6 masquerade fully-random
        ip saddr 127.0.0.0/8 oifname != "lo" masquerade fully-random
    }
}"#;

fn some() -> Vec<PortMapping> {
    let mut mappings = vec![
        mapping("", UDP, 53, "10.244.1.5:5353"),
        mapping("172.31.0.1", TCP, 80, "10.244.1.6:8080"),
        mapping("", SCTP, 53, "[fd00:244::5]:5353"),
        mapping("fd00:31::1", TCP, 80, "[fd00:244::5]:8080"),
    ];
    mappings.sort();
    mappings
}

/// What differs between versions of the nft program.
fn normal(listed: &str) -> String {
    listed
        .replace("meta nfproto ipv4 ", "")
        .replace("meta nfproto ipv6 ", "")
        .replace("priority -100", "priority dstnat")
}

#[test]
fn mappings_are_elements_and_nothing_is_there_before_the_first() {
    let netns = new_netns();
    assert_eq!(netns.run(ports::list).unwrap().unwrap(), []);
    netns.run(|| ports::remove(&some())).unwrap().unwrap();
    assert_eq!(list(&netns), "");
    for _ in 0..2 {
        netns.run(|| ports::add(&some())).unwrap().unwrap();
        assert_eq!(normal(&list(&netns)), words(WANTED));
        assert_eq!(netns.run(ports::list).unwrap().unwrap(), some());
    }
    let other = mapping("172.31.0.1", TCP, 80, "10.244.1.9:1");
    let error = netns.run(|| ports::add(&[other])).unwrap().unwrap_err();
    assert!(error.to_string().contains("add port mappings"), "{error}");
    netns.run(|| ports::remove(&[other])).unwrap().unwrap();
    assert_eq!(netns.run(ports::list).unwrap().unwrap(), some());
    for _ in 0..2 {
        netns.run(|| ports::remove(&some())).unwrap().unwrap();
        assert!(!list(&netns).contains("elements"));
    }
    netns.run(|| ports::add(&some())).unwrap().unwrap();
    assert_eq!(netns.run(ports::list).unwrap().unwrap(), some());
}

#[test]
fn masquerade_comes_changes_and_goes_beside_them() {
    let netns = new_netns();
    let masquerade = Masquerade {
        pods: vec!["10.244.0.0/16".parse().unwrap()],
        inside: Vec::new(),
    };
    netns.run(|| masquerade.apply()).unwrap().unwrap();
    netns.run(|| ports::add(&some())).unwrap().unwrap();
    for _ in 0..2 {
        netns.run(|| masquerade.apply()).unwrap().unwrap();
        assert_eq!(netns.run(ports::list).unwrap().unwrap(), some());
        assert!(list(&netns).contains("@pods_v4"));
    }
    for _ in 0..2 {
        netns.run(masquerade::disable).unwrap().unwrap();
        assert_eq!(normal(&list(&netns)), words(WANTED));
    }
    netns.run(masquerade::remove).unwrap().unwrap();
    assert_eq!(list(&netns), "");
    netns.run(|| masquerade.apply()).unwrap().unwrap();
    netns.run(masquerade::disable).unwrap().unwrap();
    assert_eq!(list(&netns), "");
}

#[test]
fn what_somebody_tore_is_made_whole() {
    let netns = new_netns();
    netns.run(|| ports::add(&some())).unwrap().unwrap();
    for damage in [
        "nft flush ruleset",
        "nft flush chain inet malha ports; nft delete map inet malha ports_v6",
    ] {
        sh(&netns, damage);
        netns.run(|| ports::add(&some())).unwrap().unwrap();
        assert_eq!(netns.run(ports::list).unwrap().unwrap(), some());
        assert!(list(&netns).contains("map @ports_v6"));
    }
}

/// A pod on a node, and the world.
fn machines() -> [NetNs; 3] {
    let (pod, node, world) = (new_netns(), new_netns(), new_netns());
    sh(
        &node,
        &format!(
            "ip link add p type veth peer name eth0 netns {}; ip link add eth0 type veth peer name eth0 netns {}
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.p.route_localnet=1
             ip link set lo up; ip link set p up; ip link set eth0 up
             ip addr add 172.31.0.1/24 dev eth0; ip addr add fd00:31::1/64 dev eth0 nodad
             ip route add 10.244.3.7 dev p; ip route add fd00:244::7 dev p",
            path(&pod),
            path(&world)
        ),
    );
    sh(
        &pod,
        "ip link set lo up; ip link set eth0 up; ip addr add 10.244.3.7/32 dev eth0; ip addr add fd00:244::7/128 dev eth0 nodad
         ip route add default dev eth0; ip -6 route add default dev eth0",
    );
    sh(
        &node,
        "sysctl -qw net.ipv4.conf.p.proxy_arp=1 net.ipv6.conf.p.proxy_ndp=1
         for to in fd00:31::1 fd00:31::2; do ip neigh add proxy $to dev p; done",
    );
    sh(
        &world,
        "ip link set eth0 up; ip addr add 172.31.0.2/24 dev eth0; ip addr add fd00:31::2/64 dev eth0 nodad",
    );
    [pod, node, world]
}

fn bind(netns: &NetNs, address: &str) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind(address).unwrap()).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

/// One datagram there and one back; whom the server saw.
fn ask(client: &UdpSocket, to: SocketAddr, server: &UdpSocket) -> std::io::Result<IpAddr> {
    let mut buffer = [0; 8];
    client.send_to(b"there", to)?;
    let (_, peer) = server.recv_from(&mut buffer)?;
    server.send_to(b"back", peer)?;
    let (length, from) = client.recv_from(&mut buffer)?;
    assert_eq!((&buffer[..length], from), (&b"back"[..], to));
    Ok(peer.ip())
}

#[test]
fn packets_to_the_nodes_port_reach_the_pods() {
    let [pod, node, world] = machines();
    let mappings = [
        mapping("", UDP, 5300, "10.244.3.7:53"),
        mapping("", UDP, 5300, "[fd00:244::7]:53"),
        mapping("172.31.0.1", UDP, 5301, "10.244.3.7:53"),
    ];
    node.run(|| ports::add(&mappings)).unwrap().unwrap();
    let servers = [bind(&pod, "10.244.3.7:53"), bind(&pod, "[fd00:244::7]:53")];
    for (from, client, to, seen) in [
        (&world, "172.31.0.2:0", "172.31.0.1:5300", "172.31.0.2"),
        (&world, "[fd00:31::2]:0", "[fd00:31::1]:5300", "fd00:31::2"),
        (&world, "172.31.0.2:0", "172.31.0.1:5301", "172.31.0.2"),
        (&node, "172.31.0.1:0", "172.31.0.1:5300", "172.31.0.1"),
        (&node, "[fd00:31::1]:0", "[fd00:31::1]:5300", "fd00:31::1"),
        (&node, "127.0.0.1:0", "127.0.0.1:5300", "172.31.0.1"),
        (&pod, "10.244.3.7:0", "172.31.0.1:5300", "172.31.0.1"),
        (&pod, "[fd00:244::7]:0", "[fd00:31::1]:5300", "fd00:31::1"),
    ] {
        let to: SocketAddr = to.parse().unwrap();
        let client = bind(from, client);
        let who = ask(&client, to, &servers[usize::from(to.is_ipv6())])
            .unwrap_or_else(|error| panic!("{client:?} to {to}: {error}"));
        assert_eq!(who.to_string(), seen, "{to}");
    }
    let client = bind(&node, "127.0.0.1:0");
    client.send_to(b"x", "127.0.0.1:5301").unwrap();
    assert!(servers[0].recv(&mut [0; 8]).is_err(), "another address");
}

/// A client that never stops sending must not keep a mapping that is gone, nor miss a new one.
#[test]
fn udp_clients_follow_the_mapping() {
    let [pod, node, world] = machines();
    let mappings = [mapping("", UDP, 5300, "10.244.3.7:53")];
    let to: SocketAddr = "172.31.0.1:5300".parse().unwrap();
    let (client, server) = (bind(&world, "172.31.0.2:0"), bind(&pod, "10.244.3.7:53"));
    // Something that tracks: without rules nobody does.
    sh(
        &node,
        "nft 'add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c ct state new'",
    );
    client.send_to(b"early", to).unwrap();
    let tracked = || sh(&node, "conntrack -L -p udp 2>/dev/null || true");
    eventually("it is tracked", || tracked().contains("dport=5300"));
    node.run(|| ports::add(&mappings)).unwrap().unwrap();
    // What the node answered to the first one.
    let _ = client.send_to(b"x", to);
    server.recv(&mut [0; 8]).expect("the old entry is gone");
    ask(&client, to, &server).unwrap();
    node.run(|| ports::remove(&mappings)).unwrap().unwrap();
    client.send_to(b"late", to).unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    assert!(server.recv(&mut [0; 8]).is_err(), "{}", tracked());
}
