//! Host ports, from what a runtime sends to what a client on another node sees.
mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::net::Namespace;
use common::node::{Node, World};
use common::process;
use malha_cni::runtime::{self, Attachment};
use malha_cni::types::AttachmentId;

/// Not a test: what the agents of the other tests run.
#[test]
fn agent_process() {
    process::run();
}

/// What containerd sends for `hostPort: 8080`, for a container by this name.
fn attachment(namespace: &Namespace, name: &str) -> Attachment {
    let capabilities = serde_json::json!({ "portMappings": [
        { "HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "" },
        { "HostPort": 0, "ContainerPort": 81, "Protocol": "tcp", "HostIP": "" },
    ]});
    Attachment {
        id: AttachmentId {
            container_id: name.to_owned(),
            ifname: "eth0".to_owned(),
        },
        netns: Some(namespace.path().into()),
        args: malha_cni::types::Args::new([]),
        capabilities: capabilities.as_object().unwrap().clone(),
    }
}

fn network(node: &Node) -> malha_cni::types::NetworkList {
    runtime::load(&node.settings.directory.join("net.d")).expect("a configuration list")
}

/// Whom a server in the pod sees when it is called by the node's port.
fn call(from: &Namespace, to: SocketAddr, pod: &Namespace) -> std::io::Result<IpAddr> {
    let any: IpAddr = if to.is_ipv4() {
        "0.0.0.0".parse().unwrap()
    } else {
        "::".parse().unwrap()
    };
    let patience = Duration::from_secs(5);
    let listener = pod.0.run(|| TcpListener::bind((any, 80))).unwrap()?;
    let mut client = from
        .0
        .run(|| TcpStream::connect_timeout(&to, patience))
        .unwrap()?;
    let (mut server, peer) = listener.accept()?;
    let mut buffer = [0; 4];
    client.set_read_timeout(Some(patience))?;
    server.write_all(b"pong")?;
    client.read_exact(&mut buffer)?;
    Ok(peer.ip())
}

fn across_nodes_and_restarts(routing: &str) {
    let world = World::new();
    let mut nodes = [world.node(0, 1), world.node(0, 2)];
    for node in &mut nodes {
        node.settings.routing = routing.to_owned();
    }
    let mut agents: Vec<_> = nodes.iter().map(|node| node.serve()).collect();
    nodes.iter().for_each(|node| node.wait_peers(1));
    let client = nodes[1].pod("client");
    let web = Namespace::new();
    let wanted = attachment(&web, "web");
    nodes[0]
        .runtime()
        .add(&network(&nodes[0]), &wanted)
        .unwrap();
    let reach = || {
        for (to, own) in nodes[0].ips().into_iter().zip(client.addresses()) {
            let to = SocketAddr::new(to, 8080);
            let seen = call(&client.namespace, to, &web)
                .unwrap_or_else(|error| panic!("{routing}, {to}: {error}"));
            assert_eq!(seen, own, "a pod keeps its address");
            let beside = &nodes[1].namespace;
            call(beside, to, &web).unwrap_or_else(|error| panic!("{routing}, {to}: {error}"));
        }
    };
    reach();
    let other = Namespace::new();
    let taken = nodes[0]
        .runtime()
        .add(&network(&nodes[0]), &attachment(&other, "other"));
    let error = taken.unwrap_err().to_string();
    assert!(
        error.contains("8080") && error.contains("web/eth0"),
        "{error}"
    );
    drop(agents.remove(0));
    reach();
    agents.insert(0, nodes[0].serve());
    reach();
    nodes[0]
        .runtime()
        .check(&network(&nodes[0]), &wanted)
        .unwrap();
    nodes[0]
        .runtime()
        .del(&network(&nodes[0]), &wanted)
        .unwrap();
    let rules = nodes[0].namespace.sh("nft list table inet malha");
    assert!(!rules.contains("8080"), "{rules}");
    nodes[0]
        .runtime()
        .add(&network(&nodes[0]), &attachment(&other, "other"))
        .unwrap();
}

#[test]
fn a_host_port_works_through_the_overlay() {
    across_nodes_and_restarts("overlay");
}

#[test]
fn a_host_port_works_directly() {
    across_nodes_and_restarts("direct");
}
