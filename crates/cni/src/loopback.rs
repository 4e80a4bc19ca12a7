//! `lo` of a network namespace. A new namespace has it, down; the kernel gives it its addresses when it comes up.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
};

use rustix::{
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// `lo` is the first interface of every namespace.
const LO: i32 = 1;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const IFF_UP: u32 = 1;
/// `nlmsghdr` and `ifinfomsg`, 16 bytes each.
const HEADER: usize = 16;
const REQUEST: usize = 32;

/// What `lo` is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether it is up.
    pub up: bool,
    /// Whether it has `::1` (not where IPv6 is switched off).
    pub v6: bool,
}

/// Brings `lo` up. It may be up already.
///
/// # Errors
/// Of the kernel, for example when `netns` is no network namespace.
pub fn up(netns: BorrowedFd<'_>) -> io::Result<State> {
    within(netns, || {
        ask(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, IFF_UP)?;
        state()
    })
}

/// Looks at `lo`.
///
/// # Errors
/// Of the kernel.
pub fn look(netns: BorrowedFd<'_>) -> io::Result<State> {
    within(netns, state)
}

/// Runs `work` in a network namespace, on a thread that ends with it: the caller's stays where it is.
fn within<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let inside = || {
        move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
        work()
    };
    let panicked = |_| {
        Err(io::Error::other(
            "the thread in the network namespace panicked",
        ))
    };
    thread::scope(|scope| scope.spawn(inside).join().unwrap_or_else(panicked))
}

fn state() -> io::Result<State> {
    let reply = ask(RTM_GETLINK, NLM_F_REQUEST, 0)?;
    let flags = reply.get(HEADER + 8..HEADER + 12).ok_or_else(short)?;
    let flags = u32::from_ne_bytes(flags.try_into().map_err(|_| short())?);
    let addresses = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
    let v6 = addresses
        .lines()
        .any(|line| line.split_whitespace().last() == Some("lo"));
    Ok(State {
        up: flags & IFF_UP != 0,
        v6,
    })
}

/// One request about `lo` to the kernel, and its reply.
fn ask(kind: u16, options: u16, flags: u32) -> io::Result<Vec<u8>> {
    // NETLINK_ROUTE is protocol 0.
    let socket: OwnedFd = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    send(&socket, &message(kind, options, flags), SendFlags::empty())?;
    let mut reply = vec![0; 16 << 10];
    let (length, _) = recv(socket.as_fd(), &mut reply[..], RecvFlags::empty())?;
    reply.truncate(length);
    let number = |at: usize| {
        reply
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map(i32::from_ne_bytes)
    };
    let kind = reply
        .get(4..6)
        .and_then(|b| b.try_into().ok())
        .map(u16::from_ne_bytes)
        .ok_or_else(short)?;
    match (kind, number(HEADER)) {
        (NLMSG_ERROR, Some(0)) => Ok(reply),
        (NLMSG_ERROR, Some(errno)) => Err(io::Error::from_raw_os_error(-errno)),
        (NLMSG_ERROR, None) => Err(short()),
        _ => Ok(reply),
    }
}

fn message(kind: u16, options: u16, flags: u32) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&options.to_ne_bytes());
    bytes[20..24].copy_from_slice(&LO.to_ne_bytes());
    bytes[24..28].copy_from_slice(&flags.to_ne_bytes());
    bytes[28..32].copy_from_slice(&IFF_UP.to_ne_bytes());
    bytes
}

fn short() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the kernel's reply about lo is too short",
    )
}
