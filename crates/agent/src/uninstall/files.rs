//! What agents brought to the file system. Directories of others stay, empty or not: a runtime that watches its own may
//! take it badly when it goes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use malha_cni::conflist;
use malha_core::paths::CNI_CONFLIST;

use super::{Trace, Verb};
use crate::before::{BOOT_FILE, Before};
use crate::config::Paths;
use crate::lock;

/// The configuration list.
pub fn configuration(paths: &Paths, _: &Before) -> Result<Vec<Trace>> {
    installed(&paths.cni_conf, CNI_CONFLIST)
}

/// The plugin, and its other name unless that is another plugin's.
pub fn plugin(paths: &Paths, _: &Before) -> Result<Vec<Trace>> {
    let mut traces = installed(&paths.cni_bin, conflist::PLUGIN)?;
    let loopback = paths.cni_bin.join(conflist::LOOPBACK);
    if fs::read_link(&loopback).is_ok_and(|target| target == Path::new(conflist::PLUGIN)) {
        traces.push(file(loopback));
    }
    Ok(traces)
}

/// Sockets and records; others have files in the same directory.
pub fn state(paths: &Paths, before: &Before) -> Result<Vec<Trace>> {
    let all = [
        paths.cni_socket.clone(),
        paths.api_socket.clone(),
        malha_cni::wire::deferred::directory(&paths.cni_socket),
        paths.state.clone(),
        paths.run.join(BOOT_FILE),
        before.path().with_extension("new"),
    ];
    let there = all
        .into_iter()
        .filter(|path| path.symlink_metadata().is_ok());
    Ok(there
        .map(|path| {
            if path.is_dir() {
                tree(path)
            } else {
                file(path)
            }
        })
        .collect())
}

/// The last: what this uninstalling itself relied on, and the directory unless others have files there.
pub fn forget(paths: &Paths, before: &Before) {
    for path in [before.path(), &lock::path(&paths.run)] {
        if let Err(error) = absent_is_fine(fs::remove_file(path)) {
            tracing::warn!(path = %path.display(), %error, "a file of the agent is left");
        }
    }
    let _ = fs::remove_dir(&paths.run);
}

/// A file, and what an installation that was cut short left beside it.
fn installed(directory: &Path, name: &str) -> Result<Vec<Trace>> {
    let temporary = format!(".{name}.");
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", directory.display()));
        }
    };
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let ours = names.filter(|found| {
        found == name || (found.starts_with(&temporary) && found.ends_with(".tmp"))
    });
    Ok(ours.map(|found| file(directory.join(found))).collect())
}

fn file(path: PathBuf) -> Trace {
    let object = path.display().to_string();
    Trace::new(Verb::Remove, object, move || {
        Ok(absent_is_fine(fs::remove_file(path))?)
    })
}

fn tree(path: PathBuf) -> Trace {
    let object = path.display().to_string();
    Trace::new(Verb::Remove, object, move || {
        Ok(absent_is_fine(fs::remove_dir_all(path))?)
    })
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
