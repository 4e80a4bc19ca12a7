//! `malha uninstall`: what the network agent brought to this machine goes.

use std::process::ExitCode;

use anyhow::Result;
use malha_agent::Paths;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Do it: pods on this machine lose their network.
    #[arg(long, required = true)]
    yes: bool,
}

pub fn run(_: &Args) -> Result<ExitCode> {
    let done = malha_agent::uninstall(&Paths::default())?;
    if done.is_empty() {
        println!("there was nothing to remove");
    }
    done.iter().for_each(|line| println!("{line}"));
    Ok(ExitCode::SUCCESS)
}
