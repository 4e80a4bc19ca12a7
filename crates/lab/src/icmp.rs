//! One echo request and its reply (RFC 792, RFC 4443), through a socket that the kernel matches replies for, or, where
//! `ping_group_range` does not allow that (pods of most runtimes), through a raw one.

use std::{
    io::{Error, ErrorKind, Result},
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto,
        setsockopt, socket, sockopt::ReceiveTimeout,
    },
    time::TimeVal,
};

const ECHO_REQUEST: [u8; 2] = [8, 128];
const ECHO_REPLY: [u8; 2] = [0, 129];
const PAYLOAD: &[u8] = b"malha lab probe";

/// Sends one echo request and waits for the reply.
///
/// # Errors
/// When none comes in time ([`ErrorKind::TimedOut`]), or a router says why none will.
pub fn ping(to: IpAddr, sequence: u16, timeout: Duration) -> Result<()> {
    let six = usize::from(to.is_ipv6());
    let (socket, raw) = open(to)?;
    setsockopt(
        &socket,
        ReceiveTimeout,
        &TimeVal::new(timeout.as_secs() as i64, i64::from(timeout.subsec_micros())),
    )?;
    let mut packet = vec![ECHO_REQUEST[six], 0, 0, 0, 0, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend(PAYLOAD);
    // With a datagram socket the kernel writes identifier and checksum, and for IPv6 the latter with any.
    if raw && six == 0 {
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
    }
    let address = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(socket.as_raw_fd(), &packet, &address, MsgFlags::empty())?;
    let mut reply = [0; 128];
    loop {
        let length = recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty()).map_err(timed_out)?;
        // A raw IPv4 socket hands the IP header over, too.
        let header = if raw && six == 0 {
            usize::from(reply[0] & 0xf) * 4
        } else {
            0
        };
        if is_reply(reply[..length].get(header..).unwrap_or(&[]), six, sequence) {
            return Ok(());
        }
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(packet: &[u8]) -> u16 {
    let words = packet
        .chunks(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let mut sum: u32 = words.map(u32::from).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn is_reply(packet: &[u8], six: usize, sequence: u16) -> bool {
    packet.len() == 8 + PAYLOAD.len()
        && packet[0] == ECHO_REPLY[six]
        && packet[6..8] == sequence.to_be_bytes()
        && &packet[8..] == PAYLOAD
}

/// A socket, and whether it is a raw one.
fn open(to: IpAddr) -> Result<(OwnedFd, bool)> {
    let (family, protocol) = if to.is_ipv4() {
        (AddressFamily::Inet, SockProtocol::Icmp)
    } else {
        (AddressFamily::Inet6, SockProtocol::IcmpV6)
    };
    let open = |kind| socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol);
    match open(SockType::Datagram) {
        Ok(socket) => Ok((socket, false)),
        Err(nix::Error::EACCES) => Ok((open(SockType::Raw)?, true)),
        Err(other) => Err(other.into()),
    }
}

fn timed_out(errno: nix::Error) -> Error {
    match errno {
        nix::Error::EAGAIN => Error::new(ErrorKind::TimedOut, "no reply"),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_packet_with_its_checksum_is_zero() {
        let mut packet = vec![8, 0, 0, 0, 0, 0, 0, 7];
        packet.extend(PAYLOAD);
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
        assert_eq!(checksum(&packet), 0);
        assert_eq!(
            checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2,
            "RFC 1071's example"
        );
    }
}
