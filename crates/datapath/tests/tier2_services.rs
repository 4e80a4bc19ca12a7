//! Beside somebody who translates, as kube-proxy and port mappers do: every way a translated flow can take, and proof
//! that those that are not translated take the short one.
mod common;

use std::io::ErrorKind;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::services::{From, Outside, Rules, forwarded, invalid};
use common::{Mode, Namespace, Node, Pod, eventually, traffic, two_nodes, two_nodes_with};
use malha_datapath::{AttachMode, Config, Reason};

const PORT: u16 = 8080;
const MODES: [Mode; 3] = [Mode::Overlay, Mode::Overlay6, Mode::Direct];

/// A service's address: not in any pod range.
fn vip(number: u8, family: usize) -> SocketAddr {
    let text = [
        format!("10.96.0.{number}:80"),
        format!("[fd00:96::{number}]:80"),
    ];
    text[family].parse().unwrap()
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

fn at_pod(pod: &Pod, family: usize) -> SocketAddr {
    at(pod.addresses()[family], PORT)
}

/// Nodes that check where packets come from as strictly as any distribution's, with the overlay device as the agent
/// makes it.
fn strict_nodes(mode: Mode) -> (Node, Node) {
    let nodes = two_nodes(mode);
    for (node, other) in [(&nodes.0, &nodes.1), (&nodes.1, &nodes.0)] {
        // What Linux would masquerade with on a link without an address: no other node knows it.
        node.namespace
            .sh("ip addr add 198.18.0.1/32 dev lo; ip addr add 2001:db8:18::1/128 dev lo");
        // Without a route to a service's address the stack does not get as far as to translate it.
        for address in other.addresses() {
            node.namespace
                .sh(&format!("ip route add default via {address}"));
        }
        node.namespace.sh("cd /proc/sys/net/ipv4/conf; echo 1 > all/rp_filter; echo 1 > eth0/rp_filter; echo 2 > mvx/rp_filter");
    }
    nodes
}

/// TCP, UDP, and UDP in fragments, to a server behind another address. Whom the server saw.
fn dial(from: (&Namespace, IpAddr), to: SocketAddr, server: (&Namespace, SocketAddr)) -> IpAddr {
    let what = |kind: &str| format!("{kind} from {} to {to}, which is {}", from.1, server.1);
    let listener = server.0.enter(|| TcpListener::bind(server.1).unwrap());
    let seen = traffic::tcp_through(from, to, &listener)
        .unwrap_or_else(|error| panic!("{}: {error}", what("TCP")));
    let socket = server.0.enter(|| UdpSocket::bind(server.1).unwrap());
    for size in [16, 5000] {
        let peer = traffic::udp_through(from, to, &socket, size)
            .unwrap_or_else(|error| panic!("{} of {size} bytes: {error}", what("UDP")));
        assert_eq!(peer, seen);
    }
    seen
}

fn dial_pod(from: (&Namespace, IpAddr), to: SocketAddr, pod: &Pod) -> IpAddr {
    let family = usize::from(to.is_ipv6());
    dial(from, to, (&pod.namespace, at_pod(pod, family)))
}

fn nothing_is_invalid(nodes: [&Node; 2]) {
    for node in nodes {
        assert_eq!(invalid(node), 0, "node {} sees half a flow", node.number);
    }
}

#[test]
fn a_pod_reaches_services() {
    for mode in MODES {
        let (one, two) = strict_nodes(mode);
        let (a, b, c) = (Pod::new(&one, 5), Pod::new(&one, 6), Pod::new(&two, 5));
        let mut rules = Rules::default();
        for family in [0, 1] {
            for (number, backend) in [(1, &c), (2, &b), (3, &a)] {
                rules = rules.service(vip(number, family), at_pod(backend, family));
            }
        }
        rules.apply(&one, "");
        Rules::default().apply(&two, "");
        for family in [0, 1] {
            let own = a.addresses()[family];
            let from = (&a.namespace, own);
            assert_eq!(dial_pod(from, vip(1, family), &c), own, "on another node");
            assert_eq!(dial_pod(from, vip(2, family), &b), own, "on the same node");
            let hairpin = dial_pod(from, vip(3, family), &a);
            assert_ne!(hairpin, own, "itself, masqueraded");
            let host = (&one.namespace, one.addresses()[family]);
            assert_eq!(
                dial_pod(host, vip(1, family), &c),
                host.1,
                "a node's process"
            );
            assert_eq!(
                dial_pod(host, vip(2, family), &b),
                host.1,
                "a node's process"
            );
        }
        nothing_is_invalid([&one, &two]);
    }
}

#[test]
fn a_flow_that_is_not_translated_takes_the_short_way() {
    for mode in MODES {
        let (one, two) = strict_nodes(mode);
        let (a, b, c) = (Pod::new(&one, 5), Pod::new(&one, 6), Pod::new(&two, 5));
        let mut rules = Rules::default();
        for family in [0, 1] {
            rules = rules
                .service(vip(1, family), at_pod(&c, family))
                .service(vip(2, family), at_pod(&b, family));
        }
        rules.apply(&one, "");
        Rules::default().apply(&two, "");
        // Once before there is any flow to be remembered, once between pairs that have some.
        for round in 0..2 {
            for family in [0, 1] {
                let pod = |pod: &'_ Pod| pod.addresses()[family];
                let from = (&a.namespace, pod(&a));
                let before = [forwarded(&one), forwarded(&two)];
                for to in [&b, &c] {
                    traffic::tcp(from, (&to.namespace, pod(to))).unwrap();
                    traffic::tcp((&to.namespace, pod(to)), from).unwrap();
                    traffic::udp(from, (&to.namespace, pod(to))).unwrap();
                }
                assert_eq!(
                    [forwarded(&one), forwarded(&two)],
                    before,
                    "{mode:?}, round {round}: no packet was the stack's"
                );
                dial_pod(from, vip(1, family), &c);
                dial_pod(from, vip(2, family), &b);
                assert!(forwarded(&one) > before[0] + 10, "both directions were");
                assert_eq!(forwarded(&two), before[1], "but not at the backend's node");
            }
        }
        assert!(two.datapath.flows().unwrap().is_empty());
        let flows = one.datapath.flows().unwrap();
        assert!(
            flows
                .iter()
                .all(|flow| flow.local.port() == PORT || flow.remote.port() == PORT),
            "{flows:?}"
        );
    }
}

#[test]
fn node_ports_work_from_outside_and_inside() {
    for mode in MODES {
        let (one, two) = strict_nodes(mode);
        let (a, c) = (Pod::new(&one, 5), Pod::new(&two, 5));
        let (near, far) = (Outside::new(&two), Outside::new(&one));
        let mut rules = [Rules::default(), Rules::default()];
        for family in [0, 1] {
            let backend = at_pod(&c, family);
            let [mut first, mut second] = rules;
            for address in [one.addresses()[family], far.node[family]] {
                first = first.with(at(address, 30080), backend, From::Anybody).with(
                    at(address, 30081),
                    backend,
                    From::Nobody,
                );
            }
            for address in [two.addresses()[family], near.node[family]] {
                second = second
                    .with(at(address, 30080), backend, From::Anybody)
                    .with(at(address, 30081), backend, From::Nobody);
            }
            rules = [first, second];
        }
        rules[0].apply(&one, "");
        rules[1].apply(&two, "");
        for family in [0, 1] {
            let own = |host: &Outside| (host.addresses[family], host.node[family]);
            let (address, node) = own(&near);
            let from = (&near.namespace, address);
            assert_ne!(dial_pod(from, at(node, 30080), &c), address, "masqueraded");
            assert_eq!(
                dial_pod(from, at(node, 30081), &c),
                address,
                "at the pod's node"
            );
            let (address, node) = own(&far);
            let from = (&far.namespace, address);
            let seen = dial_pod(from, at(node, 30080), &c);
            let by = match mode {
                Mode::Direct => one.addresses(),
                _ => one.overlay_addresses(),
            };
            assert_eq!(seen, by[family], "by way of another node");
            // A pod of another node, as it is and masqueraded, by way of its own node and of the backend's.
            let from = (&a.namespace, a.addresses()[family]);
            for node in [&one, &two] {
                let node = node.addresses()[family];
                assert_ne!(dial_pod(from, at(node, 30080), &c), from.1);
                assert_eq!(dial_pod(from, at(node, 30081), &c), from.1);
            }
            let from = (&one.namespace, one.addresses()[family]);
            let node = two.addresses()[family];
            assert_eq!(
                dial_pod(from, at(node, 30081), &c),
                from.1,
                "a node's process"
            );
        }
        nothing_is_invalid([&one, &two]);
    }
}

/// No way leads back: the backend's node would answer the stranger itself. Kubernetes has no such service.
#[test]
fn a_strangers_packet_is_not_taken_from_another_node() {
    let (one, two) = strict_nodes(Mode::Overlay);
    let (c, far) = (Pod::new(&two, 5), Outside::new(&one));
    let mut rules = Rules::default();
    for family in [0, 1] {
        rules = rules.with(
            at(far.node[family], 30081),
            at_pod(&c, family),
            From::Nobody,
        );
    }
    rules.apply(&one, "");
    for family in [0, 1] {
        let before = two.drops(Reason::SpoofedOverlay);
        let socket = traffic::udp_socket(&far.namespace, far.addresses[family]);
        socket.send_to(b"x", (far.node[family], 30081)).unwrap();
        eventually("it is counted", || {
            two.drops(Reason::SpoofedOverlay) > before
        });
    }
}

/// Host ports: the node's addresses and the pod's port, and the pod may call itself by them.
#[test]
fn host_ports_work_from_everywhere() {
    for mode in MODES {
        let (one, two) = strict_nodes(mode);
        let (a, b, c) = (Pod::new(&one, 5), Pod::new(&one, 6), Pod::new(&two, 5));
        let mut rules = Rules::default();
        for family in [0, 1] {
            let port = at(one.addresses()[family], 4480);
            rules = rules.with(port, at_pod(&b, family), From::Backend);
        }
        rules.apply(&one, "");
        Rules::default().apply(&two, "");
        for family in [0, 1] {
            let port = at(one.addresses()[family], 4480);
            for (namespace, address) in [
                (&a.namespace, a.addresses()[family]),
                (&c.namespace, c.addresses()[family]),
                (&two.namespace, two.addresses()[family]),
                (&one.namespace, one.addresses()[family]),
            ] {
                assert_eq!(dial_pod((namespace, address), port, &b), address);
            }
            let own = b.addresses()[family];
            assert_ne!(dial_pod((&b.namespace, own), port, &b), own);
        }
        nothing_is_invalid([&one, &two]);
    }
}

/// The API server's service, for one: the backend is a node. What goes there by the stack leaves under the node's
/// address where the way is the overlay, as the agent's rules have it.
#[test]
fn a_service_of_nodes_works() {
    for mode in MODES {
        for masquerade in [true, false] {
            let (one, two) = if masquerade {
                strict_nodes(mode)
            } else {
                two_nodes(mode)
            };
            let a = Pod::new(&one, 5);
            let mut rules = Rules::default();
            for family in [0, 1] {
                let backend = at(two.addresses()[family], 6443);
                rules = rules.service(vip(1, family), backend);
            }
            let extra = "oifname eth0 ip saddr 10.244.0.0/16 ip daddr 172.31.0.0/24 masquerade
                 oifname eth0 ip6 saddr fd00:244::/32 ip6 daddr fd00:31::/64 masquerade";
            rules.apply(&one, if masquerade { extra } else { "" });
            Rules::default().apply(&two, "");
            for family in [0, 1] {
                let own = a.addresses()[family];
                let server = (&two.namespace, at(two.addresses()[family], 6443));
                let seen = dial((&a.namespace, own), vip(1, family), server);
                let wanted = if masquerade {
                    one.addresses()[family]
                } else {
                    own
                };
                assert_eq!(seen, wanted);
            }
            nothing_is_invalid([&one, &two]);
        }
    }
}

#[test]
fn errors_about_a_translated_packet_come_back_translated() {
    for mode in MODES {
        let (one, two) = strict_nodes(mode);
        let (a, b, c) = (Pod::new(&one, 5), Pod::new(&one, 6), Pod::new(&two, 5));
        let mut rules = Rules::default();
        for family in [0, 1] {
            rules = rules
                .service(vip(1, family), at_pod(&c, family))
                .service(vip(2, family), at_pod(&b, family));
        }
        rules.apply(&one, "");
        for family in [0, 1] {
            // A translated flow that works, and one that was never translated: their errors must not be mixed up.
            dial_pod((&a.namespace, a.addresses()[family]), vip(1, family), &c);
            for to in [
                vip(1, family),
                vip(2, family),
                at_pod(&c, family),
                at_pod(&b, family),
            ] {
                let client = traffic::udp_socket(&a.namespace, a.addresses()[family]);
                client.connect(to).unwrap();
                client.send(b"anybody?").unwrap();
                let error = client.recv(&mut [0; 8]).unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::ConnectionRefused,
                    "{mode:?} {to}: {error}"
                );
            }
        }
    }
}

/// One connection, and its other end.
fn connect(from: &Pod, to: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let patience = Duration::from_secs(5);
    let client = from
        .namespace
        .enter(|| TcpStream::connect_timeout(&to, patience).unwrap());
    let (server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(patience)).unwrap();
    }
    (client, server)
}

fn exchange((client, server): &mut (TcpStream, TcpStream)) {
    let mut buffer = [0; 4];
    // The server first: nothing of the client's comes before that could make the node remember again.
    server.write_all(b"pong").unwrap();
    client.read_exact(&mut buffer).unwrap();
    client.write_all(b"ping").unwrap();
    server.read_exact(&mut buffer).unwrap();
}

#[test]
fn an_agent_that_restarts_or_is_upgraded_forgets_no_flow() {
    for (mode, attach) in [
        (Mode::Overlay, AttachMode::Auto),
        (Mode::Direct, AttachMode::Filter),
    ] {
        let (mut one, two) = two_nodes_with(mode, |config| Config { attach, ..config });
        let (a, b, c) = (Pod::new(&one, 5), Pod::new(&one, 6), Pod::new(&two, 5));
        let mut rules = Rules::default();
        for family in [0, 1] {
            rules = rules
                .service(vip(1, family), at_pod(&c, family))
                .service(vip(2, family), at_pod(&b, family));
        }
        rules.apply(&one, "");
        let mut connections = Vec::new();
        for family in [0, 1] {
            for (number, pod) in [(1, &c), (2, &b)] {
                let listener = pod
                    .namespace
                    .enter(|| TcpListener::bind(at_pod(pod, family)).unwrap());
                connections.push(connect(&a, vip(number, family), &listener));
            }
        }
        connections.iter_mut().for_each(exchange);
        for version in 0..2u8 {
            one.reopen(None);
            connections.iter_mut().for_each(exchange);
            one.reopen(Some(&[malha_datapath::object_bytes(), &[version]].concat()));
            connections.iter_mut().for_each(exchange);
        }
        assert_eq!(invalid(&one), 0);
    }
}

/// More flows than are remembered: old ones make room, and what is in use stays.
#[test]
fn the_memory_is_bounded() {
    let max_flows = 512;
    let (one, two) = two_nodes_with(Mode::Overlay, |config| Config {
        max_flows,
        ..config
    });
    let (a, c) = (Pod::new(&one, 5), Pod::new(&two, 5));
    Rules::default()
        .service(vip(1, 0), at_pod(&c, 0))
        .apply(&one, "");
    let listener = c
        .namespace
        .enter(|| TcpListener::bind(at_pod(&c, 0)).unwrap());
    let mut kept = connect(&a, vip(1, 0), &listener);
    for _ in 0..100 {
        for _ in 0..20 {
            drop(connect(&a, vip(1, 0), &listener));
        }
        exchange(&mut kept);
    }
    let flows = one.datapath.flows().unwrap();
    assert!(flows.len() <= max_flows as usize, "{} flows", flows.len());
    assert!(flows.len() > 100, "{} flows", flows.len());
    let kept = kept.0.local_addr().unwrap();
    assert!(flows.iter().any(|flow| flow.local == kept));
}
