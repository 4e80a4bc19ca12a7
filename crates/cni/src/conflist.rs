//! The configuration list and the plugin, put where container runtimes look for them.
//!
//! A list in its directory is what makes a node Ready, so it goes there last, and away while pods cannot be served.
//! containerd reloads when a file is renamed inside the directory; a file moved in from elsewhere it never notices.
//!
//! `"cniVersion": "1.0.0"` beside `"cniVersions"` is the form that every runtime takes: those that know only the
//! former key have libcni 1.1 and refuse 1.1.0, those that know the latter choose 1.1.0 and so call STATUS and GC.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use malha_core::paths;
use serde_json::json;

use crate::files;

/// The plugin's name: its binary's, and `type` in the list.
pub const PLUGIN: &str = "malha-cni";
/// The name under which containerd looks for the plugin that brings `lo` up.
pub const LOOPBACK: &str = "loopback";

/// The list's text. `capabilities` are those that the agent serves, for example `portMappings`; `socket` is written
/// only when it is not the usual one.
pub fn render(network: &str, capabilities: &[&str], socket: &Path) -> String {
    let mut plugin = json!({ "type": PLUGIN });
    if !capabilities.is_empty() {
        plugin["capabilities"] = capabilities
            .iter()
            .map(|name| ((*name).to_owned(), json!(true)))
            .collect();
    }
    if socket != Path::new(paths::CNI_SOCKET) {
        plugin["socket"] = json!(socket);
    }
    let list = json!({
        "cniVersion": "1.0.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": network,
        "plugins": [plugin],
    });
    format!("{list:#}\n")
}

/// Puts the list into its directory, which is made if need be. Says whether anything changed.
///
/// # Errors
/// Of the file system; then the directory is as it was.
pub fn install(directory: &Path, text: &str) -> io::Result<bool> {
    fs::create_dir_all(directory)?;
    let path = directory.join(paths::CNI_CONFLIST);
    if fs::read(&path).is_ok_and(|present| present == text.as_bytes()) {
        return Ok(false);
    }
    files::write_atomic(&path, 0o644, text.as_bytes())?;
    Ok(true)
}

/// Takes the list away. Says whether it was there.
///
/// # Errors
/// Of the file system.
pub fn remove(directory: &Path) -> io::Result<bool> {
    files::remove(&directory.join(paths::CNI_CONFLIST))
}

/// Puts the plugin into a directory of plugins, and a link to it named `loopback` unless there is such a plugin.
/// Renamed into place: a plugin that runs meanwhile neither fails nor stops this with "text file busy".
///
/// # Errors
/// Of the file system; then an older plugin is still there.
pub fn install_plugin(source: &Path, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut from = File::open(source)?;
    files::replace(&directory.join(PLUGIN), 0o755, |to| {
        io::copy(&mut from, to).map(|_| ())
    })?;
    match std::os::unix::fs::symlink(PLUGIN, directory.join(LOOPBACK)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
