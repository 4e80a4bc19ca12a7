//! What a shim passes on: a container's output to its log and to whoever is attached, their input to the container.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
};

use jiff::Timestamp;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    attach::{self, Decoder, Kind},
    log::LogFile,
    spec::Stdio,
    sys,
};
use crate::logs::{Lines, Stream};

/// Who is attached and does not read loses the connection when this much waits for it.
const MAX_OUTBOX: usize = 1 << 20;
/// No more is read from who is attached while this much waits for the container.
const MAX_PENDING: usize = 64 * 1024;
/// How often orphans are looked for where they come here.
const REAP_MILLISECONDS: u16 = 2_000;
/// How long output may come after the container's end.
const DRAIN_MILLISECONDS: u16 = 1_000;

/// One stream that the container writes.
pub struct Source {
    fd: std::fs::File,
    stream: Stream,
    lines: Lines,
    open: bool,
}

impl Source {
    /// A pipe's or terminal's reading end.
    pub fn new(fd: OwnedFd, stream: Stream) -> Self {
        unblock(&fd);
        Self {
            fd: fd.into(),
            stream,
            lines: Lines::new(stream),
            open: true,
        }
    }
}

/// What the container reads.
pub struct Input {
    fd: Option<std::fs::File>,
    tty: bool,
    pending: Vec<u8>,
    end: bool,
}

impl Input {
    /// A pipe's or terminal's writing end.
    pub fn new(fd: OwnedFd, tty: bool) -> Self {
        unblock(&fd);
        Self {
            fd: Some(fd.into()),
            tty,
            pending: Vec::new(),
            end: false,
        }
    }

    fn flush(&mut self) {
        if let Some(file) = &mut self.fd {
            match file.write(&self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.fd = None,
            }
        }
        if self.fd.is_none() {
            self.pending.clear();
        }
        if self.end && self.pending.is_empty() && !self.tty {
            self.fd = None;
        }
    }
}

fn unblock(fd: &OwnedFd) {
    let _ = fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
}

/// Somebody who is attached.
struct Client {
    socket: UnixStream,
    inbox: Decoder,
    outbox: Vec<u8>,
    open: bool,
}

/// All of it.
pub struct Relay {
    listener: UnixListener,
    log: LogFile,
    input: Option<Input>,
    sources: Vec<Source>,
    clients: Vec<Client>,
    stdio: Stdio,
}

impl Relay {
    /// Nobody attached yet.
    pub fn new(
        listener: UnixListener,
        log: LogFile,
        input: Option<Input>,
        sources: Vec<Source>,
        stdio: Stdio,
    ) -> Self {
        Self {
            listener,
            log,
            input,
            sources,
            clients: Vec::new(),
            stdio,
        }
    }

    /// Waits for something to happen and deals with it. `process` is the container's descriptor.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub fn step(&mut self, process: Option<&OwnedFd>, reaping: bool) -> io::Result<()> {
        let timeout = if reaping {
            PollTimeout::from(REAP_MILLISECONDS)
        } else {
            PollTimeout::NONE
        };
        self.wait(process, timeout)?;
        self.accept();
        self.read_clients();
        self.read_sources();
        if let Some(input) = &mut self.input {
            input.flush();
        }
        self.write_clients();
        Ok(())
    }

    /// After the container's end: what is still in the pipes, and the last frames to who is attached.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub fn drain(&mut self) -> io::Result<()> {
        self.input = None;
        self.read_sources();
        while self.sources.iter().any(|s| s.open) {
            if self.wait(None, PollTimeout::from(DRAIN_MILLISECONDS))? == 0 {
                break;
            }
            self.read_sources();
            self.write_clients();
        }
        let now = Timestamp::now();
        let mut lines = Vec::new();
        for source in &mut self.sources {
            source.lines.finish(now, &mut lines);
        }
        self.write_log(&lines, now);
        for client in &mut self.clients {
            let _ = client.socket.set_nonblocking(false);
            let _ = client
                .socket
                .set_write_timeout(Some(std::time::Duration::from_secs(1)));
            let _ = client.socket.write_all(&client.outbox);
        }
        Ok(())
    }

    fn wait(&self, process: Option<&OwnedFd>, timeout: PollTimeout) -> io::Result<i32> {
        let full = self
            .input
            .as_ref()
            .is_some_and(|i| i.pending.len() >= MAX_PENDING);
        let mut waits: Vec<PollFd<'_>> = Vec::new();
        if let Some(process) = process {
            waits.push(PollFd::new(process.as_fd(), PollFlags::POLLIN));
            waits.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        }
        for source in self.sources.iter().filter(|s| s.open) {
            waits.push(PollFd::new(source.fd.as_fd(), PollFlags::POLLIN));
        }
        for client in &self.clients {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, !full && process.is_some());
            flags.set(PollFlags::POLLOUT, !client.outbox.is_empty());
            // Even asked for nothing the kernel tells of a closed socket, over and over.
            if !flags.is_empty() {
                waits.push(PollFd::new(client.socket.as_fd(), flags));
            }
        }
        let input = self.input.as_ref().filter(|i| !i.pending.is_empty());
        if let Some(file) = input.and_then(|i| i.fd.as_ref()) {
            waits.push(PollFd::new(file.as_fd(), PollFlags::POLLOUT));
        }
        match poll(&mut waits, timeout) {
            Err(nix::Error::EINTR) => Ok(1),
            other => Ok(other?),
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if socket.set_nonblocking(true).is_ok() {
                let client = Client {
                    socket,
                    inbox: Decoder::default(),
                    outbox: Vec::new(),
                    open: true,
                };
                self.clients.push(client);
            }
        }
    }

    fn read_sources(&mut self) {
        let now = Timestamp::now();
        let mut buffer = [0; 16 * 1024];
        let mut lines = Vec::new();
        for source in self.sources.iter_mut().filter(|s| s.open) {
            match source.fd.read(&mut buffer) {
                Ok(0) => source.open = false,
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    source.lines.push(bytes, now, &mut lines);
                    let kind = match source.stream {
                        Stream::Stdout => Kind::Stdout,
                        Stream::Stderr => Kind::Stderr,
                    };
                    for client in &mut self.clients {
                        attach::encode(kind, bytes, &mut client.outbox);
                        client.open &= client.outbox.len() <= MAX_OUTBOX;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A terminal that no program has open any more says EIO.
                Err(_) => source.open = false,
            }
        }
        self.write_log(&lines, now);
    }

    fn write_log(&mut self, lines: &[u8], now: Timestamp) {
        if let Err(error) = self.log.write(lines, now) {
            eprintln!("shim: cannot write the log: {error}");
        }
    }

    fn read_clients(&mut self) {
        let mut buffer = [0; 16 * 1024];
        for client in &mut self.clients {
            if self
                .input
                .as_ref()
                .is_some_and(|i| i.pending.len() >= MAX_PENDING)
            {
                return;
            }
            match client.socket.read(&mut buffer) {
                Ok(0) => {
                    client.open = false;
                    if self.stdio.stdin_once
                        && let Some(input) = &mut self.input
                    {
                        input.end = true;
                    }
                }
                Ok(count) => client.inbox.push(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => client.open = false,
            }
            client.open &= take_frames(&mut client.inbox, self.input.as_mut(), self.stdio).is_ok();
        }
        self.clients.retain(|c| c.open);
    }

    fn write_clients(&mut self) {
        for client in self.clients.iter_mut().filter(|c| !c.outbox.is_empty()) {
            match client.socket.write(&client.outbox) {
                Ok(written) => drop(client.outbox.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => client.open = false,
            }
        }
        self.clients.retain(|c| c.open);
    }
}

fn take_frames(
    inbox: &mut Decoder,
    mut input: Option<&mut Input>,
    stdio: Stdio,
) -> Result<(), attach::NotAFrame> {
    while let Some((kind, bytes)) = inbox.take()? {
        let Some(input) = input.as_deref_mut() else {
            continue;
        };
        match kind {
            Kind::Stdin if bytes.is_empty() => input.end |= stdio.stdin_once,
            Kind::Stdin => input.pending.extend_from_slice(&bytes),
            Kind::Resize => {
                if let (Some((columns, rows)), Some(file)) =
                    (attach::read_window(&bytes), &input.fd)
                {
                    let _ = sys::set_window(file, columns, rows);
                }
            }
            Kind::Stdout | Kind::Stderr => {}
        }
    }
    Ok(())
}
