//! TCP and UDP between namespaces. A socket stays in the namespace it was made in, so no thread has to live there.
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Namespace;

const PATIENCE: Duration = Duration::from_secs(5);

pub fn udp_socket(namespace: &Namespace, address: IpAddr) -> UdpSocket {
    let socket = namespace.enter(|| UdpSocket::bind((address, 0)).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// One datagram there and one back.
pub fn udp(from: (&Namespace, IpAddr), to: (&Namespace, IpAddr)) -> std::io::Result<()> {
    let server = udp_socket(to.0, to.1);
    let peer = udp_through(from, server.local_addr()?, &server, 16)?;
    assert_eq!(peer, from.1, "the server sees the client's own address");
    Ok(())
}

/// As [`udp`], dialling another address than the server's; the datagrams are so large. Whom the server saw.
///
/// Only a lost large datagram of IPv6 tells its sender what the path carries: such are tried three times.
pub fn udp_through(
    from: (&Namespace, IpAddr),
    dial: SocketAddr,
    server: &UdpSocket,
    size: usize,
) -> std::io::Result<IpAddr> {
    let client = udp_socket(from.0, from.1);
    // A connected socket takes nothing from anybody else.
    client.connect(dial)?;
    let large = size > 1232 && dial.is_ipv6();
    let patience = if large {
        Duration::from_secs(1)
    } else {
        PATIENCE
    };
    client.set_read_timeout(Some(patience))?;
    server.set_read_timeout(Some(patience))?;
    let mut buffer = vec![0; size + 1];
    let mut attempt = || {
        client.send(&vec![1; size])?;
        let (length, peer) = server.recv_from(&mut buffer)?;
        assert_eq!(buffer[..length], vec![1; size]);
        server.send_to(&vec![2; size], peer)?;
        let length = client.recv(&mut buffer)?;
        assert_eq!(buffer[..length], vec![2; size]);
        Ok(peer.ip())
    };
    let first = attempt();
    if large {
        first.or_else(|_| attempt()).or_else(|_| attempt())
    } else {
        first
    }
}

/// Two megabytes there, and their sum back: large enough for segments of every size.
pub fn tcp(from: (&Namespace, IpAddr), to: (&Namespace, IpAddr)) -> std::io::Result<()> {
    let listener = to.0.enter(|| TcpListener::bind((to.1, 0)))?;
    let peer = tcp_through(from, listener.local_addr()?, &listener)?;
    assert_eq!(peer, from.1, "the server sees the client's own address");
    Ok(())
}

/// As [`tcp`], dialling another address than the server's. Whom the server saw.
pub fn tcp_through(
    from: (&Namespace, IpAddr),
    dial: SocketAddr,
    listener: &TcpListener,
) -> std::io::Result<IpAddr> {
    let data: Vec<u8> = (0..2_000_000u32).map(|number| number as u8).collect();
    let wanted = data.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    // Before anybody waits for it.
    let mut stream = from
        .0
        .enter(|| TcpStream::connect_timeout(&dial, PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    std::thread::scope(|scope| {
        let server = scope.spawn(move || -> std::io::Result<SocketAddr> {
            let (mut stream, peer) = listener.accept()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut received = Vec::new();
            stream.read_to_end(&mut received)?;
            stream.write_all(
                &received
                    .iter()
                    .map(|byte| u64::from(*byte))
                    .sum::<u64>()
                    .to_be_bytes(),
            )?;
            Ok(peer)
        });
        stream.write_all(&data)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut sum = [0; 8];
        stream.read_exact(&mut sum)?;
        assert_eq!(u64::from_be_bytes(sum), wanted);
        Ok(server.join().unwrap()?.ip())
    })
}

/// Numbered datagrams at a steady pace while `act` runs; how many were sent and which did not arrive.
pub fn lost_during(
    from: (&Namespace, IpAddr),
    to: (&Namespace, IpAddr),
    act: impl FnOnce(),
) -> (u64, Vec<u64>) {
    let (client, server) = (udp_socket(from.0, from.1), udp_socket(to.0, to.1));
    let address = server.local_addr().unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut number = 0u64;
            while running.load(Ordering::Relaxed) {
                client.send_to(&number.to_be_bytes(), address).unwrap();
                number += 1;
                std::thread::sleep(Duration::from_micros(100));
            }
            number
        });
        let receiver = scope.spawn(|| {
            let mut seen = std::collections::BTreeSet::new();
            let mut buffer = [0; 8];
            while let Ok(8) = server.recv(&mut buffer) {
                seen.insert(u64::from_be_bytes(buffer));
            }
            seen
        });
        act();
        running.store(false, Ordering::Relaxed);
        let sent = sender.join().unwrap();
        let seen = receiver.join().unwrap();
        (
            sent,
            (0..sent).filter(|number| !seen.contains(number)).collect(),
        )
    })
}
