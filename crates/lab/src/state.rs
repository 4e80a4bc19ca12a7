//! What the lab remembers between commands: which processes hold it up.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::plan::{Plan, ROOT};

/// A process, named so that a reused pid is never taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid on the host.
    pub pid: i32,
    /// Clock ticks after boot at which it started (`/proc/PID/stat`, field 22).
    pub started: u64,
}

impl Process {
    /// The running process with this pid, if there is one.
    #[must_use]
    pub fn running(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command's name may hold anything, but ends at the last parenthesis.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let zombie = *fields.first()? == "Z";
        (!zombie).then_some(Self {
            pid,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::running(self.pid) == Some(*self)
    }
}

/// A held namespace set: the fabric, or one machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Holder {
    /// `fabric`, or the machine's name.
    pub name: String,
    /// The process that keeps it.
    pub process: Process,
}

/// A lab that exists.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Names and addresses.
    pub plan: Plan,
    /// Everything that was started so far.
    pub holders: Vec<Holder>,
}

impl State {
    /// The lab on this machine, if there is one.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn find() -> Result<Option<Self>> {
        let path = state_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("cannot understand {}; remove it", path.display()))
    }

    /// The lab on this machine.
    ///
    /// # Errors
    /// When there is none, or its state cannot be read.
    pub fn load() -> Result<Self> {
        match Self::find()? {
            Some(state) => Ok(state),
            None => bail!("there is no lab on this machine; start one with: malha lab up"),
        }
    }

    /// Remembers the lab as it is now.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self) -> Result<()> {
        let path = state_file();
        let fresh = path.with_extension("new");
        fs::create_dir_all(ROOT).with_context(|| format!("cannot create {ROOT}"))?;
        fs::write(&fresh, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The process that holds a machine (or `fabric`).
    ///
    /// # Errors
    /// When there is no such machine, or it has ended.
    pub fn holder(&self, name: &str) -> Result<Process> {
        let Some(holder) = self.holders.iter().find(|holder| holder.name == name) else {
            let names: Vec<&str> = self.holders.iter().map(|h| h.name.as_str()).collect();
            bail!(
                "the lab has no machine {name:?}; it has: {}",
                names.join(", ")
            );
        };
        if !holder.process.is_alive() {
            bail!("{name} is no longer running; end the lab with: malha lab down");
        }
        Ok(holder.process)
    }
}

/// The kubeconfig with which the host reaches the lab's API server.
#[must_use]
pub fn kubeconfig() -> PathBuf {
    Path::new(ROOT).join("kubeconfig")
}

fn state_file() -> PathBuf {
    Path::new(ROOT).join("state.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_and_nobody_else() {
        let own = Process::running(std::process::id() as i32).unwrap();
        assert!(own.is_alive());
        let earlier = Process {
            started: own.started.wrapping_sub(1),
            ..own
        };
        assert!(!earlier.is_alive());
    }

    #[test]
    fn an_ended_process_is_not_alive_even_before_it_is_reaped() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        while Process::running(pid).is_some() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
