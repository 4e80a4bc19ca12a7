//! DEL requests of the time without an agent.
//!
//! The plugin writes one file per attachment and then calls the agent once more: an agent that came up meanwhile was
//! either listening (then it answers) or started to listen after the file was there (then it finds the file, because
//! it looks after it has begun to listen). Container IDs may come again, so the agent serves these files before it
//! accepts the first connection: an old DEL never takes down a new attachment.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::message::{Request, Verb};
use crate::files;

/// A plugin that writes a file for so long was killed over it.
const ABANDONED: Duration = Duration::from_secs(60);

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
    let (complete, partial): (Vec<_>, Vec<_>) =
        paths.partition(|path| path.extension().is_some_and(|e| e == "json"));
    partial.iter().for_each(|path| remove_abandoned(path));
    let read = complete.iter().filter_map(|path| read(socket, path));
    read.collect()
}

/// A file whose name is not its request's has been damaged: its DEL could be somebody else's.
fn read(socket: &Path, file: &Path) -> Option<Request> {
    let request = Request::from_line(&fs::read(file).ok()?, None);
    match request {
        Ok(request) if request.verb == Verb::Del && path(socket, &request) == file => Some(request),
        _ => {
            let _ = fs::remove_file(file);
            None
        }
    }
}

fn remove_abandoned(path: &Path) {
    let modified = fs::metadata(path).and_then(|meta| meta.modified());
    let age = modified.ok().and_then(|time| time.elapsed().ok());
    if age.is_some_and(|age| age >= ABANDONED) {
        let _ = fs::remove_file(path);
    }
}

/// Both names are checked by the plugin before: neither has a `/`.
fn path(socket: &Path, request: &Request) -> PathBuf {
    directory(socket).join(format!("{}+{}.json", request.container_id, request.ifname))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::json;

    use super::*;
    use crate::types::{Args, PluginConf};

    fn request() -> Request {
        let conf = json!({ "cniVersion": "1.1.0", "name": "malha", "type": "malha-cni" });
        Request {
            verb: Verb::Del,
            container_id: "4f6c1d".to_owned(),
            ifname: "eth0".to_owned(),
            netns_path: "/run/netns/a".to_owned(),
            netns: None,
            args: Args::parse("K8S_POD_NAMESPACE=default;K8S_POD_NAME=web").unwrap(),
            config: PluginConf::parse(conf.to_string().as_bytes()).unwrap(),
        }
    }

    #[test]
    fn a_damaged_file_never_detaches_another() {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("cni.sock");
        assert!(put(&socket, &request()).unwrap());
        let file = path(&socket, &request());
        let whole = fs::read(&file).unwrap();
        let outcome = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            let listed = list(&socket);
            for listed in &listed {
                let same = (listed.container_id.as_str(), listed.ifname.as_str());
                assert_eq!((listed.verb, same), (Verb::Del, ("4f6c1d", "eth0")));
            }
            assert_eq!(file.exists(), !listed.is_empty());
            !listed.is_empty()
        };
        for length in 0..whole.len() {
            let mut cut = whole[..length].to_vec();
            let complete = whole[length..].trim_ascii().is_empty();
            assert_eq!(outcome(&cut), complete, "{length}");
            cut.resize(whole.len(), 0);
            outcome(&cut);
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                outcome(&bytes);
            }
        }
        assert!(outcome(&whole));
    }

    #[test]
    fn what_a_killed_plugin_began_is_removed_after_a_while() {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("cni.sock");
        fs::create_dir(directory(&socket)).unwrap();
        let [old, new] = ["old", "new"].map(|name| directory(&socket).join(name));
        for file in [&old, &new] {
            fs::write(file, b"{").unwrap();
        }
        let file = fs::File::options().write(true).open(&old).unwrap();
        file.set_modified(SystemTime::now() - 2 * ABANDONED)
            .unwrap();
        assert!(list(&socket).is_empty());
        assert!(new.exists() && !old.exists());
    }
}
