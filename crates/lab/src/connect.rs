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

/// Something to knock at: `tcp:10.244.1.2:80`, `udp:[fd00::2]:80`, `icmp:10.244.1.2:0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// How.
    pub protocol: Protocol,
    /// Where.
    pub at: SocketAddr,
    /// As it was written.
    pub text: String,
}

impl std::str::FromStr for Door {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no target; write for example tcp:10.244.1.2:80");
        let (protocol, at) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self {
            protocol: protocol.parse()?,
            at: at.parse().map_err(|_| wrong())?,
            text: text.to_owned(),
        })
    }
}

/// Knocks at all of them at once: `OK`, or [`word`], for each.
#[must_use]
pub fn all(doors: &[Door], timeout: Duration) -> Vec<&'static str> {
    let knock = |door: &Door| match attempt(door.at, door.protocol, timeout) {
        Ok(()) => "OK",
        Err(error) => word(&error),
    };
    std::thread::scope(|scope| {
        let knocking: Vec<_> = doors
            .iter()
            .map(|door| scope.spawn(move || knock(door)))
            .collect();
        let heard = knocking.into_iter().map(|thread| thread.join());
        heard.map(|word| word.unwrap_or("OTHER")).collect()
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let door: Door = "udp:[fd00::2]:80".parse().unwrap();
        assert_eq!((door.protocol, door.at.port()), (Protocol::Udp, 80));
        for wrong in ["10.0.0.1:80", "tcp:10.0.0.1", "sctp:10.0.0.1:80", ""] {
            wrong.parse::<Door>().unwrap_err();
        }
    }

    #[test]
    fn every_door_has_its_word() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = format!("tcp:{}", listener.local_addr().unwrap());
        let closed = "udp:127.0.0.1:1".to_owned();
        let doors: Vec<Door> = [open, closed]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(all(&doors, Duration::from_secs(2)), ["OK", "REFUSED"]);
    }
}
