//! The shim: starts one container, holds its standard streams, writes its log, reaps it and writes down how it ended.
//!
//! It has one thread and no parent to speak of, so the end of the agent does not reach it.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    process::ExitCode,
};

use jiff::Timestamp;
use nix::{
    fcntl::OFlag,
    sys::wait::{WaitStatus, waitpid},
    unistd::{Pid, pipe2},
};

use super::{
    init::{self, Streams},
    log::LogFile,
    process,
    relay::{Input, Relay, Source},
    spec::{self, Exit, Failure, PidNamespace, Report, Spec, Started},
    sys::{self, Alone, Fork},
    terminal,
};
use crate::logs::Stream;

/// The socket's name in the bundle.
pub const ATTACH: &str = "attach.sock";

type Result<T> = std::result::Result<T, Failure>;

/// Leaves a shim for the bundle behind and returns. It answers with a [`Report`] on standard output.
pub fn main(bundle: &Path) -> ExitCode {
    let forked = Alone::check().and_then(|alone| Ok((alone, sys::fork(alone)?)));
    match forked {
        Ok((_, Fork::Parent(_))) => ExitCode::SUCCESS,
        Ok((alone, Fork::Child)) => {
            let ended = shim(bundle, alone);
            if let Err(error) = &ended {
                eprintln!("shim: {error}");
            }
            if ended.is_ok() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            report(&Report::Failed(Failure::setup(
                "cannot fork the shim",
                error,
            )));
            ExitCode::FAILURE
        }
    }
}

fn shim(bundle: &Path, alone: Alone) -> io::Result<()> {
    match start(bundle, alone) {
        Ok(mut running) => {
            let started = Report::Started(running.started);
            spec::write_json(&bundle.join(spec::STARTED), &running.started)?;
            report(&started);
            drop_report();
            let exit = running.wait()?;
            spec::write_json(&bundle.join(spec::EXIT), &exit)
        }
        Err(failure) => {
            report(&Report::Failed(failure));
            Ok(())
        }
    }
}

fn report(report: &Report) {
    if let Ok(text) = serde_json::to_string(report) {
        println!("{text}");
    }
}

/// The starter waits for the end of standard output.
fn drop_report() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

/// A container and what its shim holds for it.
struct Running {
    spec: Spec,
    child: Pid,
    pidfd: OwnedFd,
    started: Started,
    relay: Relay,
}

fn start(bundle: &Path, alone: Alone) -> Result<Running> {
    let spec: Spec = spec::read_json(&bundle.join(spec::SPEC))
        .and_then(|spec| spec.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(|e| Failure::setup("cannot read the container's specification", e))?;
    if let Err(failure) = init::join_cgroups(&spec.shim_cgroups) {
        eprintln!("shim: {failure}: it stays in the agent's cgroup");
    }
    // A session of its own, no terminal, and orphans of containers without a pid namespace come here.
    rustix::process::setsid().map_err(|e| Failure::setup("cannot make a session", e))?;
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|e| Failure::setup("cannot become subreaper", e))?;
    let root = bundle.join(spec::ROOT);
    std::fs::create_dir_all(&root)
        .map_err(|e| Failure::setup("cannot make the root's directory", e))?;
    let log = LogFile::open(&spec.log).map_err(|e| {
        Failure::setup(
            format!("cannot open the log {}", spec.log.path.display()),
            e,
        )
    })?;
    let (streams, ours) = open_streams(&spec)?;
    let listener = listen(bundle).map_err(|e| Failure::setup("cannot listen for attach", e))?;
    init::enter_pid_namespace(&spec.namespaces.pid)?;
    let child = spawn(&spec, streams, &root, alone)?;
    let (input, sources) = ours.split()?;
    let failed = |e: io::Error| Failure::setup("the container ended while it was started", e);
    let pidfd = process::open(child.as_raw()).map_err(failed)?;
    let started = Started {
        container: process::identify(child.as_raw()).map_err(failed)?,
        shim: process::identify(std::process::id().cast_signed()).map_err(failed)?,
        at: Timestamp::now(),
    };
    let relay = Relay::new(listener, log, input, sources, spec.stdio);
    Ok(Running {
        spec,
        child,
        pidfd,
        started,
        relay,
    })
}

/// Forks the container and waits until its program runs, which closes its end of a pipe, or it says what failed.
fn spawn(spec: &Spec, streams: Streams, root: &Path, alone: Alone) -> Result<Pid> {
    let cannot = |e: io::Error| Failure::setup("cannot fork the container", e);
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|e| cannot(e.into()))?;
    match sys::fork(alone).map_err(cannot)? {
        Fork::Child => {
            drop(read);
            let Err(failure) = init::become_container(spec, &streams, root);
            let text = serde_json::to_vec(&failure).unwrap_or_default();
            let _ = File::from(write).write_all(&text);
            std::process::exit(failure.code)
        }
        Fork::Parent(child) => {
            drop((write, streams));
            let mut text = Vec::new();
            File::from(read).read_to_end(&mut text).map_err(cannot)?;
            if text.is_empty() {
                return Ok(child);
            }
            let _ = waitpid(child, None);
            Err(serde_json::from_slice(&text)
                .unwrap_or_else(|e| Failure::setup("the container's start failed", e)))
        }
    }
}

/// The shim's ends of a container's streams.
enum Ours {
    Pipes(Option<Input>, Vec<Source>),
    /// Where the terminal comes from, once the container has made it.
    Terminal(OwnedFd),
}

impl Ours {
    fn split(self) -> Result<(Option<Input>, Vec<Source>)> {
        let cannot = |e: io::Error| Failure::setup("cannot take the container's terminal", e);
        match self {
            Self::Pipes(input, sources) => Ok((input, sources)),
            Self::Terminal(socket) => {
                let master = terminal::receive(socket.as_fd()).map_err(cannot)?;
                let input = Input::new(master.try_clone().map_err(cannot)?, true);
                Ok((Some(input), vec![Source::new(master, Stream::Stdout)]))
            }
        }
    }
}

fn open_streams(spec: &Spec) -> Result<(Streams, Ours)> {
    let cannot = |e: nix::Error| Failure::setup("cannot make standard streams", e);
    if spec.stdio.tty {
        let (ours, theirs) = UnixStream::pair()
            .map_err(|e| Failure::setup("cannot make a socket for the terminal", e))?;
        return Ok((
            Streams::Terminal(theirs.into()),
            Ours::Terminal(ours.into()),
        ));
    }
    let (out_read, stdout) = pipe2(OFlag::O_CLOEXEC).map_err(cannot)?;
    let (err_read, stderr) = pipe2(OFlag::O_CLOEXEC).map_err(cannot)?;
    let (stdin, input) = if spec.stdio.stdin {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(cannot)?;
        (read, Some(Input::new(write, false)))
    } else {
        let null =
            File::open("/dev/null").map_err(|e| Failure::setup("cannot open /dev/null", e))?;
        (null.into(), None)
    };
    let sources = vec![
        Source::new(out_read, Stream::Stdout),
        Source::new(err_read, Stream::Stderr),
    ];
    Ok((
        Streams::Pipes {
            stdin,
            stdout,
            stderr,
        },
        Ours::Pipes(input, sources),
    ))
}

/// A socket's path must be short; through the directory's descriptor it is.
fn listen(bundle: &Path) -> io::Result<UnixListener> {
    let directory = File::open(bundle)?;
    let _ = std::fs::remove_file(bundle.join(ATTACH));
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{ATTACH}", directory.as_raw_fd()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Running {
    /// Until the container has ended and all it wrote is in its log.
    fn wait(&mut self) -> io::Result<Exit> {
        let own = self.spec.namespaces.pid == PidNamespace::Own;
        let status = loop {
            self.relay.step(Some(&self.pidfd), !own)?;
            match process::reap(self.child)? {
                Some(status) => break status,
                None => continue,
            }
        };
        if !own {
            process::kill_cgroup(&self.spec.cgroups);
        }
        self.relay.drain()?;
        let (code, signal) = match status {
            WaitStatus::Signaled(_, signal, _) => (128 + signal as i32, Some(signal as i32)),
            WaitStatus::Exited(_, code) => (code, None),
            _ => (255, None),
        };
        let oom_killed = process::oom_killed(&self.spec.cgroups);
        Ok(Exit {
            code,
            signal,
            oom_killed,
            at: Timestamp::now(),
        })
    }
}
