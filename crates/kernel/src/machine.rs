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

/// Mount the BPF filesystem at [`BPFFS`] unless it is there; whether that was needed. Never where only this container
/// would see it: what is pinned there would end with the container.
///
/// # Errors
/// [`Error::File`], [`Error::Privilege`].
pub fn ensure_bpffs() -> Result<bool> {
    if is_bpffs(Path::new(BPFFS)) {
        return Ok(false);
    }
    let path = "/proc/self/mountinfo";
    let mounts = fs::read_to_string(path).map_err(|source| Error::file("read", path, source))?;
    if is_private_mount(&mounts, BPFFS) {
        let remedy = "the host has no BPF filesystem there: run `mount -t bpf bpf /sys/fs/bpf` on the host, \
                      and have it mounted at boot";
        let source = std::io::Error::other(remedy);
        return Err(Error::file("use", BPFFS, source));
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

/// Whether unmounting the BPF filesystem here unmounts it for the host, too: not in a container with a copy of the mount.
#[must_use]
pub fn is_bpffs_shared() -> bool {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo");
    mounts.is_ok_and(|mounts| !is_private_mount(&mounts, BPFFS))
}

/// Whether a path is a mount of its own that passes nothing on.
fn is_private_mount(mountinfo: &str, path: &str) -> bool {
    let fields = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
    let is_here = |line: &&str| line.split(' ').nth(4) == Some(path);
    let last = mountinfo.lines().rfind(is_here).map(fields);
    last.is_some_and(|fields| {
        let mut optional = fields.iter().skip(6).take_while(|field| *field != "-");
        !optional.any(|field| field.starts_with("shared:"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_mount_is_told_from_a_shared_one_and_from_none() {
        let line = |options: &str| {
            format!(
                "25 22 0:22 / /sys rw - sysfs sysfs rw\n31 25 0:22 /fs/bpf /sys/fs/bpf rw,nosuid{options} - sysfs sysfs rw\n"
            )
        };
        assert!(is_private_mount(&line(""), BPFFS));
        assert!(is_private_mount(&line(" master:7"), BPFFS));
        assert!(!is_private_mount(&line(" shared:9"), BPFFS));
        assert!(!is_private_mount(&line(" master:7 shared:9"), BPFFS));
        assert!(!is_private_mount(
            "25 22 0:22 / /sys rw - sysfs sysfs rw\n",
            BPFFS
        ));
        // The last one is on top.
        let both = line("") + &line(" shared:9");
        assert!(!is_private_mount(&both, BPFFS));
    }
}
