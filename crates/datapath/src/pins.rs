//! The pin directory: what keeps programs, maps and attachments alive without the agent.
//!
//! ```text
//! PINS/maps/NAME            the maps
//! PINS/programs-HASH/HOOK   the programs of the object with that hash, in force at every attachment
//! PINS/programs-HASH-new/   the same while attachments are being moved to them; found at start, the move is repeated
//! PINS/links/HOOK-IFINDEX   tcx attachments (filters need no pin)
//! ```
//! Names have no dots: that filesystem reserves them.
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::error::{Error, Result};
use crate::hooks::Hook;

/// Where the kernel's BPF filesystem belongs.
const BPFFS: &str = "/sys/fs/bpf";

/// The pin directory.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// The directory at `root`, which need not exist yet.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Make the directory and its parts; mount the BPF filesystem if it belongs at /sys/fs/bpf and is not there.
    pub fn create(&self) -> Result<()> {
        self.require_bpffs()?;
        for directory in [self.root.clone(), self.maps(), self.links()] {
            make_directory(&directory)?;
        }
        Ok(())
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the maps are.
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// Where the tcx links are.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// The pin of one link.
    pub fn link(&self, hook: Hook, ifindex: u32) -> PathBuf {
        self.links().join(format!("{}-{ifindex}", hook.name()))
    }

    /// All link pins.
    pub fn all_links(&self) -> Vec<(Hook, u32, PathBuf)> {
        let parse = |path: PathBuf| {
            let (name, ifindex) = path.file_name()?.to_str()?.rsplit_once('-')?;
            let hook = Hook::ALL.into_iter().find(|hook| hook.name() == name)?;
            Some((hook, ifindex.parse().ok()?, path))
        };
        children(&self.links())
            .into_iter()
            .filter_map(parse)
            .collect()
    }

    /// The programs of the object with this hash, once they are in force.
    pub fn programs(&self, hash: u64) -> PathBuf {
        self.root.join(format!("programs-{hash:016x}"))
    }

    /// The same while they are being put in force.
    pub fn new_programs(&self, hash: u64) -> PathBuf {
        self.root.join(format!("programs-{hash:016x}-new"))
    }

    /// Every directory of programs.
    pub fn all_programs(&self) -> Vec<PathBuf> {
        let is_ours = |path: &PathBuf| {
            path.file_name()
                .and_then(OsStr::to_str)
                .is_some_and(|name| name.starts_with("programs-"))
        };
        children(&self.root).into_iter().filter(is_ours).collect()
    }

    fn require_bpffs(&self) -> Result<()> {
        let existing = self
            .root
            .ancestors()
            .find(|path| path.exists())
            .unwrap_or(Path::new("/"));
        if is_bpffs(existing) {
            return Ok(());
        }
        let failed = |source| Error::BpfFs {
            path: existing.to_owned(),
            source,
        };
        if !self.root.starts_with(BPFFS) {
            return Err(failed(io::Error::other("another filesystem is there")));
        }
        tracing::info!(path = BPFFS, "mounting the BPF filesystem");
        mount(
            Some("bpf"),
            BPFFS,
            Some("bpf"),
            MsFlags::empty(),
            Some("mode=0700"),
        )
        .map_err(|errno| {
            let path = PathBuf::from(BPFFS);
            Error::BpfFs {
                path,
                source: errno.into(),
            }
        })
    }
}

/// Make a directory that only root may enter; an existing one is fine.
pub fn make_directory(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(path);
    made.map_err(|source| pin_error("make directory", path, source))
}

/// Remove a pin or an empty directory; that it is absent is fine.
pub fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(pin_error("remove", path, source))
        }
        _ => Ok(()),
    }
}

/// Remove a directory of pins.
pub fn remove_directory(path: &Path) -> Result<()> {
    children(path).iter().try_for_each(|pin| remove(pin))?;
    remove(path)
}

/// An error about a pin.
pub fn pin_error(what: &'static str, path: &Path, source: io::Error) -> Error {
    if source.raw_os_error() == Some(libc::EPERM) || source.raw_os_error() == Some(libc::EACCES) {
        return Error::Privilege {
            what: format!("{what} {}", path.display()),
        };
    }
    Error::Pin {
        what,
        path: path.to_owned(),
        source,
    }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    let mut paths: Vec<_> = entries.unwrap_or_default();
    paths.sort();
    paths
}
