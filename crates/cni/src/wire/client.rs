//! The plugin's side.

use std::{
    io,
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

use super::message::{Answer, Request, WireError, read_reply, write_request};

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens.
    #[error("nobody listens on it")]
    Absent,
    /// Nobody answered in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// Anything else.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Asks the agent that listens on `socket`, and waits at most about twice `limit` for all of it: once for handing
/// over the request, once for the answer. (The agent needs neither; only a stopped or overloaded one is that late.)
///
/// # Errors
/// When nobody listens, nobody answers in time, or the answer cannot be understood.
pub fn call(socket: &Path, request: &Request, limit: Duration) -> Result<Answer, CallError> {
    let started = Instant::now();
    let late = |error: WireError| match error {
        WireError::Io(error) if is_timeout(&error) => CallError::Timeout(started.elapsed()),
        other => CallError::Wire(other),
    };
    let stream = open(socket, limit)?;
    write_request(&stream, request).map_err(late)?;
    read_reply(&stream).map_err(late)
}

/// Connects with deadlines set beforehand: connecting waits too, when the agent's queue is full.
fn open(socket: &Path, limit: Duration) -> Result<UnixStream, CallError> {
    let attempt = || -> rustix::io::Result<UnixStream> {
        let stream = socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        set_socket_timeout(&stream, Timeout::Send, Some(limit))?;
        set_socket_timeout(&stream, Timeout::Recv, Some(limit))?;
        connect(&stream, &SocketAddrUnix::new(socket)?)?;
        Ok(UnixStream::from(stream))
    };
    attempt().map_err(|errno| {
        let error = io::Error::from(errno);
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => CallError::Absent,
            _ if is_timeout(&error) => CallError::Timeout(limit),
            _ => CallError::Wire(WireError::Io(error)),
        }
    })
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
