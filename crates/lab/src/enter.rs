//! Running a command on a machine of the lab, as if one had logged in there.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::{
    cgroups,
    state::{Process, State},
};

/// In the order in which they are entered: the mount namespace last, it hides `/proc`.
const NAMESPACES: [(&str, CloneFlags); 6] = [
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// Runs a command on a machine and waits for it; its exit code is the result. `fabric` is entered, too: the network
/// namespace of the switch, with the host's files.
///
/// The calling process must have one thread: its namespaces change for good.
///
/// # Errors
/// When there is no such machine or no such command.
pub fn exec(machine: &str, command: &[String]) -> Result<ExitCode> {
    let process = State::load()?.holder(machine)?;
    if machine == "fabric" {
        setns(network(process)?, CloneFlags::CLONE_NEWNET).context("cannot enter the fabric")?;
    } else {
        enter(machine, process)?;
    }
    let (program, arguments) = command.split_first().context("no command was given")?;
    let status = Command::new(program)
        .args(arguments)
        .status()
        .with_context(|| format!("cannot run {program:?} on {machine}"))?;
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// The network namespace of a holder.
pub(crate) fn network(process: Process) -> Result<File> {
    namespace(process, "net")
}

fn enter(machine: &str, process: Process) -> Result<()> {
    cgroups::enter_leaf(machine)?;
    let files: Vec<File> = NAMESPACES
        .iter()
        .map(|(name, _)| namespace(process, name))
        .collect::<Result<_>>()?;
    for (file, (name, flag)) in files.iter().zip(NAMESPACES) {
        setns(file, flag)
            .with_context(|| format!("cannot enter the {name} namespace of {machine}"))?;
    }
    std::env::set_current_dir("/").context("cannot enter the machine's root")
}

fn namespace(process: Process, name: &str) -> Result<File> {
    let path = PathBuf::from(format!("/proc/{}/ns/{name}", process.pid));
    File::open(&path).with_context(|| format!("cannot open {}", path.display()))
}
