//! Containers: started by a shim, known by their bundles.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use super::{
    ContainerRecord, Limits, Runtime,
    record::{self, RECORD},
};
use crate::launch::{
    self, process,
    spec::{self, Exit, Failure, Report, Spec, Started},
    sys,
};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was to be started and has not been.
    Created,
    /// It runs.
    Running(Started),
    /// It has ended.
    Exited(Started, Exit),
}

/// Why a container does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its program, its root, its mounts.
    #[error(transparent)]
    Container(#[from] Failure),
    /// The machine.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl StartError {
    fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System {
            what: what.into(),
            source,
        }
    }
}

impl Runtime {
    /// The record of a container to be, with its bundle's place.
    pub fn new_container(&self, record: ContainerRecord) -> ContainerRecord {
        let id = super::new_id();
        ContainerRecord {
            cgroup: self.cgroups.container(&record.pod_uid, &id),
            bundle: record::containers(self.run_dir()).join(&id),
            id,
            ..record
        }
    }

    /// Starts a container; gives what runs and the limits that cannot be kept. The specification's cgroups are filled
    /// in here. A container that failed to start has to be removed like any other.
    ///
    /// # Errors
    /// What failed.
    pub fn start(
        &self,
        record: &ContainerRecord,
        mut spec: Spec,
        limits: &Limits,
    ) -> Result<(Started, Vec<String>), StartError> {
        let bundle = &record.bundle;
        fs::create_dir_all(bundle)
            .map_err(StartError::system("cannot make the container's bundle"))?;
        spec::write_json(&bundle.join(RECORD), record)
            .map_err(StartError::system("cannot write down the container"))?;
        let cannot = || StartError::system("cannot make the container's cgroup");
        let (cgroups, unkept) = self
            .cgroups
            .create(&record.cgroup, limits)
            .map_err(cannot())?;
        let (shims, _) = self
            .cgroups
            .create(&self.cgroups.shims(), &Limits::default())
            .map_err(cannot())?;
        (spec.cgroups, spec.shim_cgroups) = (cgroups, shims);
        spec::write_json(&bundle.join(spec::SPEC), &spec).map_err(StartError::system(
            "cannot write the container's specification",
        ))?;
        match self.run_shim(bundle)? {
            Report::Started(started) => Ok((started, unkept)),
            Report::Failed(failure) => Err(failure.into()),
        }
    }

    fn run_shim(&self, bundle: &Path) -> Result<Report, StartError> {
        let cannot = || StartError::system("cannot start the container's shim");
        let log = File::create(bundle.join("shim.log")).map_err(cannot())?;
        let mut child = self
            .launcher(&["shim", &bundle.to_string_lossy()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(cannot())?;
        let mut answer = Vec::new();
        // The shim goes on in a child of its own; the end of its answer is the end of the start.
        let read = child
            .stdout
            .take()
            .map_or(Ok(0), |mut out| out.read_to_end(&mut answer));
        child.wait().map_err(cannot())?;
        read.map_err(cannot())?;
        serde_json::from_slice(&answer).map_err(|_| {
            let log = fs::read_to_string(bundle.join("shim.log")).unwrap_or_default();
            cannot()(io::Error::other(format!(
                "it did not answer: {}",
                log.trim()
            )))
        })
    }

    /// Where a container is in its life. One whose shim was killed is killed too, and said to have ended by that.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn state(&self, record: &ContainerRecord) -> io::Result<State> {
        let Some(started) = spec::read_json::<Started>(&record.bundle.join(spec::STARTED))? else {
            return Ok(State::Created);
        };
        // The shim writes before it ends: look whether it lives first.
        let alive = process::find(started.shim).is_some();
        match spec::read_json(&record.bundle.join(spec::EXIT))? {
            Some(exit) => Ok(State::Exited(started, exit)),
            None if alive => Ok(State::Running(started)),
            None => {
                process::signal(started.container, Signal::KILL)?;
                process::kill_cgroup(&self.cgroups.directories(&record.cgroup));
                let exit = Exit {
                    code: 137,
                    signal: Some(9),
                    oom_killed: false,
                    at: jiff::Timestamp::now(),
                };
                spec::write_json(&record.bundle.join(spec::EXIT), &exit)?;
                Ok(State::Exited(started, exit))
            }
        }
    }

    /// Waits for a container's end.
    ///
    /// # Errors
    /// When its files cannot be read, or there is no runtime for asynchronous code.
    pub async fn wait(&self, record: &ContainerRecord) -> io::Result<State> {
        loop {
            let state = self.state(record)?;
            let State::Running(started) = state else {
                return Ok(state);
            };
            if let Some(descriptor) = process::find(started.shim) {
                sys::ended(descriptor).await?;
            }
        }
    }

    /// Sends a signal to a container's first process; one that has ended needs none.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn signal(&self, record: &ContainerRecord, signal: Signal) -> io::Result<()> {
        match self.state(record)? {
            State::Running(started) => process::signal(started.container, signal),
            _ => Ok(()),
        }
    }

    /// Asks a container to end and, when `grace` is over, ends it.
    ///
    /// # Errors
    /// As the kernel says.
    pub async fn stop(&self, record: &ContainerRecord, grace: Duration) -> io::Result<()> {
        if !grace.is_zero() {
            self.signal(record, Signal::TERM)?;
            if tokio::time::timeout(grace, self.wait(record)).await.is_ok() {
                return Ok(());
            }
        }
        self.signal(record, Signal::KILL)?;
        self.wait(record).await.map(drop)
    }

    /// Ends a container without mercy and removes it, but for its log.
    ///
    /// # Errors
    /// When processes do not end or files cannot be removed; calling again is in order.
    pub fn remove(&self, record: &ContainerRecord) -> io::Result<()> {
        self.signal(record, Signal::KILL)?;
        self.cgroups.remove(&record.cgroup)?;
        if let Some(started) = spec::read_json::<Started>(&record.bundle.join(spec::STARTED))? {
            settle(started, Duration::from_secs(5));
        }
        match fs::remove_dir_all(&record.bundle) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The command that runs a program in a container on the standard streams it is given.
    pub fn exec(&self, record: &ContainerRecord, tty: bool, args: &[String]) -> Command {
        let bundle = record.bundle.to_string_lossy();
        let mut command = match tty {
            true => self.launcher(&["exec", &bundle, "--tty", "--"]),
            false => self.launcher(&["exec", &bundle, "--"]),
        };
        command.args(args);
        command
    }

    /// A connection to a running container's streams (see [`launch::attach`]).
    ///
    /// # Errors
    /// When it does not run.
    pub fn attach(&self, record: &ContainerRecord) -> io::Result<UnixStream> {
        let directory = File::open(&record.bundle)?;
        UnixStream::connect(format!(
            "/proc/self/fd/{}/{}",
            directory.as_raw_fd(),
            launch::ATTACH
        ))
    }
}

/// Waits until the shim has ended: it may still be writing.
fn settle(started: Started, limit: Duration) {
    let Some(descriptor) = process::find(started.shim) else {
        return;
    };
    let milliseconds = u16::try_from(limit.as_millis()).unwrap_or(u16::MAX);
    let mut wait = [nix::poll::PollFd::new(
        std::os::fd::AsFd::as_fd(&descriptor),
        nix::poll::PollFlags::POLLIN,
    )];
    let _ = nix::poll::poll(&mut wait, milliseconds);
}
