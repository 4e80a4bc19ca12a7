//! One echo request and its reply (RFC 792, RFC 4443), through a socket that the kernel matches replies for.

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
    let socket = open(to)?;
    setsockopt(
        &socket,
        ReceiveTimeout,
        &TimeVal::new(timeout.as_secs() as i64, i64::from(timeout.subsec_micros())),
    )?;
    let mut packet = vec![ECHO_REQUEST[six], 0, 0, 0, 0, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend(PAYLOAD);
    // With a datagram socket the kernel writes identifier and checksum.
    let address = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(socket.as_raw_fd(), &packet, &address, MsgFlags::empty())?;
    let mut reply = [0; 128];
    loop {
        let length = recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty()).map_err(timed_out)?;
        if is_reply(&reply[..length], six, sequence) {
            return Ok(());
        }
    }
}

fn is_reply(packet: &[u8], six: usize, sequence: u16) -> bool {
    packet.len() == 8 + PAYLOAD.len()
        && packet[0] == ECHO_REPLY[six]
        && packet[6..8] == sequence.to_be_bytes()
        && &packet[8..] == PAYLOAD
}

fn open(to: IpAddr) -> Result<OwnedFd> {
    let (family, protocol) = if to.is_ipv4() {
        (AddressFamily::Inet, SockProtocol::Icmp)
    } else {
        (AddressFamily::Inet6, SockProtocol::IcmpV6)
    };
    // Every group may use these sockets inside a pod only if `ping_group_range` says so.
    Ok(socket(
        family,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        protocol,
    )?)
}

fn timed_out(errno: nix::Error) -> Error {
    match errno {
        nix::Error::EAGAIN => Error::new(ErrorKind::TimedOut, "no reply"),
        other => other.into(),
    }
}
