//! System calls that have no safe wrapper yet. Everything unsafe of this crate is here.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use nix::unistd::Pid;
use rustix::{
    fs::CWD,
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
};
use tokio::io::{Interest, unix::AsyncFd};

/// `AT_RECURSIVE`, which rustix has only among the flags of `open_tree`.
const RECURSIVE: u32 = libc::AT_RECURSIVE as u32;

/// Which side of a fork this is.
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, with the new one's number.
    Parent(Pid),
}

/// The knowledge that this process has one thread. The launcher starts none.
#[derive(Clone, Copy, Debug)]
pub struct Alone(());

impl Alone {
    /// Looks.
    ///
    /// # Errors
    /// When the process has more threads than one: a child would have their locks but not them.
    pub fn check() -> io::Result<Self> {
        match std::fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Self(())),
            _ => Err(io::Error::other(
                "the launcher has several threads, so it cannot fork",
            )),
        }
    }
}

/// Forks.
///
/// # Errors
/// When the kernel refuses.
pub fn fork(_: Alone) -> io::Result<Fork> {
    // SAFETY: this is the only thread, so no lock is held by anybody and the child may do whatever the parent may.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Ok(Fork::Child),
        nix::unistd::ForkResult::Parent { child } => Ok(Fork::Parent(child)),
    }
}

/// A copy of what is mounted at a path, not attached anywhere yet.
///
/// # Errors
/// When the path does not exist, or the kernel is older than 5.2.
pub fn copy_tree(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(CWD, path, flags)?)
}

/// Attaches what [`copy_tree`] made.
///
/// # Errors
/// When the target does not exist, or is a directory where the tree is a file or the other way round.
pub fn attach_tree(tree: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    Ok(move_mount(
        tree,
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?)
}

/// Changes every mount of a tree: attributes to set (`MOUNT_ATTR_…`), propagation (`MS_PRIVATE`, `MS_SLAVE`; 0 leaves it).
///
/// # Errors
/// When the kernel is older than 5.12.
pub fn change_tree(tree: impl AsFd, set: u64, propagation: u64) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    let empty = c"";
    // SAFETY: path and attributes are valid for reads until the call returns, and the size is that of the structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            empty.as_ptr(),
            libc::AT_EMPTY_PATH as u32 | RECURSIVE,
            std::ptr::from_ref(&attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives a signal back its default action, so that a program does not inherit what Rust's start-up ignores.
///
/// # Errors
/// When the signal cannot be caught.
pub fn default_action(signal: nix::sys::signal::Signal) -> io::Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed, and nobody relies on the action there was before.
    unsafe { sigaction(signal, &default) }?;
    Ok(())
}

/// Waits until a descriptor of a process tells that it has ended.
///
/// # Errors
/// Outside of a runtime for asynchronous code.
pub async fn ended(process: OwnedFd) -> io::Result<()> {
    // SAFETY: an owned descriptor keeps its number and stays open for as long as the registration, which owns it.
    let process = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }?;
    process.readable().await?.retain_ready();
    Ok(())
}

/// Sets the loopback interface of the calling thread's network namespace up; the kernel gives it its addresses.
///
/// # Errors
/// Without the right to administer the namespace.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: the descriptor is a socket and the request outlives the call.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS,
            std::ptr::from_mut(&mut request),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Tells a terminal how large it is.
///
/// # Errors
/// When the descriptor is no terminal.
pub fn set_window(terminal: impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the size is valid for reads until the call returns.
    let result = unsafe {
        libc::ioctl(
            terminal.as_fd().as_raw_fd(),
            libc::TIOCSWINSZ,
            std::ptr::from_ref(&size),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
