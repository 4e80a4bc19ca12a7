//! What lies on a host, for comparing.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use anyhow::{Context, Result};

use crate::Host;

/// A file, directory, link or socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `file`, `directory`, `link` or `other`.
    pub kind: &'static str,
    /// Permissions; 0 for links.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// A file's text, a link's target.
    pub content: String,
}

/// By absolute path.
pub type Tree = BTreeMap<String, Entry>;

impl Host {
    /// Everything at and below some directories; what does not exist has no entry.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn tree(&self, tops: &[&str]) -> Result<Tree> {
        let mut found = Tree::new();
        let mut left: Vec<String> = tops.iter().map(|top| (*top).to_owned()).collect();
        while let Some(absolute) = left.pop() {
            let path = self.path(&absolute);
            let Some(entry) = gone(read(&path)).with_context(|| absolute.clone())? else {
                continue;
            };
            if entry.kind == "directory" {
                for inner in gone(fs::read_dir(&path))?.into_iter().flatten() {
                    let name = inner?.file_name();
                    left.push(format!("{absolute}/{}", name.to_string_lossy()));
                }
            }
            found.insert(absolute, entry);
        }
        Ok(found)
    }
}

fn read(path: &Path) -> io::Result<Entry> {
    let metadata = fs::symlink_metadata(path)?;
    let kind = metadata.file_type();
    let (kind, content) = if kind.is_symlink() {
        ("link", fs::read_link(path)?.display().to_string())
    } else if kind.is_dir() {
        ("directory", String::new())
    } else if kind.is_file() {
        let bytes = fs::read(path)?;
        ("file", String::from_utf8_lossy(&bytes).into_owned())
    } else {
        (
            if kind.is_socket() { "socket" } else { "other" },
            String::new(),
        )
    };
    let mode = match kind {
        "link" => 0,
        _ => metadata.mode() & 0o7777,
    };
    Ok(Entry {
        kind,
        mode,
        owner: (metadata.uid(), metadata.gid()),
        content,
    })
}

/// What a running program removes meanwhile was not there.
fn gone<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
