//! What is true of the machine: this boot, and its BPF filesystem.
use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::error::{Error, Result};

/// Where the BPF filesystem belongs.
pub const BPFFS: &str = "/sys/fs/bpf";

/// A name for the time since the machine started: what was true of links and namespaces is worthless under another one.
///
/// # Errors
/// [`Error::File`].
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).map_err(|source| Error::file("read", path, source))?;
    Ok(text.trim_end().to_owned())
}

/// Whether a path is on a BPF filesystem.
#[must_use]
pub fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// Mount the BPF filesystem at [`BPFFS`] unless it is there; whether that was needed.
///
/// # Errors
/// [`Error::File`], [`Error::Privilege`].
pub fn ensure_bpffs() -> Result<bool> {
    if is_bpffs(Path::new(BPFFS)) {
        return Ok(false);
    }
    mount(
        Some("bpf"),
        BPFFS,
        Some("bpf"),
        MsFlags::empty(),
        Some("mode=0700"),
    )
    .map_err(|errno| Error::file("mount the BPF filesystem at", BPFFS, errno.into()))?;
    Ok(true)
}
