//! A container's root: put together from mounts that were copied while the host's files were still in sight.
//!
//! The order matters. [`Sources::collect`] takes detached copies of everything that is needed, so that what is shared
//! with the host stays shared. Then [`assemble`] makes this namespace's own tree private (nothing it mounts reaches the
//! host), turns to an empty root, and attaches the copies there. From then on a path means what it means in the
//! container: a symbolic link in a volume or an image cannot lead to the host.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::symlink,
    },
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{
    device::{self, Device},
    filesystems,
    place::{self, Kind},
    spec::{Failure, Mount, Propagation, Root, Spec},
    sys,
};
use crate::mounts::MountTable;

/// What every container has of its own, whatever its image holds there.
const OWN: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

type Result<T> = std::result::Result<T, Failure>;

/// One entry of the root directory.
enum Entry {
    Link {
        name: PathBuf,
        target: PathBuf,
    },
    Tree {
        name: PathBuf,
        tree: OwnedFd,
        kind: Kind,
    },
}

/// A volume, detached.
struct Volume {
    target: PathBuf,
    tree: OwnedFd,
    kind: Kind,
}

/// Everything that comes from outside.
pub struct Sources {
    entries: Vec<Entry>,
    volumes: Vec<Volume>,
    devices: Vec<Device>,
    cgroups: Option<OwnedFd>,
}

impl Sources {
    /// Copies the mounts that `spec` names. The process must already be in a mount namespace of its own.
    pub fn collect(spec: &Spec) -> Result<Self> {
        let entries = match &spec.root {
            Root::Programs(programs) => {
                programs.iter().map(|p| program(p)).collect::<Result<_>>()?
            }
            Root::Host { .. } => host_entries()?,
        };
        let table =
            MountTable::read().map_err(|e| Failure::setup("cannot read the mount table", e))?;
        let volumes = spec
            .mounts
            .iter()
            .map(|m| volume(m, &table))
            .collect::<Result<_>>()?;
        let privileged = spec.privileges.privileged;
        let devices = if privileged {
            device::of_host()
        } else {
            device::standard()
        };
        let cgroups = Path::new("/sys/fs/cgroup");
        let cgroups = (privileged && cgroups.exists())
            .then(|| sys::copy_tree(cgroups).ok())
            .flatten();
        Ok(Self {
            entries,
            volumes,
            devices,
            cgroups,
        })
    }
}

fn program(path: &Path) -> Result<Entry> {
    let failed =
        |e: io::Error| Failure::setup(format!("cannot take {} into the image", path.display()), e);
    let tree = sys::copy_tree(path).map_err(failed)?;
    let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
    sys::change_tree(&tree, set, libc::MS_PRIVATE).map_err(failed)?;
    let name = Path::new("usr/bin").join(path.file_name().unwrap_or_default());
    Ok(Entry::Tree {
        name,
        tree,
        kind: Kind::File,
    })
}

fn host_entries() -> Result<Vec<Entry>> {
    let failed = |e: io::Error| Failure::setup("cannot read the host's root directory", e);
    let mut entries = Vec::new();
    for entry in fs::read_dir("/").map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (name, path) = (PathBuf::from(entry.file_name()), entry.path());
        if OWN.iter().any(|own| name == Path::new(own)) {
            continue;
        }
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(failed)?;
            entries.push(Entry::Link { name, target });
            continue;
        }
        let kind = if kind.is_dir() {
            Kind::Directory
        } else {
            Kind::File
        };
        let what =
            |e: io::Error| Failure::setup(format!("cannot take the host's {}", path.display()), e);
        let tree = sys::copy_tree(&path).map_err(what)?;
        let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV;
        sys::change_tree(&tree, set, libc::MS_PRIVATE).map_err(what)?;
        entries.push(Entry::Tree { name, tree, kind });
    }
    Ok(entries)
}

fn volume(mount: &Mount, table: &MountTable) -> Result<Volume> {
    let source = &mount.source;
    let failed = |e: io::Error| Failure::setup(format!("cannot mount {}", source.display()), e);
    let kind = if fs::metadata(source).map_err(failed)?.is_dir() {
        Kind::Directory
    } else {
        Kind::File
    };
    let tree = sys::copy_tree(source).map_err(failed)?;
    let propagation = match mount.propagation {
        Propagation::None => libc::MS_PRIVATE,
        Propagation::HostToContainer => libc::MS_SLAVE,
        Propagation::Bidirectional => {
            shared(source, table)?;
            0
        }
    };
    let set = if mount.read_only {
        libc::MOUNT_ATTR_RDONLY
    } else {
        0
    };
    sys::change_tree(&tree, set, propagation).map_err(failed)?;
    Ok(Volume {
        target: mount.target.clone(),
        tree,
        kind,
    })
}

/// A mount appears on the host only if the one it is made in is shared with the host.
fn shared(source: &Path, table: &MountTable) -> Result<()> {
    let real = fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
    match table.containing(&real) {
        Some(mount) if !mount.shared => Err(Failure {
            code: 128,
            message: format!(
                "path {} is mounted on {} but it is not a shared mount, which mountPropagation Bidirectional needs: \
                 run `mount --make-rshared {}`",
                source.display(),
                mount.point.display(),
                mount.point.display()
            ),
        }),
        _ => Ok(()),
    }
}

/// Makes the root and turns to it. `at` is an empty directory.
pub fn assemble(spec: &Spec, sources: Sources, at: &Path) -> Result<()> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|e| Failure::setup("cannot make this container's mounts private", e))?;
    turn_to_empty_root(at)?;
    let failed = |what: &'static str| move |e: io::Error| Failure::setup(what, e);
    for entry in sources.entries {
        attach_entry(entry).map_err(failed("cannot attach the image"))?;
    }
    if let Root::Programs(_) = spec.root {
        minimal_files().map_err(failed("cannot write the image's files"))?;
    }
    filesystems::mount_all(&spec.privileges, sources.cgroups)?;
    if let Root::Host { hidden } = &spec.root {
        hide(hidden).map_err(failed("cannot hide the host's secrets"))?;
    }
    device::make(&sources.devices).map_err(failed("cannot make the devices"))?;
    for volume in sources.volumes {
        let what = || format!("cannot mount a volume at {}", volume.target.display());
        let target =
            place::ensure(&volume.target, volume.kind).map_err(|e| Failure::setup(what(), e))?;
        sys::attach_tree(volume.tree.as_fd(), &target).map_err(|e| Failure::setup(what(), e))?;
    }
    place::ensure(&spec.cwd, Kind::Directory).map_err(|e| {
        Failure::setup(
            format!("cannot make the working directory {}", spec.cwd.display()),
            e,
        )
    })?;
    if spec.read_only_root || matches!(spec.root, Root::Host { .. }) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
            .map_err(|e| Failure::setup("cannot make the root read-only", e))?;
    }
    if !spec.privileges.privileged {
        filesystems::protect().map_err(failed("cannot protect /proc"))?;
    }
    Ok(())
}

/// The old root is let go at once: it was below the new one for a moment only.
fn turn_to_empty_root(at: &Path) -> Result<()> {
    let failed = |e: nix::Error| Failure::setup("cannot turn to the container's root", e);
    mount(
        Some("malha"),
        at,
        Some("tmpfs"),
        MsFlags::MS_NODEV,
        Some("mode=755"),
    )
    .map_err(failed)?;
    nix::unistd::chdir(at).map_err(failed)?;
    nix::unistd::pivot_root(".", ".").map_err(failed)?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failed)?;
    nix::unistd::chdir("/").map_err(failed)
}

fn attach_entry(entry: Entry) -> io::Result<()> {
    match entry {
        Entry::Link { name, target } => symlink(target, Path::new("/").join(name)),
        Entry::Tree { name, tree, kind } => {
            let at = Path::new("/").join(name);
            place::create(&at, kind)?;
            sys::attach_tree(tree.as_fd(), &at)
        }
    }
}

/// What programs expect of any system.
fn minimal_files() -> io::Result<()> {
    for directory in ["/etc", "/root", "/var", "/usr/bin"] {
        fs::create_dir_all(directory)?;
    }
    for (link, target) in [
        ("/bin", "usr/bin"),
        ("/sbin", "usr/bin"),
        ("/var/run", "/run"),
    ] {
        symlink(target, link)?;
    }
    fs::write(
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    )?;
    fs::write("/etc/group", "root:x:0:\nnobody:x:65534:\n")?;
    fs::write("/etc/nsswitch.conf", "hosts: files dns\n")
}

/// Covers directories; what is mounted below them is let go, so that the container keeps nothing of other pods.
fn hide(hidden: &[PathBuf]) -> io::Result<()> {
    let table = MountTable::read()?;
    for directory in hidden.iter().filter(|d| d.is_dir()) {
        for mount in table.below(directory).rev() {
            umount2(&mount.point, MntFlags::MNT_DETACH)?;
        }
        filesystems::tmpfs(directory, "mode=700")?;
    }
    Ok(())
}
