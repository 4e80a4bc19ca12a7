//! A further program in a container that runs, on the standard streams of this process, or on a terminal that is passed
//! out through standard input.

use std::{convert::Infallible, io, os::fd::AsFd, path::Path, process::ExitCode};

use nix::sys::{
    signal::Signal,
    wait::{WaitStatus, waitpid},
};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::{
    init::{self, Streams},
    process,
    spec::{self, Failure, Spec, Started},
    sys::{self, Alone, Fork},
};

/// Runs `args` in the bundle's container and exits as they do; 128 + number for a signal.
pub fn main(bundle: &Path, tty: bool, args: &[String]) -> ExitCode {
    match run(bundle, tty, args) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(u8::try_from(failure.code).unwrap_or(u8::MAX))
        }
    }
}

fn run(bundle: &Path, tty: bool, args: &[String]) -> Result<u8, Failure> {
    let cannot = |e: io::Error| Failure::setup("cannot read the container's records", e);
    let alone = Alone::check().map_err(|e| Failure::setup("cannot run a command", e))?;
    let absent = || cannot(io::ErrorKind::NotFound.into());
    let spec: Spec = spec::read_json(&bundle.join(spec::SPEC))
        .map_err(cannot)?
        .ok_or_else(absent)?;
    let started: Started = spec::read_json(&bundle.join(spec::STARTED))
        .map_err(cannot)?
        .ok_or_else(absent)?;
    let container = process::find(started.container).ok_or_else(|| {
        Failure::setup("cannot run a command in the container", "it is not running")
    })?;
    init::join_cgroups(&spec.cgroups)?;
    let mut namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
    namespaces.set(
        ThreadNameSpaceType::CONTROL_GROUP,
        !spec.privileges.privileged,
    );
    move_into_thread_name_spaces(container.as_fd(), namespaces)
        .map_err(|e| Failure::setup("cannot enter the container's namespaces", e))?;
    match sys::fork(alone).map_err(|e| Failure::setup("cannot fork", e))? {
        Fork::Child => {
            let Err(failure) = become_program(&spec, tty, args);
            eprintln!("{failure}");
            std::process::exit(failure.code)
        }
        Fork::Parent(child) => loop {
            let code = match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, code)) => code,
                Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
                Ok(_) | Err(nix::Error::EINTR) => continue,
                Err(error) => return Err(Failure::setup("cannot wait for the command", error)),
            };
            return Ok(u8::try_from(code).unwrap_or(u8::MAX));
        },
    }
}

fn become_program(spec: &Spec, tty: bool, args: &[String]) -> Result<Infallible, Failure> {
    let failed = |e: io::Error| Failure::setup("cannot start the command", e);
    let mut env = spec.env.clone();
    if tty {
        env.push(("TERM".to_owned(), "xterm".to_owned()));
        // Standard input is the socket that the terminal is passed through.
        let socket = rustix::stdio::stdin()
            .try_clone_to_owned()
            .map_err(failed)?;
        init::connect(&Streams::Terminal(socket), spec.user.uid)?;
    } else {
        rustix::process::setsid().map_err(|e| failed(e.into()))?;
    }
    let privileges = &spec.privileges;
    init::drop_to(
        &spec.user,
        privileges.capabilities,
        privileges.no_new_privileges,
    )?;
    // When whoever asked goes away, so does the command. (A change of user would clear this, so it comes last.)
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| failed(e.into()))?;
    init::run(args, &env, &spec.cwd)
}
