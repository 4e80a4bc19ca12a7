//! A process that is known by more than its number.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// A process: its number and when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Its number.
    pub(super) pid: i32,
    /// Clock ticks from boot to its start.
    start: u64,
}

/// The running process that a pid file names.
pub(super) fn find(pid_file: &Path) -> Result<Option<Process>> {
    let text = match fs::read_to_string(pid_file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", pid_file.display())),
    };
    let named = Process::from_line(&text)
        .with_context(|| format!("{} is malformed; remove it", pid_file.display()))?;
    Ok(Process::running(named.pid).filter(|running| *running == named))
}

/// A process that runs a program of this name in this network namespace.
pub(super) fn named(name: &str) -> Option<Process> {
    let own = fs::read_link("/proc/self/ns/net").ok()?;
    let entries = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.into_iter().find_map(|pid| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let there = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
        (comm.trim_end() == name && there == own).then(|| Process::running(pid))?
    })
}

impl Process {
    /// The process with this number, if it runs (a zombie does not).
    pub(super) fn running(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses, which may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        let state = fields.next()?;
        // Field 22 of proc(5)'s stat: 19 after the state.
        let start = fields.nth(18)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(Self { pid, start })
    }

    /// Where its standard error goes, if into a file.
    pub(super) fn log(self) -> Option<PathBuf> {
        let path = fs::read_link(format!("/proc/{}/fd/2", self.pid)).ok()?;
        let is_file = fs::metadata(&path).is_ok_and(|m| m.is_file());
        is_file.then_some(path)
    }

    pub(super) fn to_line(self) -> String {
        format!("{} {}\n", self.pid, self.start)
    }

    fn from_line(text: &str) -> Option<Self> {
        let (pid, start) = text.trim().split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok()?,
            start: start.parse().ok()?,
        })
    }

    /// Asks it to end, and kills it when it has not after `grace`.
    pub(super) fn stop(self, grace: Duration) -> Result<()> {
        let Some(handle) = self.open()? else {
            return Ok(());
        };
        for (signal, limit) in [(Signal::TERM, grace), (Signal::KILL, grace)] {
            match pidfd_send_signal(&handle, signal) {
                Ok(()) => {}
                Err(rustix::io::Errno::SRCH) => return Ok(()),
                Err(error) => return Err(error).context("cannot send a signal"),
            }
            if ended(&handle, limit)? {
                return Ok(());
            }
        }
        bail!("it has not ended though it was killed; it may hang in the kernel")
    }

    /// A handle that stays with this process, whoever gets its number later.
    fn open(self) -> Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error).context("cannot open the process"),
        };
        // Only now the number cannot change its meaning any more.
        Ok((Self::running(self.pid) == Some(self)).then_some(handle))
    }
}

fn ended(handle: &OwnedFd, limit: Duration) -> Result<bool> {
    let limit = Timespec::try_from(limit).context("cannot wait so long")?;
    let mut fds = [PollFd::new(handle, PollFlags::IN)];
    let count = poll(&mut fds, Some(&limit)).context("cannot wait for a process")?;
    Ok(count > 0)
}
