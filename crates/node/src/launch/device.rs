//! Devices of a container.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::filesystems;

/// Directories and files of the host's /dev that are no devices of the machine, or that every container has of its own.
const NOT_OF_HOST: [&str; 9] = [
    "fd", "mqueue", "ptmx", "pts", "shm", "stderr", "stdin", "stdout", "console",
];

/// One device.
#[derive(Clone, Debug)]
pub struct Device {
    path: PathBuf,
    kind: SFlag,
    mode: u32,
    number: u64,
}

/// What every container has.
pub fn standard() -> Vec<Device> {
    let table = [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ];
    let device = |(name, major, minor)| Device {
        path: Path::new("/dev").join(name),
        kind: SFlag::S_IFCHR,
        mode: 0o666,
        number: makedev(major, minor),
    };
    table.map(device).to_vec()
}

/// What the host has, for privileged containers.
pub fn of_host() -> Vec<Device> {
    let mut devices = Vec::new();
    walk(Path::new("/dev"), &mut devices);
    for device in standard() {
        if !devices.iter().any(|d| d.path == device.path) {
            devices.push(device);
        }
    }
    devices
}

fn walk(directory: &Path, devices: &mut Vec<Device>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        if directory == Path::new("/dev") && NOT_OF_HOST.iter().any(|n| name == *n) {
            continue;
        }
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => {
                walk(&path, devices);
                continue;
            }
            kind if kind.is_char_device() => SFlag::S_IFCHR,
            kind if kind.is_block_device() => SFlag::S_IFBLK,
            _ => continue,
        };
        let (mode, number) = (metadata.mode() & 0o7777, metadata.rdev());
        devices.push(Device {
            path,
            kind,
            mode,
            number,
        });
    }
}

/// Makes them below the container's empty /dev.
///
/// # Errors
/// As the kernel says.
pub fn make(devices: &[Device]) -> io::Result<()> {
    let mask = nix::sys::stat::umask(Mode::empty());
    for device in devices {
        if let Some(parent) = device.path.parent() {
            fs::create_dir_all(parent)?;
        }
        mknod(
            &device.path,
            device.kind,
            Mode::from_bits_truncate(device.mode),
            device.number,
        )?;
    }
    nix::sys::stat::umask(mask);
    filesystems::device_links()
}
