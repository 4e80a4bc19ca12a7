//! What isolated pods send and get: on every way a packet can take, in both families.
mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::policy::{
    ALL, GENERATION, TCP, UDP, asks, connect, isolate, listen, name, port, table,
};
use common::{Mode, Node, Pod, eventually, two_nodes};
use malha_datapath::{MadeBy, PortPrefix, Reason, identity};

const CLIENT: u32 = 16;
const SERVER: u32 = 17;
const STRANGER: u32 = 18;
const NODE: u32 = 19;
const TABLE: u32 = 1;
const OTHER_TABLE: u32 = 2;

/// A server on node 2, and clients and strangers beside it and on node 1.
struct World {
    near: Node,
    far: Node,
    server: Pod,
    clients: [Pod; 2],
    strangers: [Pod; 2],
}

impl World {
    fn new(mode: Mode) -> Self {
        let (far, near) = two_nodes(mode);
        let pods = |number| [Pod::new(&far, number), Pod::new(&near, number + 1)];
        let (server, clients, strangers) = (Pod::new(&near, 10), pods(20), pods(30));
        let nodes = [&near, &far];
        name(&nodes, &server, SERVER);
        clients.iter().for_each(|pod| name(&nodes, pod, CLIENT));
        strangers.iter().for_each(|pod| name(&nodes, pod, STRANGER));
        for node in nodes {
            let policies = node.datapath.policies();
            for address in node.addresses().into_iter().chain(node.overlay_addresses()) {
                policies
                    .set_identity(GENERATION, address.into(), NODE)
                    .unwrap();
            }
        }
        Self {
            near,
            far,
            server,
            clients,
            strangers,
        }
    }

    fn server_at(&self, family: usize, port: u16) -> SocketAddr {
        SocketAddr::new(self.server.addresses()[family], port)
    }
}

fn everywhere(act: impl Fn(&World, usize)) {
    for mode in [Mode::Overlay, Mode::Direct] {
        for family in 0..2 {
            act(&World::new(mode), family);
        }
    }
}

/// Whether what one says the other hears.
fn speaks(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    from.write_all(b"x").unwrap();
    let mut buffer = [0];
    to.set_read_timeout(Some(Duration::from_millis(700)))
        .unwrap();
    match to.read_exact(&mut buffer) {
        Ok(()) => true,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(error) => panic!("{error}"),
    }
}

fn accepted(listener: &TcpListener, client: &TcpStream) -> TcpStream {
    let (stream, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    stream.set_nodelay(true).unwrap();
    stream
}

#[test]
fn only_what_the_table_allows_comes_in() {
    everywhere(|world, family| {
        let at = |number| world.server_at(family, number);
        let _listeners = [80, 81].map(|number| listen(&world.server, family, number));
        let comes = |pod: &Pod, number| connect(&pod.namespace, at(number)).is_some();
        for pod in world.clients.iter().chain(&world.strangers) {
            assert!(comes(pod, 80), "nobody is isolated");
        }
        isolate(&world.near, &world.server, Some(TABLE), None, 1);
        for pod in world.clients.iter().chain(&world.strangers) {
            assert!(!comes(pod, 80), "closed");
        }
        let rows: [(u32, &[_]); 2] = [(CLIENT, &[(port(TCP, 80), true)]), (NODE, &[(ALL, true)])];
        table(&world.near, TABLE, &rows);
        for (client, stranger) in world.clients.iter().zip(&world.strangers) {
            assert!(comes(client, 80));
            assert!(!comes(client, 81) && !comes(stranger, 80));
            let udp = (&world.server.namespace, at(80));
            assert!(!asks(
                (&client.namespace, client.addresses()[family]),
                udp,
                8
            ));
        }
        assert!(world.near.drops(Reason::PolicyIngress) >= 8);
        assert_eq!(world.far.drops(Reason::PolicyIngress), 0);
        assert!(connect(&world.near.namespace, at(81)).is_some());
        world
            .near
            .datapath
            .policies()
            .remove(world.server.endpoint.id)
            .unwrap();
        assert!(comes(&world.strangers[0], 81));
    });
}

#[test]
fn only_what_the_table_allows_goes_out_and_answers_always_do() {
    everywhere(|world, family| {
        let server = (&world.server.namespace, world.server_at(family, 53));
        for (node, client) in [&world.far, &world.near].into_iter().zip(&world.clients) {
            let own = client.addresses()[family];
            isolate(node, client, Some(TABLE), Some(OTHER_TABLE), 1);
            assert!(!asks((&client.namespace, own), server, 8));
            table(node, OTHER_TABLE, &[(SERVER, &[(port(UDP, 53), true)])]);
            // Also in fragments.
            for size in [8, 5000] {
                // The first large one tells its sender what the path carries.
                let ask = || asks((&client.namespace, own), server, size);
                assert!(ask() || ask(), "{size}");
            }
            let back = (&client.namespace, SocketAddr::new(own, 53));
            assert!(!asks((server.0, server.1.ip()), back, 8), "the other way");
            let connection = node.datapath.policies().connections().unwrap();
            assert!(
                connection
                    .iter()
                    .all(|c| c.made_by == MadeBy::Endpoint && c.rule == 7)
            );
            assert!(node.drops(Reason::PolicyEgress) >= 1);
        }
    });
}

#[test]
fn what_is_connected_is_judged_again_when_the_policy_changes() {
    everywhere(|world, family| {
        let allow = |allow| table(&world.near, TABLE, &[(CLIENT, &[(port(TCP, 80), allow)])]);
        isolate(&world.near, &world.server, Some(TABLE), None, 1);
        allow(true);
        let listener = listen(&world.server, family, 80);
        for client in &world.clients {
            let mut near = connect(&client.namespace, world.server_at(family, 80)).unwrap();
            let mut far = accepted(&listener, &near);
            assert!(speaks(&mut near, &mut far) && speaks(&mut far, &mut near));
            allow(false);
            assert!(speaks(&mut near, &mut far), "the revision is the same");
            isolate(&world.near, &world.server, Some(TABLE), None, 2);
            assert!(!speaks(&mut near, &mut far));
            allow(true);
            // TCP tries again.
            eventually("it is allowed again", || speaks(&mut near, &mut far));
            isolate(&world.near, &world.server, Some(TABLE), None, 1);
        }
    });
}

#[test]
fn what_was_connected_before_the_isolation_goes_on_if_it_could_be_made() {
    everywhere(|world, family| {
        let (client, node) = (&world.clients[0], &world.far);
        let listener = listen(&world.server, family, 80);
        let mut near = connect(&client.namespace, world.server_at(family, 80)).unwrap();
        let mut far = accepted(&listener, &near);
        // Nothing may come in. The server speaks first.
        isolate(node, client, Some(TABLE), None, 1);
        assert!(speaks(&mut far, &mut near) && speaks(&mut near, &mut far));
        // Nothing may go out either.
        isolate(node, client, Some(TABLE), Some(OTHER_TABLE), 2);
        assert!(!speaks(&mut near, &mut far));
    });
}

#[test]
fn a_server_cannot_come_back_on_its_clients_connection() {
    everywhere(|world, family| {
        let (client, node) = (&world.clients[0], &world.far);
        isolate(node, client, Some(TABLE), None, 1);
        let listener = listen(&world.server, family, 80);
        let near = connect(&client.namespace, world.server_at(family, 80)).unwrap();
        let own = near.local_addr().unwrap();
        let far = accepted(&listener, &near);
        // Who ends it first keeps its port for a while.
        drop(near);
        drop((far, listener));
        let _listener = client.namespace.enter(|| TcpListener::bind(own));
        // From the server's port to the client's: the same connection, but for who makes it.
        let script = format!(
            "timeout 1 nc -w 1 -s {} -p 80 {} {}",
            world.server.addresses()[family],
            own.ip(),
            own.port()
        );
        assert!(!world.server.namespace.try_sh(&script).status.success());
        eventually("its SYN was dropped", || {
            node.drops(Reason::PolicyIngress) > 0
        });
    });
}

#[test]
fn echoes_have_a_direction_and_errors_find_their_connection() {
    everywhere(|world, family| {
        let (client, node) = (&world.clients[0], &world.far);
        let (own, server) = (client.addresses()[family], world.server.addresses()[family]);
        isolate(node, client, Some(TABLE), Some(OTHER_TABLE), 1);
        assert!(!client.namespace.pings(server));
        table(node, OTHER_TABLE, &[(SERVER, &[(ALL, true)])]);
        assert!(client.namespace.pings(server), "every protocol");
        assert!(!world.server.namespace.pings(own));
        // Nobody listens: the server's stack says so, and the pod hears it.
        let socket = client
            .namespace
            .enter(|| UdpSocket::bind((own, 0)).unwrap());
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        socket.connect((server, 9)).unwrap();
        socket.send(b"x").unwrap();
        let error = socket.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn the_more_specific_decides() {
    everywhere(|world, family| {
        let _listeners = [80, 1025, 2000].map(|number| listen(&world.server, family, number));
        let comes =
            |pod: &Pod, number| connect(&pod.namespace, world.server_at(family, number)).is_some();
        isolate(&world.near, &world.server, Some(TABLE), None, 1);
        // Everybody may; strangers may not; but on ports 1024 to 2047 they may, except for 2000.
        let range = PortPrefix {
            protocol: TCP,
            port: 1024,
            bits: 14,
        };
        let strangers = [(range, true), (port(TCP, 2000), false)];
        table(
            &world.near,
            TABLE,
            &[(identity::NONE, &[(ALL, true)]), (STRANGER, &strangers)],
        );
        for (client, stranger) in world.clients.iter().zip(&world.strangers) {
            assert_eq!(
                [80, 1025, 2000].map(|number| comes(client, number)),
                [true; 3]
            );
            assert_eq!(
                [80, 1025, 2000].map(|number| comes(stranger, number)),
                [false, true, false]
            );
        }
        let events = world.near.datapath.events().unwrap();
        let denied = std::iter::from_fn({
            let mut events = events;
            move || events.next_event()
        });
        let denied: Vec<_> = denied
            .filter(|event| event.reason == Reason::PolicyIngress)
            .collect();
        assert!(!denied.is_empty() && denied.iter().all(|event| event.rule == 7));
    });
}
