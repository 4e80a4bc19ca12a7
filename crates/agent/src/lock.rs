//! One agent for a directory: a lock that ends with the process that holds it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

/// How long an agent waits for the one before it to end.
const SUCCESSION: Duration = Duration::from_secs(20);
/// How often it looks.
const PAUSE: Duration = Duration::from_millis(50);
const FILE: &str = "agent.lock";

/// A lock that is held.
pub type Held = Flock<File>;

/// Two agents would undo each other's work. While one replaces another, the first needs a moment to end.
///
/// # Errors
/// When another agent goes on, or the file cannot be made.
pub async fn acquire(run: &Path) -> Result<Held> {
    let path = path(run);
    let deadline = Instant::now() + SUCCESSION;
    loop {
        let file =
            File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        match try_lock(&path, file)? {
            Some(lock) => return Ok(lock),
            None if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            None => bail!("another agent runs on this node (malha status shows it): stop it first"),
        }
    }
}

/// Who works in a directory.
#[derive(Debug)]
pub enum Holder {
    /// Nobody, and while this is held no agent will. None: no agent ever did.
    Nobody(#[allow(dead_code, reason = "held until it is dropped")] Option<Held>),
    /// An agent.
    Agent,
}

/// Who works in a directory; makes nothing.
///
/// # Errors
/// When that cannot be found out.
pub fn holder(run: &Path) -> Result<Holder> {
    let path = path(run);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Holder::Nobody(None));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
    };
    let lock = try_lock(&path, file)?;
    Ok(lock.map_or(Holder::Agent, |lock| Holder::Nobody(Some(lock))))
}

/// The lock's file.
pub fn path(run: &Path) -> PathBuf {
    run.join(FILE)
}

/// None: somebody else has it, or had it and removed it.
fn try_lock(path: &Path, file: File) -> Result<Option<Held>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => {
            let [here, there] = [lock.metadata().ok(), fs::metadata(path).ok()]
                .map(|found| found.map(|found| (found.dev(), found.ino())));
            Ok((here.is_some() && here == there).then_some(lock))
        }
        Err((_, nix::Error::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno).with_context(|| format!("cannot lock {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn one_holds_it_and_a_removed_file_is_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path();
        assert!(matches!(holder(run).unwrap(), Holder::Nobody(None)));
        assert!(!path(run).exists(), "looking makes nothing");
        let first = acquire(run).await.unwrap();
        assert!(matches!(holder(run).unwrap(), Holder::Agent));
        fs::remove_file(path(run)).unwrap();
        let second = acquire(run).await.unwrap();
        drop(first);
        assert!(matches!(holder(run).unwrap(), Holder::Agent));
        drop(second);
        assert!(matches!(holder(run).unwrap(), Holder::Nobody(Some(_))));
    }
}
