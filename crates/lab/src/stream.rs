//! `malha lab stream`: numbered datagrams to an echo server, at a steady pace, and which of them came back.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::Serialize;

/// How long after the last datagram its echo may take.
const LINGER: Duration = Duration::from_secs(1);

/// What came of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Datagrams sent.
    pub sent: u32,
    /// Sent, and never seen again.
    pub lost: u32,
    /// The numbers of the first lost ones.
    pub first_lost: Vec<u32>,
    /// The longest time between two echoes, in milliseconds.
    pub longest_gap_ms: u64,
}

/// Sends `count` datagrams, one every `interval`, and waits for their echoes.
///
/// # Errors
/// When the socket cannot be used; a datagram that cannot be sent counts as lost.
pub fn run(to: SocketAddr, count: u32, interval: Duration) -> Result<Outcome> {
    let any: SocketAddr = if to.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).context("cannot open a socket")?;
    socket
        .connect(to)
        .with_context(|| format!("cannot send to {to}"))?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let last = Instant::now() + interval * count;
    let (seen, gap) = std::thread::scope(|scope| {
        let echoes = scope.spawn(|| collect(&socket, count, last + LINGER));
        let begun = Instant::now();
        for number in 0..count {
            std::thread::sleep(
                (begun + interval * number).saturating_duration_since(Instant::now()),
            );
            // Refused by an ICMP error that an earlier datagram met: this one is lost like any other.
            let _ = socket.send(&number.to_be_bytes());
        }
        echoes
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let missing: Vec<u32> = (0..count)
        .filter(|number| !seen[*number as usize])
        .collect();
    Ok(Outcome {
        sent: count,
        lost: u32::try_from(missing.len()).unwrap_or(u32::MAX),
        first_lost: missing.into_iter().take(10).collect(),
        longest_gap_ms: u64::try_from(gap.as_millis()).unwrap_or(u64::MAX),
    })
}

/// Which numbers came back, and the longest silence between two.
fn collect(socket: &UdpSocket, count: u32, until: Instant) -> (Vec<bool>, Duration) {
    let mut seen = vec![false; count as usize];
    let (mut left, mut gap, mut previous) = (count, Duration::ZERO, None::<Instant>);
    let mut bytes = [0; 4];
    while left > 0 && Instant::now() < until {
        match socket.recv(&mut bytes) {
            Ok(4) => {
                let now = Instant::now();
                gap = gap.max(previous.map_or(Duration::ZERO, |before| now - before));
                previous = Some(now);
                let slot = seen.get_mut(u32::from_be_bytes(bytes) as usize);
                if let Some(slot @ false) = slot {
                    *slot = true;
                    left -= 1;
                }
            }
            Err(error)
                if !matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused
                ) =>
            {
                break;
            }
            _ => {}
        }
    }
    (seen, gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_back_is_counted() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4];
            while let Ok((_, from)) = server.recv_from(&mut bytes) {
                if u32::from_be_bytes(bytes) % 10 != 3 {
                    server.send_to(&bytes, from).unwrap();
                }
            }
        });
        let outcome = run(to, 20, Duration::from_millis(1)).unwrap();
        assert_eq!((outcome.sent, outcome.lost), (20, 2));
        assert_eq!(outcome.first_lost, [3, 13]);
    }
}
