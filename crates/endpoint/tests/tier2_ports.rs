//! Host ports: they lead to the pod from everywhere, belong to one pod at a time, and end with it.
mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::{Managed, Node, fail_at, new_netns, sh};
use malha_endpoint::{Config, Endpoint, Error, HostPort, Key, Result, Step};
use malha_kernel::NetNs;
use malha_kernel::ports::{self, PortMapping};

const TCP: u8 = 6;
const UDP: u8 = 17;

fn port(address: &str, port: u16) -> HostPort {
    HostPort {
        address: address.parse().ok(),
        protocol: TCP,
        port,
        container_port: 80,
    }
}

fn add(managed: &Managed<'_>, name: &str, pod: &NetNs, ports: &[HostPort]) -> Result<Endpoint> {
    managed.add_with(Key::new(name, "eth0"), pod, ports)
}

fn mappings(node: &Node) -> Vec<PortMapping> {
    node.netns.run(ports::list).unwrap().unwrap()
}

fn rules(node: &Node) -> String {
    sh(&node.netns, "nft list ruleset")
}

/// One question and one answer; whom the server saw.
fn ask(from: &NetNs, to: &str, server: (&NetNs, IpAddr)) -> std::io::Result<IpAddr> {
    let listener = server
        .0
        .run(|| TcpListener::bind((server.1, 80)))
        .unwrap()?;
    let to: SocketAddr = to.parse().unwrap();
    let patience = Duration::from_secs(5);
    let mut client = from
        .run(|| TcpStream::connect_timeout(&to, patience))
        .unwrap()?;
    let (mut accepted, peer) = listener.accept()?;
    let mut buffer = [0; 4];
    for stream in [&client, &accepted] {
        stream.set_read_timeout(Some(patience))?;
    }
    client.write_all(b"ping")?;
    accepted.read_exact(&mut buffer)?;
    accepted.write_all(b"pong")?;
    client.read_exact(&mut buffer)?;
    Ok(peer.ip())
}

#[test]
fn a_pod_without_host_ports_has_no_rules() {
    let (node, pod) = (Node::new(), new_netns());
    let managed = node.open();
    managed.add("one", &pod).unwrap();
    managed.check("one", &pod, None).unwrap();
    managed.reconcile();
    managed.del("one").unwrap();
    assert_eq!(rules(&node), "");
}

#[test]
fn host_ports_lead_to_the_pod_from_everywhere() {
    let (node, pod, other) = (Node::new(), new_netns(), new_netns());
    let managed = node.open();
    let endpoint = add(
        &managed,
        "one",
        &pod,
        &[port("", 8080), port("172.31.0.1", 8081)],
    )
    .unwrap();
    let another = managed.add("other", &other).unwrap();
    let own = [
        node_address(0).parse::<IpAddr>().unwrap(),
        node_address(1).parse().unwrap(),
    ];
    for (family, to) in [
        (0, "172.31.0.1:8080"),
        (0, "172.31.0.1:8081"),
        (1, "[fd00:31::1]:8080"),
    ] {
        let server = (&pod, endpoint.addresses[family]);
        let seen =
            |from: &NetNs| ask(from, to, server).unwrap_or_else(|error| panic!("{to}: {error}"));
        assert_eq!(seen(&other), another.addresses[family], "another pod");
        assert_eq!(seen(&node.netns), own[family], "a node's process");
        assert_eq!(seen(&pod), own[family], "the pod itself");
    }
    let server = (&pod, endpoint.addresses[0]);
    assert_eq!(ask(&node.netns, "127.0.0.1:8080", server).unwrap(), own[0]);
    assert!(
        ask(&node.netns, "127.0.0.1:8081", server).is_err(),
        "another address"
    );
    assert!(
        ask(&node.netns, "[fd00:31::1]:8081", server).is_err(),
        "another family"
    );
    managed.check("one", &pod, None).unwrap();
    managed.del("one").unwrap();
    assert_eq!(mappings(&node), []);
    assert!(ask(&other, "172.31.0.1:8080", server).is_err());
}

fn node_address(family: usize) -> &'static str {
    ["172.31.0.1", "fd00:31::1"][family]
}

#[test]
fn a_port_has_one_pod_at_a_time() {
    let (node, one, two) = (Node::new(), new_netns(), new_netns());
    let managed = node.open();
    add(&managed, "one", &one, &[port("172.31.0.1", 80)]).unwrap();
    let others = [
        HostPort {
            protocol: UDP,
            ..port("172.31.0.1", 80)
        },
        port("172.31.0.1", 81),
        port("172.31.0.9", 80),
        port("::", 80),
    ];
    for taken in [port("172.31.0.1", 80), port("", 80), port("0.0.0.0", 80)] {
        let before = mappings(&node);
        let error = add(&managed, "two", &two, &[others[0], taken]).unwrap_err();
        assert!(
            matches!(&error, Error::PortTaken { other, .. } if *other == Key::new("one", "eth0"))
        );
        let text = error.to_string();
        assert!(
            text.contains("80 (tcp") && text.contains("one/eth0"),
            "{text}"
        );
        assert_eq!(error.cni_code(), 11);
        assert_eq!(mappings(&node), before, "nothing of the second is left");
    }
    managed.manager.flush().unwrap();
    add(&managed, "two", &two, &others).unwrap();
    managed.del("one").unwrap();
    managed.del("two").unwrap();
    assert_eq!(mappings(&node), []);
    add(&managed, "two", &two, &[port("", 80)]).unwrap();
    assert_eq!(mappings(&node).len(), 2, "both families");
}

#[test]
fn an_agent_that_restarts_keeps_them_and_can_take_them_back() {
    let (node, pod) = (Node::new(), new_netns());
    let endpoint = add(&node.open(), "one", &pod, &[port("", 80)]).unwrap();
    let before = mappings(&node);
    let managed = node.open();
    assert_eq!(mappings(&node), before);
    assert_eq!(managed.manager.list(), std::slice::from_ref(&endpoint));
    assert_eq!(
        add(&managed, "one", &pod, &[port("", 80)]).unwrap(),
        endpoint,
        "ADD again"
    );
    let two = new_netns();
    assert!(matches!(
        add(&managed, "two", &two, &[port("", 80)]),
        Err(Error::PortTaken { .. })
    ));
    managed.del("one").unwrap();
    assert_eq!(mappings(&node), []);
    add(&managed, "two", &two, &[port("", 80)]).unwrap();
}

#[test]
fn what_is_lost_comes_back_and_what_nobody_holds_goes() {
    let (node, pod) = (Node::new(), new_netns());
    let managed = node.open();
    add(&managed, "one", &pod, &[port("", 80)]).unwrap();
    let wanted = mappings(&node);
    let stray = PortMapping {
        port: 81,
        ..wanted[0]
    };
    node.netns.run(|| ports::add(&[stray])).unwrap().unwrap();
    assert_eq!(managed.reconcile().ports, 1);
    assert_eq!(mappings(&node), wanted);
    sh(&node.netns, "nft flush ruleset");
    let error = managed.check("one", &pod, None).unwrap_err().to_string();
    assert!(
        error.contains("host port 80 (tcp, at every address)"),
        "{error}"
    );
    assert_eq!(managed.reconcile().ports, 2);
    assert_eq!(mappings(&node), wanted);
    managed.check("one", &pod, None).unwrap();
    assert_eq!(managed.reconcile().ports, 0);
    // Records of another boot are worthless, and so is what they stand for.
    drop(managed);
    let managed = node.open_with(|config| Config {
        boot_id: "next-boot".to_owned(),
        ..config
    });
    assert_eq!(mappings(&node), []);
    assert_eq!(managed.manager.list(), []);
}

#[test]
fn a_container_that_died_without_del_gives_its_ports_back() {
    let (node, pod) = (Node::new(), new_netns());
    let managed = node.open();
    let endpoint = add(&managed, "one", &pod, &[port("", 80)]).unwrap();
    sh(&node.netns, &format!("ip link del {}", endpoint.host_link));
    managed.reconcile();
    assert_eq!(mappings(&node), []);
}

#[test]
fn a_failed_add_leaves_no_mapping() {
    for step in Step::ALL.into_iter().take(8) {
        let (node, pod) = (Node::new(), new_netns());
        let failing = node.open_with(|config| Config {
            hook: Some(fail_at(step)),
            ..config
        });
        assert!(add(&failing, "one", &pod, &[port("", 80)]).is_err());
        drop(failing);
        assert_eq!(mappings(&node), [], "{step:?}");
        let managed = node.open();
        add(&managed, "two", &pod, &[port("", 80)]).unwrap();
        assert_eq!(mappings(&node).len(), 2);
    }
}
