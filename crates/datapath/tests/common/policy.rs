//! Isolated pods, and whether they are reached.
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use malha_datapath::{Match, Policy, PortRange, Verdict};

use super::{Namespace, Node, Pod};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
/// What a closed door costs a test.
const PATIENCE: Duration = Duration::from_millis(250);

/// One port.
pub fn port(number: u16) -> PortRange {
    PortRange {
        first: number,
        bits: 16,
    }
}

/// Every node knows who has the pod's addresses.
pub fn name(nodes: &[&Node], pod: &Pod, identity: u32) {
    for node in nodes {
        for address in pod.addresses() {
            let policies = node.datapath.policies();
            policies.set_identity((*address).into(), identity).unwrap();
        }
    }
}

pub fn isolate(node: &Node, pod: &Pod, ingress: Option<u32>, egress: Option<u32>, revision: u32) {
    let policy = Policy {
        ingress,
        egress,
        revision,
    };
    node.datapath
        .policies()
        .set(pod.endpoint.id, policy)
        .unwrap();
}

pub fn rule(node: &Node, table: u32, identity: u32, ports: Option<(u8, PortRange)>, allow: bool) {
    let at = Match {
        table,
        identity,
        ports,
    };
    node.datapath
        .policies()
        .set_verdict(at, Verdict { allow, rule: 7 })
        .unwrap();
}

pub fn no_rule(node: &Node, table: u32, identity: u32, ports: Option<(u8, PortRange)>) {
    let at = Match {
        table,
        identity,
        ports,
    };
    node.datapath.policies().remove_verdict(at).unwrap();
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
