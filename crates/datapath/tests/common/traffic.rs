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
    let (client, server) = (udp_socket(from.0, from.1), udp_socket(to.0, to.1));
    client.send_to(b"there", server.local_addr()?)?;
    let mut buffer = [0; 16];
    let (length, sender) = server.recv_from(&mut buffer)?;
    assert_eq!(
        (&buffer[..length], sender),
        (&b"there"[..], client.local_addr()?)
    );
    server.send_to(b"back", sender)?;
    let (length, _) = client.recv_from(&mut buffer)?;
    assert_eq!(&buffer[..length], b"back");
    Ok(())
}

/// Two megabytes there, and their sum back: large enough for segments of every size.
pub fn tcp(from: (&Namespace, IpAddr), to: (&Namespace, IpAddr)) -> std::io::Result<()> {
    let listener = to.0.enter(|| TcpListener::bind((to.1, 0)))?;
    let address = listener.local_addr()?;
    let data: Vec<u8> = (0..2_000_000u32).map(|number| number as u8).collect();
    let wanted = data.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    std::thread::scope(|scope| {
        let server = scope.spawn(move || -> std::io::Result<SocketAddr> {
            let (mut stream, peer) = listener.accept()?;
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
        let mut stream = from
            .0
            .enter(|| TcpStream::connect_timeout(&address, PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&data)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut sum = [0; 8];
        stream.read_exact(&mut sum)?;
        assert_eq!(u64::from_be_bytes(sum), wanted);
        assert_eq!(
            server.join().unwrap()?.ip(),
            from.1,
            "the server sees the client's own address"
        );
        Ok(())
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
