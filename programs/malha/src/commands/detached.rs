//! `malha detached`: what stands between the user's terminal and a daemon (hidden).

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Result;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The program.
    program: PathBuf,
    /// Its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    match malha_join::daemon::detach(&args.program, &args.arguments)? {}
}
