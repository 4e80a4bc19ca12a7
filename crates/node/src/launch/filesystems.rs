//! The filesystems that every container has of its own: /proc, /sys, /dev, /run, /tmp.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::symlink,
    },
    path::Path,
};

use nix::mount::{MsFlags, mount};

use super::{
    spec::{Failure, Privileges},
    sys,
};

/// Parts of /proc and /sys that speak of the whole machine: not readable.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];
/// Parts of /proc that change the whole machine: not writable.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Mounts them at their usual places, which are made.
pub fn mount_all(privileges: &Privileges, cgroups: Option<OwnedFd>) -> Result<(), Failure> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let sys_flags = if privileges.privileged {
        quiet
    } else {
        quiet | MsFlags::MS_RDONLY
    };
    let dev_flags = MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME;
    let terminals = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    let temporary = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let table = [
        ("/proc", "proc", quiet, ""),
        ("/sys", "sysfs", sys_flags, ""),
        ("/dev", "tmpfs", dev_flags, "mode=755,size=65536k"),
        (
            "/dev/pts",
            "devpts",
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
            terminals,
        ),
        ("/dev/shm", "tmpfs", quiet, "mode=1777,size=65536k"),
        ("/dev/mqueue", "mqueue", quiet, ""),
        ("/run", "tmpfs", temporary, "mode=755"),
        ("/tmp", "tmpfs", temporary, "mode=1777"),
    ];
    for (at, kind, flags, options) in table {
        let failed = |e: io::Error| Failure::setup(format!("cannot mount {kind} at {at}"), e);
        fs::create_dir_all(at).map_err(failed)?;
        match mount(Some(kind), at, Some(kind), flags, Some(options)) {
            // A kernel without POSIX queues has no filesystem for them.
            Err(nix::Error::ENODEV) if kind == "mqueue" => {}
            other => other.map_err(|e| failed(e.into()))?,
        }
    }
    for extra in ["/var/tmp", "/run/lock"] {
        if Path::new(extra).is_dir() {
            tmpfs(Path::new(extra), "mode=1777")
                .map_err(|e| Failure::setup(format!("cannot cover {extra}"), e))?;
        }
    }
    attach_cgroups(cgroups).map_err(|e| Failure::setup("cannot mount the cgroups", e))
}

/// The machine's hierarchies for a privileged container; others see their own limits where there is one hierarchy.
fn attach_cgroups(cgroups: Option<OwnedFd>) -> io::Result<()> {
    let at = Path::new("/sys/fs/cgroup");
    if let Some(tree) = cgroups {
        sys::change_tree(&tree, 0, libc::MS_SLAVE)?;
        return sys::attach_tree(tree.as_fd(), at);
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    // Not there with cgroups of version 1 alone, or without a kernel that has them.
    let _ = mount(Some("cgroup2"), at, Some("cgroup2"), flags, None::<&str>);
    Ok(())
}

/// Covers a directory with an empty, writable filesystem in memory.
///
/// # Errors
/// When the directory does not exist.
pub fn tmpfs(at: &Path, options: &str) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("malha"), at, Some("tmpfs"), flags, Some(options))?;
    Ok(())
}

/// Takes from an unprivileged container what of /proc and /sys is the machine's.
///
/// # Errors
/// As the kernel says.
pub fn protect() -> io::Result<()> {
    for path in MASKED.map(Path::new) {
        let Ok(metadata) = fs::metadata(path) else {
            continue;
        };
        if metadata.is_dir() {
            let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            mount(Some("malha"), path, Some("tmpfs"), flags, Some("mode=000"))?;
        } else {
            mount(
                Some("/dev/null"),
                path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )?;
        }
    }
    for path in READ_ONLY.map(Path::new).into_iter().filter(|p| p.exists()) {
        mount(
            Some(path),
            path,
            None::<&str>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&str>,
        )?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, path, None::<&str>, flags, None::<&str>)?;
    }
    Ok(())
}

/// The links of /dev that programs rely on.
///
/// # Errors
/// When one exists already.
pub fn device_links() -> io::Result<()> {
    let links = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("pts/ptmx", "/dev/ptmx"),
    ];
    for (target, link) in links {
        symlink(target, link)?;
    }
    Ok(())
}
