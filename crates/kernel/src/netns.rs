//! Network namespaces, held by a file descriptor.
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, fstatfs};

use crate::error::{Error, Result};

const CURRENT: &str = "/proc/thread-self/ns/net";
const NSFS_MAGIC: FsType = FsType(libc::NSFS_MAGIC);

/// What tells network namespaces apart while both live. A number may be used again after its namespace is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetNsId {
    /// Device of the namespace filesystem.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// A network namespace. It lives at least as long as this.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    id: NetNsId,
}

impl NetNs {
    /// The one of the calling thread.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn current() -> Result<Self> {
        Self::open(Path::new(CURRENT))
    }

    /// The one that a path names: a bind mount or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::NotANetNs`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)
            .map_err(|source| Error::file("open the network namespace", path, source))?;
        Self::new(file, path)
    }

    /// The one behind a descriptor, for example one received over a socket.
    ///
    /// # Errors
    /// [`Error::NotANetNs`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        Self::new(File::from(fd), Path::new("the descriptor"))
    }

    /// The one with this number, if a process that can be seen from here is in it.
    #[must_use]
    pub fn of_some_process(id: NetNsId) -> Option<Self> {
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let path = |entry: fs::DirEntry| entry.path().join("ns/net");
        let is_it = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.ino() == id.inode);
        let found = processes
            .map(path)
            .filter(is_it)
            .find_map(|path| Self::open(&path).ok());
        found.filter(|netns| netns.id == id)
    }

    /// A new one that lives only as long as it is held: by this, by a process in it, or by a bind mount.
    ///
    /// # Errors
    /// [`Error::Privilege`], [`Error::Netlink`].
    pub fn create() -> Result<Self> {
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::netlink("make a network namespace", errno.into(), None))?;
            Self::current()
        })
    }

    /// A new one that lives until [`NetNs::delete_persistent`], as `ip netns add` makes them. `path` must not exist.
    ///
    /// # Errors
    /// [`Error::Privilege`], [`Error::File`]; then nothing is left.
    pub fn create_persistent(path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .map_err(|source| Error::file("make directory", parent, source))?;
        }
        File::create_new(path).map_err(|source| Error::file("make", path, source))?;
        let made = on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::netlink("make a network namespace", errno.into(), None))?;
            mount(
                Some(CURRENT),
                path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .map_err(|errno| Error::file("bind the network namespace to", path, errno.into()))?;
            Self::current()
        });
        if made.is_err() {
            let _ = fs::remove_file(path);
        }
        made
    }

    /// Remove the name that [`NetNs::create_persistent`] gave. Absent is fine.
    ///
    /// # Errors
    /// [`Error::Privilege`], [`Error::File`].
    pub fn delete_persistent(path: &Path) -> Result<()> {
        match umount2(path, MntFlags::MNT_DETACH) {
            // EINVAL: the file is there, and nothing is mounted on it.
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(errno) => return Err(Error::file("unmount", path, errno.into())),
        }
        match fs::remove_file(path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::file("remove", path, source))
            }
            _ => Ok(()),
        }
    }

    /// What tells it apart.
    #[must_use]
    pub fn id(&self) -> NetNsId {
        self.id
    }

    /// Run a closure inside, on a thread of its own (about 0.05 ms). What it panics with is passed on.
    ///
    /// # Errors
    /// [`Error::Privilege`], [`Error::Netlink`]: the namespace could not be entered, and the closure has not run.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        on_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
                Error::netlink("enter the network namespace", errno.into(), None)
            })?;
            Ok(act())
        })
    }

    fn new(file: File, path: &Path) -> Result<Self> {
        let not_one = || Error::NotANetNs {
            path: path.to_owned(),
        };
        let kind = fstatfs(&file).map_err(|_| not_one())?.filesystem_type();
        let metadata = file.metadata().map_err(|_| not_one())?;
        if kind != NSFS_MAGIC || !is_net(&file) {
            return Err(not_one());
        }
        let id = NetNsId {
            device: metadata.dev(),
            inode: metadata.ino(),
        };
        Ok(Self { file, id })
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

nix::ioctl_none_bad!(
    /// The CLONE_NEW* flag of a namespace descriptor.
    ns_get_nstype,
    nix::request_code_none!(0xb7, 0x3)
);

fn is_net(file: &File) -> bool {
    use std::os::fd::AsRawFd;
    // SAFETY: the request takes no argument, and the descriptor is open for the length of the call.
    let kind = unsafe { ns_get_nstype(file.as_raw_fd()) };
    kind == Ok(libc::CLONE_NEWNET)
}

/// A thread of its own: the namespace is a property of the thread and ends with it.
fn on_thread<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        scope
            .spawn(act)
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
