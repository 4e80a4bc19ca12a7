//! The agent's side.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::{
    deferred,
    message::{Answer, Request, WireError, read_request, write_reply},
};
use crate::types::{CniError, code};

/// How long a connected plugin may take to send its request, and to take its reply.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests served at one time. A node of 500 pods that restarts stays below it.
const AT_ONCE: usize = 1024;

/// A socket on which plugins find the agent. The file goes away with it.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    stop: Stopper,
}

/// Ends [`Server::serve`] from another thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<OwnedFd>);

impl Stopper {
    /// No further connection is accepted; requests being served are finished.
    pub fn stop(&self) {
        // It fails only when the counter is full, that is, when it was stopped often enough.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

impl Server {
    /// Listens on `path` (mode 0600), in place of whoever listened there before. Its directory must exist.
    ///
    /// # Errors
    /// Of the file system and of the socket.
    pub fn bind(path: &Path) -> io::Result<Self> {
        // Renamed into place, so that there is no moment without a socket while one agent replaces another.
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let _ = fs::remove_file(&temporary);
        let listener = UnixListener::bind(&temporary)?;
        listener.set_nonblocking(true)?;
        let placed = fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))
            .and_then(|()| fs::metadata(&temporary))
            .and_then(|meta| fs::rename(&temporary, path).map(|()| meta.ino()));
        if placed.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        let stop = Stopper(Arc::new(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?));
        Ok(Self {
            listener,
            path: path.to_owned(),
            inode: placed?,
            stop,
        })
    }

    /// What ends [`serve`](Self::serve).
    pub fn stopper(&self) -> Stopper {
        self.stop.clone()
    }

    /// Serves until stopped, a thread per request; first the DELs that plugins left while no agent was there.
    /// Returns when the last request is answered.
    ///
    /// `handle` is called from many threads at once. Only root's requests reach it.
    ///
    /// # Errors
    /// When the socket itself fails.
    pub fn serve(&self, handle: impl Fn(Request) -> Answer + Sync) -> io::Result<()> {
        self.serve_deferred(&handle);
        let running = AtomicUsize::new(0);
        thread::scope(|scope| {
            while self.wait()? {
                let stream = match self.listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        pause_after(&error);
                        continue;
                    }
                };
                if running.fetch_add(1, Ordering::Relaxed) >= AT_ONCE {
                    running.fetch_sub(1, Ordering::Relaxed);
                    let _ = refuse(&stream);
                    continue;
                }
                let (handle, running) = (&handle, &running);
                let work = move || {
                    // A plugin that went away or sent garbage has nobody left to tell.
                    let _ = answer(&stream, handle);
                    running.fetch_sub(1, Ordering::Relaxed);
                };
                if thread::Builder::new()
                    .name("cni".into())
                    .spawn_scoped(scope, work)
                    .is_err()
                {
                    running.fetch_sub(1, Ordering::Relaxed);
                }
            }
            Ok(())
        })
    }

    fn serve_deferred(&self, handle: &impl Fn(Request) -> Answer) {
        for request in deferred::list(&self.path) {
            let file = deferred::Ticket::of(&self.path, &request);
            // A DEL that fails stays for the next start; the attachment's record is there as well.
            if handle(request).is_ok() {
                file.served();
            }
        }
    }

    /// Whether there is a connection to accept; false when stopped.
    fn wait(&self) -> io::Result<bool> {
        let mut sources = [
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&*self.stop.0, PollFlags::IN),
        ];
        match poll(&mut sources, None) {
            Ok(_) => Ok(sources[1].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A successor may have put its own socket there already.
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn answer(stream: &UnixStream, handle: &impl Fn(Request) -> Answer) -> Result<(), WireError> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // The plugin's pid is 0 here: it lives in the machine's pid namespace, the agent in its pod's. (rustix takes that
    // for impossible, and its answer for an error.)
    let peer = getsockopt(stream, PeerCredentials).map_err(io::Error::from)?;
    if peer.uid() != 0 {
        return Err(WireError::Forbidden(peer.uid()));
    }
    match read_request(stream) {
        Ok(request) => write_reply(stream, &handle(request)),
        Err(error @ (WireError::Io(_) | WireError::Closed)) => Err(error),
        Err(error) => write_reply(stream, &Err(CniError::new(code::DECODE, error.to_string()))),
    }
}

fn refuse(stream: &UnixStream) -> Result<(), WireError> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let busy = format!("the agent serves {AT_ONCE} requests already");
    write_reply(stream, &Err(CniError::new(code::TRY_AGAIN, busy)))
}

/// Out of descriptors or memory: the connection is still waiting, and accepting it at once would only spin.
fn pause_after(error: &io::Error) {
    let nothing_there = matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted
    );
    if !nothing_there {
        thread::sleep(Duration::from_millis(10));
    }
}
