//! `malha completions SHELL`.

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell that will read it.
    shell: Shell,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut command = super::Malha::command();
    clap_complete::generate(args.shell, &mut command, "malha", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
