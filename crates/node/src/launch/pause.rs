//! The first process of a pod whose containers share one pid namespace: keeps it, and reaps what is orphaned there.

use std::{fs::File, io, process::ExitCode};

use nix::sys::{
    signal::{SigSet, Signal},
    wait::{WaitPidFlag, WaitStatus, waitpid},
};

use super::{
    init, process,
    spec::PidNamespace,
    sys::{self, Alone, Fork},
};

/// Leaves such a process behind, prints its [`ProcessId`](super::spec::ProcessId) and returns.
pub fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot start the pod's first process: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> io::Result<()> {
    let alone = Alone::check()?;
    rustix::process::setsid()?;
    init::enter_pid_namespace(&PidNamespace::Own).map_err(io::Error::other)?;
    match sys::fork(alone)? {
        Fork::Child => {
            let null = File::options().read(true).write(true).open("/dev/null")?;
            rustix::stdio::dup2_stdin(&null)?;
            rustix::stdio::dup2_stdout(&null)?;
            rustix::stdio::dup2_stderr(&null)?;
            drop(null);
            rest()
        }
        Fork::Parent(child) => {
            println!(
                "{}",
                serde_json::to_string(&process::identify(child.as_raw())?)?
            );
            Ok(())
        }
    }
}

fn rest() -> io::Result<()> {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block()?;
    loop {
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
        {
        }
        children.wait()?;
    }
}
