//! One plugin, run to its end or to its deadline.

use std::{
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};
use serde_json::Value;

use super::RuntimeError;
use crate::types::{CniError, code};

/// Most that is kept of a plugin's output, in bytes.
const OUTPUT_MAX: usize = 4 << 20;
/// How long a binary that is being written is waited for.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

/// How plugins are run.
pub struct Exec<'a> {
    dirs: &'a [PathBuf],
    deadline: Instant,
}

/// One call.
pub struct Call<'a> {
    /// The plugin's name.
    pub kind: &'a str,
    /// `CNI_COMMAND`
    pub verb: &'a str,
    /// `CNI_CONTAINERID`
    pub container_id: &'a str,
    /// `CNI_IFNAME`
    pub ifname: &'a str,
    /// `CNI_NETNS`
    pub netns: &'a str,
    /// `CNI_ARGS`
    pub args: &'a str,
    /// Standard input.
    pub input: &'a str,
}

impl<'a> Call<'a> {
    /// STATUS, GC, VERSION.
    pub fn without_attachment(kind: &'a str, verb: &'a str, input: &'a str) -> Self {
        Self {
            kind,
            verb,
            container_id: "",
            ifname: "",
            netns: "",
            args: "",
            input,
        }
    }
}

impl<'a> Exec<'a> {
    /// Plugins from `dirs`, all of them ended by `deadline`.
    pub fn new(dirs: &'a [PathBuf], deadline: Instant) -> Self {
        Self { dirs, deadline }
    }

    /// Runs a plugin and returns its standard output.
    ///
    /// # Errors
    /// When there is no such plugin, it cannot be started, fails, or takes too long.
    pub fn run(&self, call: &Call<'_>) -> Result<Vec<u8>, RuntimeError> {
        let path = self.find(call.kind)?;
        let limit = self.deadline.saturating_duration_since(Instant::now());
        let failed = |source| RuntimeError::Run {
            path: path.clone(),
            source,
        };
        let mut running = Running(self.start(&path, call).map_err(failed)?);
        let ended = running
            .finish(call.input.as_bytes(), self.deadline)
            .map_err(failed)?;
        let Some(ended) = ended else {
            return Err(RuntimeError::Timeout {
                kind: call.kind.into(),
                verb: call.verb.into(),
                limit,
            });
        };
        if ended.status.success() {
            return Ok(ended.output);
        }
        let error = ended.error();
        Err(RuntimeError::Plugin {
            kind: call.kind.into(),
            verb: call.verb.into(),
            error,
        })
    }

    /// The error for a plugin that succeeded and made no sense.
    pub fn unreadable(&self, kind: &str, verb: &str, output: &[u8]) -> RuntimeError {
        let msg = format!(
            "the answer makes no sense: {:?}",
            String::from_utf8_lossy(output)
        );
        RuntimeError::Plugin {
            kind: kind.into(),
            verb: verb.into(),
            error: CniError::new(code::DECODE, msg),
        }
    }

    fn find(&self, kind: &str) -> Result<PathBuf, RuntimeError> {
        let candidates = self.dirs.iter().map(|dir| dir.join(kind));
        let mut regular =
            candidates.filter(|path| fs::metadata(path).is_ok_and(|meta| meta.is_file()));
        let found = regular.next().filter(|_| !kind.contains('/'));
        found.ok_or_else(|| RuntimeError::NotFound {
            kind: kind.into(),
            dirs: self.dirs.to_vec(),
        })
    }

    /// Starts it in a process group of its own, so that what it starts ends with it.
    fn start(&self, path: &Path, call: &Call<'_>) -> io::Result<Child> {
        let mut command = Command::new(path);
        let dirs = std::env::join_paths(self.dirs).map_err(io::Error::other)?;
        command
            .env("CNI_COMMAND", call.verb)
            .env("CNI_CONTAINERID", call.container_id)
            .env("CNI_NETNS", call.netns)
            .env("CNI_ARGS", call.args)
            .env("CNI_IFNAME", call.ifname)
            .env("CNI_PATH", dirs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let give_up = self.deadline.min(Instant::now() + BUSY_LIMIT);
        let mut pause = Duration::from_millis(10);
        loop {
            match command.spawn() {
                // Somebody is writing the binary: nothing tells when they are done.
                Err(error)
                    if error.kind() == io::ErrorKind::ExecutableFileBusy
                        && Instant::now() < give_up =>
                {
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(500));
                }
                other => return other,
            }
        }
    }
}

/// A plugin that ended.
struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    errors: Vec<u8>,
}

impl Ended {
    /// The error object on standard output, or the best that can be said without one.
    fn error(&self) -> CniError {
        let output = String::from_utf8_lossy(&self.output);
        let said = String::from_utf8_lossy(&self.errors);
        if let Some(error) = serde_json::from_slice(&self.output)
            .ok()
            .as_ref()
            .and_then(CniError::from_value)
        {
            return error;
        }
        let how = match self.status.signal() {
            Some(signal) => format!("it was killed by signal {signal}"),
            None => self.status.to_string(),
        };
        let msg = match (output.trim(), said.trim()) {
            ("", "") => format!("netplugin failed with no error message: {how}"),
            ("", said) => format!("netplugin failed: {said:?} ({how})"),
            (output, _) => format!(
                "netplugin failed but error parsing its diagnostic message {output:?} ({how})"
            ),
        };
        let object = serde_json::from_slice::<Value>(&self.output).is_ok();
        CniError::new(if object { code::DECODE } else { code::INTERNAL }, msg)
    }
}

/// A plugin that runs. Dropped early, it is killed: nothing is left running on any way out.
struct Running(Child);

impl Running {
    /// Feeds and reads the plugin until it ends. `None` when the deadline came first.
    ///
    /// Its end counts, not that of its output: something it left behind may hold that open for ever.
    fn finish(&mut self, input: &[u8], deadline: Instant) -> io::Result<Option<Ended>> {
        let pid = Pid::from_child(&self.0);
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let mut feed = Feed::new(self.0.stdin.take(), input)?;
        let mut output = Drain::new(self.0.stdout.take())?;
        let mut errors = Drain::new(self.0.stderr.take())?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let ended = wait(&pidfd, feed.pipe.as_ref(), [&output, &errors], left)?;
            feed.push();
            output.pull();
            errors.pull();
            if ended {
                let status = self.0.wait()?;
                return Ok(Some(Ended {
                    status,
                    output: output.kept,
                    errors: errors.kept,
                }));
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

/// Waits until something can be done. Says whether the plugin has ended.
fn wait(
    pidfd: &OwnedFd,
    feed: Option<&std::process::ChildStdin>,
    drains: [&Drain; 2],
    limit: Duration,
) -> io::Result<bool> {
    let mut sources = vec![PollFd::new(pidfd, PollFlags::IN)];
    sources.extend(feed.map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
    let open = drains.iter().filter_map(|drain| drain.pipe.as_ref());
    sources.extend(open.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    match poll(&mut sources, Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(!sources[0].revents().is_empty()),
        Err(error) => Err(error.into()),
    }
}

/// What is still to be written to standard input.
struct Feed<'a> {
    pipe: Option<std::process::ChildStdin>,
    rest: &'a [u8],
}

impl<'a> Feed<'a> {
    fn new(pipe: Option<std::process::ChildStdin>, rest: &'a [u8]) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Self { pipe, rest })
    }

    /// Writes what the pipe takes; closes it at the end, or when the plugin does not want more.
    fn push(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.write(self.rest) {
            Ok(written) => self.rest = &self.rest[written..],
            Err(error) if is_later(&error) => return,
            Err(_) => self.rest = &[],
        }
        if self.rest.is_empty() {
            self.pipe = None;
        }
    }
}

/// What came out of the plugin.
struct Drain {
    pipe: Option<fs::File>,
    kept: Vec<u8>,
}

impl Drain {
    fn new(pipe: Option<impl Into<OwnedFd>>) -> io::Result<Self> {
        let pipe = pipe.map(|pipe| fs::File::from(pipe.into()));
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe.as_fd(), true)?;
        }
        Ok(Self {
            pipe,
            kept: Vec::new(),
        })
    }

    /// Reads what is there: at most 1 MiB, several times what a pipe holds, so that one that never runs dry does not
    /// keep the deadline from being looked at. Past the limit it is read and forgotten: the plugin must not block.
    fn pull(&mut self) {
        let mut chunk = [0; 16 << 10];
        for _ in 0..64 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    let room = OUTPUT_MAX.saturating_sub(self.kept.len()).min(length);
                    self.kept.extend_from_slice(&chunk[..room]);
                }
                Err(error) if is_later(&error) => return,
                Err(_) => self.pipe = None,
            }
        }
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
