//! Background processes of this program: started, watched until they are ready, stopped.
//!
//! Where systemd runs, each is a unit `malha-NAME.service` that starts at boot. Elsewhere it is a process in a session
//! of its own, remembered in `/run/malha/NAME.pid` with its start time, so that another process that got the same
//! number later is never taken for it. Both write to `/var/log/malha/NAME.log`.

mod log;
mod process;
mod systemd;

use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};

use crate::{
    files::{self, SECRET, Written},
    paths::Paths,
};
use process::Process;

/// How often a daemon that is starting is looked at.
const LOOK: Duration = Duration::from_millis(30);
/// How long a daemon may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// Where programs are, whatever `PATH` a user has.
const PROGRAMS: [&str; 8] = [
    "/usr/bin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/local/sbin",
    "/bin",
    "/sbin",
    "/opt/bin",
    "/opt/kubernetes/bin",
];
/// How long somebody else may take to start a daemon.
const ADOPTION: Duration = Duration::from_secs(1);

/// A background process by name; it may run or not.
#[derive(Clone, Debug)]
pub struct Daemon {
    name: String,
    /// Where systemd runs: whether the unit is somebody else's, to be neither written nor removed.
    foreign: bool,
    paths: Paths,
}

/// What a daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What it is, for people.
    pub description: String,
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// This program, whose hidden command `detached` starts others in a session of their own ([`detach`]).
    pub detached_by: Option<PathBuf>,
}

/// Whether a daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs, as this process (0 where systemd keeps the number).
    Running(i32),
    /// It does not.
    Stopped,
}

/// A daemon that was just started. Dropped without [`Started::keep`], it is stopped again.
#[derive(Debug)]
pub struct Started {
    daemon: Daemon,
    how: How,
    /// Where this start's part of the log begins.
    log_start: u64,
    kept: bool,
}

/// Who started a daemon.
#[derive(Debug)]
enum How {
    /// This process.
    Child(Child),
    /// systemd, which did so at boot already or not.
    Unit { was_enabled: bool },
    /// Somebody else; with its log, if that is a file.
    Adopted(Process, Option<PathBuf>),
}

impl Invocation {
    /// A command of this very program.
    ///
    /// # Errors
    /// When the program's file cannot be found.
    pub fn own(description: &str, arguments: &[String]) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        Ok(Self {
            detached_by: Some(program.clone()),
            ..Self::foreign(description, program, arguments)
        })
    }

    /// Another program.
    pub fn foreign(description: &str, program: PathBuf, arguments: &[String]) -> Self {
        Self {
            description: description.to_owned(),
            program,
            arguments: arguments.iter().map(OsString::from).collect(),
            detached_by: std::env::current_exe().ok(),
        }
    }

    fn command(&self) -> Command {
        let Some(own) = &self.detached_by else {
            let mut command = Command::new(&self.program);
            command.args(&self.arguments);
            return command;
        };
        let mut command = Command::new(own);
        command
            .arg("detached")
            .arg(&self.program)
            .args(&self.arguments);
        command
    }
}

impl Daemon {
    /// The daemon of this name on this machine.
    pub fn new(name: &str, paths: &Paths) -> Self {
        Self {
            name: name.to_owned(),
            foreign: false,
            paths: paths.clone(),
        }
    }

    /// Somebody else's daemon: where systemd runs, its own unit is used and neither written nor removed.
    pub fn foreign(name: &str, paths: &Paths) -> Self {
        Self {
            foreign: true,
            ..Self::new(name, paths)
        }
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.paths.logs().join(format!("{}.log", self.name))
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// When the pid file cannot be read or systemd not be asked.
    pub fn state(&self) -> Result<State> {
        if self.paths.has_systemd() {
            let active = systemd::is_active(&self.unit())?;
            return Ok(if active {
                State::Running(0)
            } else {
                State::Stopped
            });
        }
        let found = process::find(&self.pid_file())?;
        Ok(found.map_or(State::Stopped, |process| State::Running(process.pid)))
    }

    /// Starts it. Its log's file is made if there is none.
    ///
    /// # Errors
    /// When it runs already, or the program cannot be started.
    pub fn start(&self, invocation: &Invocation) -> Result<Started> {
        // A unit of somebody else's is restarted with its new configuration.
        let restarts = self.foreign && self.paths.has_systemd();
        if !restarts && let State::Running(pid) = self.state()? {
            bail!(
                "malha {} runs already (process {pid}, log {}); end that one first, if another is wanted",
                self.name,
                self.log().display()
            );
        }
        let log = self.open_log()?;
        let log_start = log.metadata().map(|m| m.len()).unwrap_or_default();
        let how = if self.paths.has_systemd() {
            if !self.foreign {
                systemd::write(&self.unit_file(), invocation, &self.log())?;
            }
            let was_enabled = self.foreign && systemd::is_enabled(&self.unit())?;
            systemd::start(&self.unit())?;
            How::Unit { was_enabled }
        } else {
            How::Child(self.spawn(invocation, log)?)
        };
        Ok(self.started(how, log_start))
    }

    /// A process of this name in this network namespace, which somebody else starts within a moment, if they do.
    pub async fn adopt(&self, patience: Duration) -> Option<Started> {
        let deadline = Instant::now() + patience.min(ADOPTION);
        loop {
            if let Some(process) = process::named(&self.name) {
                let log = process.log();
                let length = log.as_ref().and_then(|log| fs::metadata(log).ok());
                let start = length.map_or(0, |m| m.len());
                return Some(self.started(How::Adopted(process, log), start));
            }
            if Instant::now() >= deadline {
                return None;
            }
            sleep(LOOK).await;
        }
    }

    fn started(&self, how: How, log_start: u64) -> Started {
        Started {
            daemon: self.clone(),
            how,
            log_start,
            kept: false,
        }
    }

    /// Stops it and forgets it. Returns whether it ran.
    ///
    /// # Errors
    /// When it does not end even when killed, or systemd refuses.
    pub fn stop(&self) -> Result<bool> {
        if self.paths.has_systemd() {
            return self.stop_unit();
        }
        let pid_file = self.pid_file();
        let Some(process) = process::find(&pid_file)? else {
            files::remove(&pid_file)?;
            return Ok(false);
        };
        process.stop(GRACE).with_context(|| {
            format!("cannot stop malha {} (process {})", self.name, process.pid)
        })?;
        files::remove(&pid_file)?;
        Ok(true)
    }

    fn stop_unit(&self) -> Result<bool> {
        if self.foreign {
            return systemd::stop(&self.unit());
        }
        if !self.unit_file().exists() {
            return Ok(false);
        }
        let ran = systemd::stop(&self.unit())?;
        files::remove(&self.unit_file())?;
        systemd::reload()?;
        Ok(ran)
    }

    fn spawn(&self, invocation: &Invocation, log: File) -> Result<Child> {
        let errors = log.try_clone().context("cannot share the log")?;
        let child = invocation
            .command()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {}", invocation.program.display()))?;
        let process = i32::try_from(child.id()).ok().and_then(Process::running);
        let mut written = Written::new();
        if let Some(process) = process {
            written.file(&self.pid_file(), SECRET, process.to_line())?;
        }
        written.keep();
        Ok(child)
    }

    fn open_log(&self) -> Result<File> {
        let path = self.log();
        let mut written = Written::new();
        written.directory(&self.paths.logs(), 0o755)?;
        written.keep();
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    }

    /// What it is called, for people.
    fn title(&self) -> String {
        match self.foreign {
            true => format!("the {}", self.name),
            false => format!("malha {}", self.name),
        }
    }

    fn unit(&self) -> String {
        match self.foreign {
            true => format!("{}.service", self.name),
            false => format!("malha-{}.service", self.name),
        }
    }

    fn unit_file(&self) -> PathBuf {
        self.paths.systemd_units().join(self.unit())
    }

    fn pid_file(&self) -> PathBuf {
        self.paths.run().join(format!("{}.pid", self.name))
    }
}

impl Started {
    /// Waits until `ready` says so. `ready` returns why it is not, as long as it is not.
    ///
    /// # Errors
    /// When the daemon ends, or is not ready in time; with the last line of its log.
    pub async fn wait(
        &mut self,
        limit: Duration,
        mut ready: impl AsyncFnMut() -> Result<(), String>,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let Err(why) = ready().await else {
                return Ok(());
            };
            if let Some(end) = self.end()? {
                bail!(
                    "{} ended ({end}): {}; mend that and try again",
                    self.daemon.title(),
                    self.last_words()
                );
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} is not ready after {} s: {why}; its log says: {}",
                    self.daemon.title(),
                    limit.as_secs(),
                    self.last_words()
                );
            }
            sleep(LOOK).await;
        }
    }

    /// It goes on when this is dropped.
    pub fn keep(mut self) {
        self.kept = true;
    }

    /// How it ended, if it did.
    fn end(&mut self) -> Result<Option<String>> {
        match &mut self.how {
            How::Child(child) => {
                let status = child.try_wait().context("cannot wait for a process")?;
                Ok(status.map(|status| status.to_string()))
            }
            How::Unit { .. } => {
                let stopped = self.daemon.state()? == State::Stopped;
                Ok(stopped.then(|| "its unit is not active".to_owned()))
            }
            How::Adopted(process, _) => {
                let gone = Process::running(process.pid) != Some(*process);
                Ok(gone.then(|| format!("process {}", process.pid)))
            }
        }
    }

    /// What this start logged last that tells something, and where the rest is.
    fn last_words(&self) -> String {
        let unit = self.daemon.unit();
        let (text, place) = match &self.how {
            How::Adopted(_, None) => return "look at its log, wherever it goes".to_owned(),
            How::Adopted(_, Some(path)) => {
                let text = log::tail(path, self.log_start).unwrap_or_default();
                (text, path.display().to_string())
            }
            How::Unit { .. } if self.daemon.foreign => {
                (systemd::journal(&unit), format!("journalctl -u {unit}"))
            }
            How::Child(_) | How::Unit { .. } => {
                let path = self.daemon.log();
                let text = log::tail(&path, self.log_start).unwrap_or_default();
                (text, path.display().to_string())
            }
        };
        format!(
            "{} (all of it: {place})",
            log::telling(&text).unwrap_or("nothing")
        )
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let stopped = match self.how {
            // Another start of it is not this one's to end.
            How::Adopted(..) => return,
            How::Unit { was_enabled: true } => systemd::halt(&self.daemon.unit()),
            How::Child(_) | How::Unit { .. } => self.daemon.stop().map(drop),
        };
        if let Err(error) = stopped {
            tracing::warn!(error = format!("{error:#}"), "not stopped");
        }
    }
}

/// Makes this process the leader of a session of its own and replaces it by another program: what stands between the
/// user's terminal and a daemon that has none.
///
/// # Errors
/// When the program cannot be run; does not return otherwise.
pub fn detach(program: &Path, arguments: &[OsString]) -> Result<std::convert::Infallible> {
    use std::os::unix::process::CommandExt;
    // Refused only to the leader of a process group, which is detached enough.
    let _ = nix::unistd::setsid();
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// Makes systemd read its units again.
///
/// # Errors
/// When it refuses.
pub fn reload_units() -> Result<()> {
    systemd::reload()
}

/// Whether a program is installed: its file. Where the files are those of the machine, `PATH` counts too.
pub fn find_program(paths: &Paths, name: &str) -> Option<PathBuf> {
    let usual = PROGRAMS.iter().map(|directory| paths.at(directory));
    let search = env::var_os("PATH").filter(|_| paths.at("/") == Path::new("/"));
    let search = search.unwrap_or_default();
    let directories = env::split_paths(&search).filter(|directory| directory.is_absolute());
    let files = directories
        .chain(usual)
        .map(|directory| directory.join(name));
    files
        .into_iter()
        .find(|file| fs::metadata(file).is_ok_and(|m| m.is_file()))
}

#[cfg(test)]
mod tests;
