//! `malha lab connect`: one connection, tried from where one is, with a word for what came of it.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::Result;

use crate::icmp;

/// How to knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A TCP connection is opened and closed.
    Tcp,
    /// A datagram is sent to an echo server and has to come back.
    Udp,
    /// An ICMP echo; the port is not used.
    Icmp,
}

impl std::str::FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "icmp" => Ok(Self::Icmp),
            _ => Err(format!("{text:?} is no protocol; use tcp, udp or icmp")),
        }
    }
}

/// Tries once.
///
/// # Errors
/// Why it did not work.
pub fn attempt(to: SocketAddr, protocol: Protocol, timeout: Duration) -> std::io::Result<()> {
    match protocol {
        Protocol::Tcp => TcpStream::connect_timeout(&to, timeout).map(drop),
        Protocol::Udp => udp_echo(to, timeout),
        Protocol::Icmp => icmp::ping(to.ip(), 1, timeout),
    }
}

/// The word for a failure: `TIMEOUT`, `REFUSED` or `OTHER`.
#[must_use]
pub fn word(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "TIMEOUT",
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => "REFUSED",
        _ => "OTHER",
    }
}

fn udp_echo(to: SocketAddr, timeout: Duration) -> std::io::Result<()> {
    let any: SocketAddr = if to.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.connect(to)?;
    let sent = b"malha lab probe";
    socket.send(sent)?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    if answer[..length] == sent[..] {
        Ok(())
    } else {
        Err(std::io::Error::new(
            ErrorKind::InvalidData,
            "something else came back",
        ))
    }
}
