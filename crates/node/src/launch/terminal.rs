//! Terminals.

use std::{io, os::fd::OwnedFd};

use nix::pty::{OpenptyResult, openpty};
use rustix::io::{FdFlags, fcntl_setfd};

/// Both ends of a terminal.
pub struct Terminal {
    /// The user's.
    pub master: OwnedFd,
    /// The program's.
    pub slave: OwnedFd,
}

/// Makes a terminal.
///
/// # Errors
/// When /dev/ptmx is missing, or there are too many.
pub fn open() -> io::Result<Terminal> {
    let OpenptyResult { master, slave } = openpty(None, None)?;
    fcntl_setfd(&master, FdFlags::CLOEXEC)?;
    fcntl_setfd(&slave, FdFlags::CLOEXEC)?;
    Ok(Terminal { master, slave })
}
