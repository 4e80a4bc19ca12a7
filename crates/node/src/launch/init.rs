//! The container's side: from the fork to its own program.

use std::{
    convert::Infallible,
    ffi::{CString, OsStr},
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::Signal,
    unistd::{Gid, Uid},
};

use super::{
    capability, root,
    spec::{Failure, PidNamespace, Spec, User},
    sys, terminal,
};

type Result<T> = std::result::Result<T, Failure>;

/// What the container reads and writes.
pub enum Streams {
    /// A stream each.
    Pipes {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A terminal, whose other end is passed through this socket.
    Terminal(OwnedFd),
}

/// Makes the namespaces and the root, and becomes the container's program. `at` is an empty directory for the root.
pub fn become_container(spec: &Spec, streams: &Streams, at: &Path) -> Result<Infallible> {
    join_cgroups(&spec.cgroups)?;
    fs::write("/proc/self/oom_score_adj", spec.oom_score_adj.to_string())
        .map_err(|e| Failure::setup("cannot set oom_score_adj", e))?;
    for (path, kind) in [
        (&spec.namespaces.net, CloneFlags::CLONE_NEWNET),
        (&spec.namespaces.ipc, CloneFlags::CLONE_NEWIPC),
        (&spec.namespaces.uts, CloneFlags::CLONE_NEWUTS),
    ] {
        if let Some(path) = path {
            enter(path, kind)?;
        }
    }
    let mut own = CloneFlags::CLONE_NEWNS;
    if !spec.privileges.privileged {
        own |= CloneFlags::CLONE_NEWCGROUP;
    }
    unshare(own).map_err(|e| Failure::setup("cannot make a mount namespace", e))?;
    let sources = root::Sources::collect(spec)?;
    root::assemble(spec, sources, at)?;
    connect(streams, spec.user.uid)?;
    let privileges = &spec.privileges;
    drop_to(
        &spec.user,
        privileges.capabilities,
        privileges.no_new_privileges,
    )?;
    run(&spec.args, &spec.env, &spec.cwd)
}

/// Puts this process into cgroups.
pub fn join_cgroups(cgroups: &[PathBuf]) -> Result<()> {
    for cgroup in cgroups {
        fs::write(cgroup.join("cgroup.procs"), "0").map_err(|e| {
            Failure::setup(format!("cannot enter the cgroup {}", cgroup.display()), e)
        })?;
    }
    Ok(())
}

/// Joins the namespace in a file.
pub fn enter(path: &Path, kind: CloneFlags) -> Result<()> {
    let failed =
        |e: io::Error| Failure::setup(format!("cannot enter the namespace {}", path.display()), e);
    let file = fs::File::open(path).map_err(failed)?;
    setns(file, kind).map_err(|e| failed(e.into()))
}

/// Process numbers count for children only, so this is done before the fork.
pub fn enter_pid_namespace(namespace: &PidNamespace) -> Result<()> {
    match namespace {
        PidNamespace::Host => Ok(()),
        PidNamespace::Own => unshare(CloneFlags::CLONE_NEWPID)
            .map_err(|e| Failure::setup("cannot make a pid namespace", e)),
        PidNamespace::Shared(path) => enter(path, CloneFlags::CLONE_NEWPID),
    }
}

/// Makes the streams this process's own, in a session of its own.
pub fn connect(streams: &Streams, user: u32) -> Result<()> {
    let failed = |e: io::Error| Failure::setup("cannot connect standard input and output", e);
    rustix::process::setsid().map_err(|e| failed(e.into()))?;
    match streams {
        Streams::Pipes {
            stdin,
            stdout,
            stderr,
        } => duplicate(stdin, stdout, stderr).map_err(failed),
        Streams::Terminal(socket) => {
            let slave = terminal::open_for(user, socket.as_fd())
                .map_err(|e| Failure::setup("cannot make a terminal", e))?;
            rustix::process::ioctl_tiocsctty(&slave).map_err(|e| failed(e.into()))?;
            duplicate(&slave, &slave, &slave).map_err(failed)
        }
    }
}

fn duplicate(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> io::Result<()> {
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    Ok(rustix::stdio::dup2_stderr(stderr)?)
}

/// Gives up what the container must not have. Nothing privileged works after this.
pub fn drop_to(user: &User, capabilities: u64, no_new_privileges: bool) -> Result<()> {
    let failed = |e: io::Error| Failure::setup("cannot give up privileges", e);
    capability::bound(capabilities).map_err(failed)?;
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    nix::unistd::setgroups(&groups).map_err(|e| failed(e.into()))?;
    nix::unistd::setgid(Gid::from_raw(user.gid)).map_err(|e| failed(e.into()))?;
    nix::unistd::setuid(Uid::from_raw(user.uid)).map_err(|e| failed(e.into()))?;
    capability::apply(capabilities).map_err(failed)?;
    if no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(|e| failed(e.into()))?;
    }
    Ok(())
}

/// Becomes the program.
pub fn run(args: &[String], env: &[(String, String)], cwd: &Path) -> Result<Infallible> {
    let bad = |e: &dyn std::fmt::Display| Failure::setup("bad command", e);
    let name = args.first().ok_or_else(|| bad(&"no command is given"))?;
    nix::unistd::chdir(cwd).map_err(|e| {
        Failure::setup(
            format!("cannot change to the directory {}", cwd.display()),
            e,
        )
    })?;
    let path = env
        .iter()
        .rev()
        .find(|(key, _)| key == "PATH")
        .map_or("", |(_, value)| value.as_str());
    let program = find(name, path)?;
    let text = |text: &[u8]| CString::new(text).map_err(|e| bad(&e));
    let program_text = text(program.as_os_str().as_bytes())?;
    let args: Vec<CString> = args
        .iter()
        .map(|a| text(a.as_bytes()))
        .collect::<Result<_>>()?;
    let env: Vec<CString> = env
        .iter()
        .map(|(key, value)| text(format!("{key}={value}").as_bytes()))
        .collect::<Result<_>>()?;
    // Rust ignores it for its own programs; a child would inherit that.
    sys::default_action(Signal::SIGPIPE).map_err(|e| Failure::setup("cannot reset SIGPIPE", e))?;
    match nix::unistd::execve(&program_text, &args, &env) {
        Ok(never) => Ok(never),
        Err(error) => Err(not_run(name, error.into())),
    }
}

/// Where a shell would find a command.
fn find(name: &str, path: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let mut refused = None;
    for directory in path.split(':') {
        let candidate =
            Path::new(if directory.is_empty() { "." } else { directory }).join(OsStr::new(name));
        let Ok(metadata) = fs::metadata(&candidate) else {
            continue;
        };
        let runnable = rustix::fs::access(&candidate, rustix::fs::Access::EXEC_OK);
        match (metadata.is_file(), runnable) {
            (true, Ok(())) => return Ok(candidate),
            (true, Err(error)) => refused = Some(error),
            _ => {}
        }
    }
    match refused {
        Some(error) => Err(not_run(name, error.into())),
        None => Err(Failure {
            code: 127,
            message: format!("exec: {name:?}: executable file not found in $PATH"),
        }),
    }
}

fn not_run(name: &str, error: io::Error) -> Failure {
    let (code, why) = match error.kind() {
        io::ErrorKind::NotFound => (127, "no such file or directory".to_owned()),
        io::ErrorKind::PermissionDenied => (126, "permission denied".to_owned()),
        _ => (126, error.to_string()),
    };
    Failure {
        code,
        message: format!("exec: {name:?}: {why}"),
    }
}
