//! Isolated pods, and whether they are reached.
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use malha_datapath::{Peer, Policy, PortPrefix, Verdict, identity};

use super::{Namespace, Node, Pod};

pub const GENERATION: u32 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
/// What a closed door costs a test.
const PATIENCE: Duration = Duration::from_millis(250);

/// Every protocol and port.
pub const ALL: PortPrefix = PortPrefix {
    protocol: 0,
    port: 0,
    bits: 0,
};

/// One port.
pub fn port(protocol: u8, port: u16) -> PortPrefix {
    PortPrefix {
        protocol,
        port,
        bits: 24,
    }
}

/// Every node knows who has the pod's addresses.
pub fn name(nodes: &[&Node], pod: &Pod, identity: u32) {
    for node in nodes {
        for address in pod.addresses() {
            let policies = node.datapath.policies();
            policies
                .set_identity(GENERATION, (*address).into(), identity)
                .unwrap();
        }
    }
}

pub fn isolate(node: &Node, pod: &Pod, ingress: Option<u32>, egress: Option<u32>, revision: u32) {
    let policy = Policy {
        ingress,
        egress,
        revision,
        generation: GENERATION,
    };
    node.datapath
        .policies()
        .set(pod.endpoint.id, policy)
        .unwrap();
}

fn verdict(allow: bool) -> Verdict {
    Verdict {
        allow,
        rule: 7,
        ..Verdict::default()
    }
}

/// A table that says these things of these identities, and of everybody else that it is denied. The most specific of
/// what is said of ports holds, and that nothing is allowed where nothing is said.
pub fn table(node: &Node, table: u32, rows: &[(u32, &[(PortPrefix, bool)])]) {
    let policies = node.datapath.policies();
    policies
        .set_peer(table, identity::NONE, Peer::Fixed(Verdict::default()))
        .unwrap();
    for (number, (identity, ports)) in rows.iter().enumerate() {
        let class = table * 100 + number as u32;
        policies.set_port(class, ALL, verdict(false)).unwrap();
        for (prefix, allow) in *ports {
            policies.set_port(class, *prefix, verdict(*allow)).unwrap();
        }
        policies
            .set_peer(table, *identity, Peer::Class(class))
            .unwrap();
    }
}

pub fn listen(pod: &Pod, family: usize, port: u16) -> TcpListener {
    let at = SocketAddr::new(pod.addresses()[family], port);
    pod.namespace.enter(|| TcpListener::bind(at).unwrap())
}

pub fn connect(from: &Namespace, to: SocketAddr) -> Option<TcpStream> {
    let stream = from.enter(|| TcpStream::connect_timeout(&to, PATIENCE));
    match stream {
        Ok(stream) => {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            Some(stream)
        }
        Err(error) if error.kind() == ErrorKind::TimedOut => None,
        Err(error) => panic!("{to}: {error}"),
    }
}

/// Whether a datagram gets there and its answer back.
pub fn asks(from: (&Namespace, IpAddr), to: (&Namespace, SocketAddr), size: usize) -> bool {
    let bind = |(namespace, at): (&Namespace, SocketAddr)| {
        let socket = namespace.enter(|| UdpSocket::bind(at).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let (client, server) = (bind((from.0, SocketAddr::new(from.1, 0))), bind(to));
    let mut buffer = vec![0; size + 1];
    client.send_to(&vec![1; size], to.1).unwrap();
    let Ok((length, peer)) = server.recv_from(&mut buffer) else {
        return false;
    };
    assert_eq!(length, size);
    server.send_to(&buffer[..length], peer).unwrap();
    client.recv(&mut buffer).is_ok_and(|length| length == size)
}
