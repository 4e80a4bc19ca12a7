//! The end of a lab: nothing of it is left.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    cgroups,
    plan::ROOT,
    state::{Process, State},
};

/// How long a holder may take to end, and everything in its namespaces with it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends the lab on this machine; `false` when there was none.
///
/// # Errors
/// When a process does not end, or a file cannot be removed.
pub fn down() -> Result<bool> {
    let Some(state) = State::find()? else {
        return Ok(false);
    };
    end(&state)?;
    Ok(true)
}

/// Ends what was started so far.
pub(crate) fn end(state: &State) -> Result<()> {
    // The end of a pid namespace's init is the end of every process in it, and with the last process go the other
    // namespaces with their links, addresses and mounts.
    for holder in state.holders.iter().rev() {
        send(holder.process, Signal::SIGKILL);
    }
    let begun = Instant::now();
    while let Some(left) = state
        .holders
        .iter()
        .find(|holder| holder.process.is_alive())
    {
        if begun.elapsed() > PATIENCE {
            bail!("{} (pid {}) does not end", left.name, left.process.pid);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    remove_cgroups(begun)?;
    fs::remove_dir_all(ROOT).with_context(|| format!("cannot remove {ROOT}"))
}

/// Cgroups stay busy for a moment after their last process has ended.
fn remove_cgroups(begun: Instant) -> Result<()> {
    loop {
        match cgroups::remove_all() {
            Err(_) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
            result => return result,
        }
    }
}

fn send(process: Process, signal: Signal) {
    if process.is_alive() {
        // Gone in between is what is wanted.
        let _ = kill(Pid::from_raw(process.pid), signal);
    }
}
