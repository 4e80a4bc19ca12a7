//! A plugin: what `malha-cni` runs, and `loopback`, its other name.
//!
//! [`protocol`] does what every plugin does: it checks what the runtime gave, calls the [`Handler`] and shapes the
//! answer. [`agent`] hands the request on to the node's agent; [`loopback`] brings `lo` up by itself.

mod agent;
mod environment;
mod loopback;
mod protocol;

use std::{
    ffi::OsStr,
    io::{self, Read},
    path::Path,
    process::ExitCode,
};

pub use agent::{Agent, SOCKET_VARIABLE};
pub use loopback::Loopback;
pub use protocol::{Handler, Streams, run};

use crate::conflist::LOOPBACK;

/// Runs the plugin that this process was started as, to its end.
pub fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    let mut input = io::stdin().lock();
    let mut streams = Streams {
        input: &mut input as &mut dyn Read,
        output: &mut io::stdout().lock(),
        errors: &mut io::stderr().lock(),
    };
    let variable = |name: &str| std::env::var_os(name);
    let success = if Path::new(&name).file_name() == Some(OsStr::new(LOOPBACK)) {
        run(&Loopback, &variable, &mut streams)
    } else {
        run(
            &Agent::new(std::env::var_os(SOCKET_VARIABLE)),
            &variable,
            &mut streams,
        )
    };
    if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
