//! DEL requests of the time without an agent.
//!
//! The plugin writes one file per attachment and then calls the agent once more: an agent that came up meanwhile was
//! either listening (then it answers) or started to listen after the file was there (then it finds the file, because
//! it looks after it has begun to listen). Container IDs may come again, so the agent serves these files before it
//! accepts the first connection: an old DEL never takes down a new attachment.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::message::{Request, Verb};
use crate::files;

/// The directory beside a socket.
pub fn directory(socket: &Path) -> PathBuf {
    socket.with_file_name("deferred")
}

/// Leaves a request for the next agent. Says whether there is anything to leave it for: without the socket's own
/// directory no agent has run since the machine started, so no attachment exists.
///
/// # Errors
/// When the file cannot be written.
pub fn put(socket: &Path, request: &Request) -> io::Result<bool> {
    let home = socket.parent().unwrap_or(Path::new("/"));
    if !home.exists() {
        return Ok(false);
    }
    match fs::create_dir(directory(socket)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    files::write_atomic(&path(socket, request), 0o600, &request.to_line())?;
    Ok(true)
}

/// The file of one request.
#[derive(Debug)]
pub struct Ticket(PathBuf);

impl Ticket {
    /// The file that [`put`] makes for this request.
    pub fn of(socket: &Path, request: &Request) -> Self {
        Self(path(socket, request))
    }

    /// The request was served: the file goes. One that stays is served once more, which does no harm.
    pub fn served(self) {
        let _ = files::remove(&self.0);
    }
}

/// Everything that was left. What cannot be read is removed: nothing can be learnt from it, and the agent gives back
/// what no namespace holds anyway.
pub(super) fn list(socket: &Path) -> Vec<Request> {
    let Ok(entries) = fs::read_dir(directory(socket)) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let complete = paths.filter(|path| path.extension().is_some_and(|e| e == "json"));
    complete.filter_map(|path| read(&path)).collect()
}

fn read(path: &Path) -> Option<Request> {
    let request = Request::from_line(&fs::read(path).ok()?, None);
    match request {
        Ok(request) if request.verb == Verb::Del => Some(request),
        _ => {
            let _ = fs::remove_file(path);
            None
        }
    }
}

/// Both names are checked by the plugin before: neither has a `/`.
fn path(socket: &Path, request: &Request) -> PathBuf {
    directory(socket).join(format!("{}+{}.json", request.container_id, request.ifname))
}
