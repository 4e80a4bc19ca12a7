//! Files under /proc/sys. Those of the network belong to the network namespace of the thread that opens them.
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The value of a setting, without its newline; None: this kernel or namespace has no such setting. The name is a path
/// below /proc/sys, such as `net/ipv4/ip_forward`.
///
/// # Errors
/// [`Error::File`], [`Error::Privilege`].
pub fn get(name: &str) -> Result<Option<String>> {
    let path = path(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::file("read", path, source)),
    }
}

/// Set a setting unless it has the value; whether it was changed. Where the value is right, /proc/sys may be read-only.
///
/// # Errors
/// [`Error::File`] (also when there is no such setting), [`Error::Privilege`].
pub fn set(name: &str, value: &str) -> Result<bool> {
    if get(name)?.as_deref() == Some(value) {
        return Ok(false);
    }
    write(name, value)?;
    Ok(true)
}

/// Set a setting without looking first; where there is no such setting, that is fine.
///
/// # Errors
/// [`Error::File`], [`Error::Privilege`].
pub fn set_if_present(name: &str, value: &str) -> Result<()> {
    match write(name, value) {
        Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The names in a directory of settings, sorted; none where there is no such directory.
///
/// # Errors
/// [`Error::File`], [`Error::Privilege`].
pub fn list(directory: &str) -> Result<Vec<String>> {
    let path = path(directory);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::file("list", path, source)),
    };
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    Ok(names)
}

fn write(name: &str, value: &str) -> Result<()> {
    let path = path(name);
    // Not fs::write, which would ask to create and to truncate.
    let file = fs::OpenOptions::new().write(true).open(&path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, value.as_bytes()))
        .map_err(|source| Error::file("write", path, source))
}

fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}
