//! Terminals. They are made inside the container, so that they have a name there, and the user's end is passed out.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::pty::{OpenptyResult, openpty};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};

/// Both ends of a terminal.
pub struct Terminal {
    /// The user's.
    pub master: OwnedFd,
    /// The program's.
    pub slave: OwnedFd,
}

/// Makes a terminal in this process's /dev/pts.
///
/// # Errors
/// When /dev/ptmx is missing, or there are too many.
pub fn open() -> io::Result<Terminal> {
    let OpenptyResult { master, slave } = openpty(None, None)?;
    fcntl_setfd(&master, FdFlags::CLOEXEC)?;
    fcntl_setfd(&slave, FdFlags::CLOEXEC)?;
    Ok(Terminal { master, slave })
}

/// Makes a terminal for `user`, passes the user's end through a socket and gives the program's.
///
/// # Errors
/// When it cannot be made or passed.
pub fn open_for(user: u32, socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let Terminal { master, slave } = open()?;
    nix::unistd::fchown(&slave, Some(nix::unistd::Uid::from_raw(user)), None)?;
    let descriptors = [master.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(
        socket,
        &[IoSlice::new(b"t")],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(slave)
}

/// Takes what [`open_for`] passed; waits for it.
///
/// # Errors
/// When the other end was closed instead.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut messages = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    messages
        .next()
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
