//! News of links, addresses and routes.
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::route::RouteAttribute;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, Result};

/// Multicast groups, of linux/rtnetlink.h: links, addresses and routes of both families.
const GROUPS: [u32; 5] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
];
const RECEIVE_BYTES: usize = 32 * 1024;

/// Something is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A link came, went or changed.
    Link {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
    },
    /// A link got or lost an address.
    Address {
        /// The link's index.
        device: u32,
    },
    /// A route came or went.
    Route {
        /// The link's index, if it leads out of one.
        device: Option<u32>,
        /// Who made it.
        protocol: u8,
        /// Whether it leads to a single address.
        host: bool,
    },
    /// More happened than the socket holds: look at everything.
    Lost,
}

/// Listens in the network namespace that it was made in, from then on.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
}

impl Monitor {
    /// In the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn new() -> Result<Self> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            socket.set_non_blocking(true)?;
            GROUPS
                .iter()
                .try_for_each(|group| socket.add_membership(*group))?;
            Ok(socket)
        };
        let socket =
            open().map_err(|source| Error::netlink("listen for news of links", source, None))?;
        Ok(Self { socket })
    }

    /// What has happened since the last call; waits for something to happen, at most so long.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn wait(&self, limit: Duration) -> Result<Vec<Event>> {
        let failed = |source| Error::netlink("read news of links", source, None);
        let milliseconds = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the descriptor belongs to the socket, which lives longer than the borrow.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) };
        let mut sources = [PollFd::new(descriptor, PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
        match poll(&mut sources, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        let mut events = Vec::new();
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => read(&buffer, &mut events),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(events),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    events.push(Event::Lost);
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

/// What this library cannot read is news nonetheless.
fn read(mut bytes: &[u8], events: &mut Vec<Event>) {
    while let Some(length) = bytes.first_chunk::<4>() {
        let length = u32::from_ne_bytes(*length) as usize;
        let Some(whole) = bytes.get(..length).filter(|_| length >= 16) else {
            return;
        };
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(whole) {
            Ok(message) => events.extend(event(message)),
            Err(_) => events.push(Event::Lost),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
}

fn event(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Event> {
    let NetlinkPayload::InnerMessage(message) = message.payload else {
        return None;
    };
    match message {
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            let name = link
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    LinkAttribute::IfName(name) => Some(name.clone()),
                    _ => None,
                });
            Some(Event::Link {
                index: link.header.index,
                name: name.unwrap_or_default(),
            })
        }
        RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
            Some(Event::Address {
                device: address.header.index,
            })
        }
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            let device = route
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    RouteAttribute::Oif(device) => Some(*device),
                    _ => None,
                });
            Some(Event::Route {
                device,
                protocol: route.header.protocol.into(),
                host: route.header.destination_prefix_length >= 32
                    && (route.header.destination_prefix_length == 128
                        || u8::from(route.header.address_family) == libc::AF_INET as u8),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_no_news_and_no_panic() {
        let mut events = Vec::new();
        for bytes in [
            &[][..],
            &[1, 2, 3],
            &[16, 0, 0, 0],
            &[255; 64],
            &[17, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
        ] {
            read(bytes, &mut events);
        }
        assert!(events.iter().all(|event| *event == Event::Lost));
    }
}
