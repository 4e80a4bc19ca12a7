//! Places to mount at, made where the image has none.
//!
//! The image may be read-only. A directory that lacks a place is then rebuilt: a small tmpfs covers it, in which each of
//! its entries is attached again, and the place is made beside them.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::symlink,
    },
    path::{Component, Path, PathBuf},
};

use rustix::io::Errno;

use super::{filesystems, sys};

/// As many symbolic links as the kernel follows.
const MAX_LINKS: usize = 40;

/// What can be mounted on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory on a directory.
    Directory,
    /// Anything else on anything else.
    File,
}

/// Makes sure that `path` exists and is of a kind; gives the path without symbolic links.
///
/// # Errors
/// When the place exists and is of the other kind, or cannot be made.
pub fn ensure(path: &Path, kind: Kind) -> io::Result<PathBuf> {
    let path = follow(path)?;
    if let Ok(metadata) = fs::metadata(&path) {
        let is = if metadata.is_dir() {
            Kind::Directory
        } else {
            Kind::File
        };
        return match (is, kind) {
            (Kind::Directory, Kind::File) => {
                Err(io::Error::other("a file cannot be mounted on a directory"))
            }
            (Kind::File, Kind::Directory) => {
                Err(io::Error::other("a directory cannot be mounted on a file"))
            }
            _ => Ok(path),
        };
    }
    match create(&path, kind) {
        Err(error) if read_only(&error) => {
            let existing = path
                .ancestors()
                .find(|a| a.is_dir())
                .unwrap_or(Path::new("/"));
            rebuild(existing)?;
            create(&path, kind)?;
        }
        other => other?,
    }
    Ok(path)
}

fn read_only(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

/// Makes a directory or an empty file, with its parents.
///
/// # Errors
/// As the kernel says.
pub fn create(path: &Path, kind: Kind) -> io::Result<()> {
    match kind {
        Kind::Directory => fs::create_dir_all(path),
        Kind::File => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::File::create(path).map(drop)
        }
    }
}

/// The path that the kernel would reach, also where its end does not exist yet.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut reached = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = parts(path).collect();
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            reached.pop();
            continue;
        }
        let next = reached.join(&part);
        let Ok(target) = fs::read_link(&next) else {
            reached = next;
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        if target.is_absolute() {
            reached = PathBuf::from("/");
        }
        for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
            ahead.push_front(part);
        }
    }
    Ok(reached)
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

enum Content {
    Link(PathBuf),
    Tree(OwnedFd, Kind),
}

fn rebuild(directory: &Path) -> io::Result<()> {
    let mut contents = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        let content = if kind.is_symlink() {
            Content::Link(fs::read_link(&path)?)
        } else {
            let kind = if kind.is_dir() {
                Kind::Directory
            } else {
                Kind::File
            };
            Content::Tree(sys::copy_tree(&path)?, kind)
        };
        contents.push((path, content));
    }
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(directory)?.permissions()) & 0o7777;
    filesystems::tmpfs(directory, &format!("mode={mode:o}"))?;
    for (path, content) in contents {
        match content {
            Content::Link(target) => symlink(target, path)?,
            Content::Tree(tree, kind) => {
                create(&path, kind)?;
                sys::attach_tree(tree.as_fd(), &path)?;
            }
        }
    }
    Ok(())
}
