//! Processes by number and start, so that a number that was used again is not taken for the old process.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::Pid,
};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::spec::ProcessId;

/// A descriptor of a process; it becomes readable when the process ends.
///
/// # Errors
/// When there is no such process.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Who has this number now.
///
/// # Errors
/// When there is no such process.
pub fn identify(pid: i32) -> io::Result<ProcessId> {
    Ok(read(pid)?.0)
}

fn read(pid: i32) -> io::Result<(ProcessId, char)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (start_time, state) = start_and_state(&stat).ok_or(io::ErrorKind::InvalidData)?;
    Ok((ProcessId { pid, start_time }, state))
}

/// Fields 22 and 3; the second one is a name in brackets that may hold anything.
fn start_and_state(stat: &str) -> Option<(u64, char)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.nth(18)?.parse().ok()?, state))
}

/// A descriptor of exactly this process; `None` when it has ended, be it reaped or not.
pub fn find(id: ProcessId) -> Option<OwnedFd> {
    let descriptor = open(id.pid).ok()?;
    let (now, state) = read(id.pid).ok()?;
    (now == id && !matches!(state, 'Z' | 'X')).then_some(descriptor)
}

/// Sends a signal to exactly this process; one that has ended needs none.
///
/// # Errors
/// As the kernel says.
pub fn signal(id: ProcessId, signal: Signal) -> io::Result<()> {
    match find(id) {
        Some(descriptor) => match pidfd_send_signal(descriptor, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => Ok(other?),
        },
        None => Ok(()),
    }
}

/// How a child ended, if it has; other children that have ended are laid to rest too.
pub(super) fn reap(child: Pid) -> io::Result<Option<WaitStatus>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return Ok(None),
            Ok(status) if status.pid() == Some(child) => return Ok(Some(status)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills all processes of a cgroup given by its directories in the hierarchies.
pub fn kill_cgroup(directories: &[PathBuf]) {
    for directory in directories {
        if fs::write(directory.join("cgroup.kill"), "1").is_ok() {
            continue;
        }
        for pid in members(directory) {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// The processes of a cgroup.
pub fn members(directory: &Path) -> Vec<i32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid > 0)
        .collect()
}

/// Whether the kernel killed a process of the cgroup because its memory was used up.
pub(super) fn oom_killed(directories: &[PathBuf]) -> bool {
    let count = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    directories.iter().any(|directory| {
        ["memory.events", "memory.oom_control"]
            .iter()
            .filter_map(|file| fs::read_to_string(directory.join(file)).ok())
            .any(|text| count(&text) > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_confuse_the_start_time() {
        let stat = "42 (a) b) c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 8675309 1 2";
        assert_eq!(start_and_state(stat), Some((8_675_309, 'S')));
        assert_eq!(start_and_state("42 (x"), None);
    }

    #[test]
    fn a_process_is_found_by_number_and_start() {
        let own = identify(std::process::id().cast_signed()).unwrap();
        assert!(find(own).is_some());
        assert!(
            find(ProcessId {
                start_time: own.start_time + 1,
                ..own
            })
            .is_none()
        );
    }
}
