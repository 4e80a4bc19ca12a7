//! The processes that hold the lab up, each started by [`crate::machine`] as a hidden command of this program.
//!
//! A holder says `ready` on its standard output when what it holds can be entered, then stays until it is ended. A
//! machine takes two steps: [`machine`] leaves the host's namespaces, and its child, the first process of the new pid
//! namespace, becomes the machine's init in [`init`].

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, sethostname, setsid},
};

use crate::{cgroups, files, forward};

/// What a holder says when it is ready.
pub(crate) const READY: &str = "ready";

/// The fabric: a network namespace for the switch, and the host's way to the API server.
///
/// # Errors
/// When the port is in use or the namespace cannot be made.
pub fn fabric(api_port: u16, api_server: SocketAddr) -> Result<()> {
    leave_terminal()?;
    // The listener keeps the namespace it was made in: the host's.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, api_port)).with_context(|| {
        format!("cannot listen on 127.0.0.1:{api_port}; choose another --api-port")
    })?;
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace; be root")?;
    say(READY)?;
    forward::run(listener, api_server)
}

/// A machine, first step: new namespaces, and a child that is born into them.
///
/// # Errors
/// When namespaces or cgroups cannot be made.
pub fn machine(name: &str) -> Result<()> {
    cgroups::enter(name)?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWCGROUP
            | CloneFlags::CLONE_NEWPID,
    )
    .context("cannot make the machine's namespaces; be root")?;
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let child = Command::new(own)
        .args(["lab", "hold", "init", name])
        .stdin(Stdio::inherit())
        .spawn()
        .context("cannot start the machine's init")?;
    say(&child.id().to_string())
}

/// A machine, second step: its root, then the duties of an init until it is told to end.
///
/// The text of `/etc/hosts` comes on standard input.
///
/// # Errors
/// When a mount is refused.
pub fn init(name: &str) -> Result<()> {
    let hosts = std::io::read_to_string(std::io::stdin()).context("cannot read the hosts file")?;
    leave_terminal()?;
    // Before the mounts hide the hierarchies behind the machine's own subtrees.
    cgroups::enter_leaf(name)?;
    sethostname(name).context("cannot set the host name")?;
    files::enter_root(name, &hosts)?;
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGCHLD]);
    signals.thread_block().context("cannot block signals")?;
    say(READY)?;
    loop {
        match signals.wait().context("cannot wait for a signal")? {
            Signal::SIGTERM => return Ok(()),
            _ => reap(),
        }
    }
}

/// A holder outlives the command that started it, and what the user types at that.
fn leave_terminal() -> Result<()> {
    setsid().map(drop).context("cannot start a session")
}

/// Orphans of the machine become the init's children; somebody has to take note of their ends.
fn reap() {
    while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("cannot tell the lab how far this is")
}
