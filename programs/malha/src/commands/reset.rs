//! `malha reset`: undoes `malha join` and `malha init`.

use std::{io, process::ExitCode};

use anyhow::{Context, Result};
use malha_join::{
    machine::Machine,
    progress::Progress,
    reset::{self, Teardown},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Do not ask.
    #[arg(short, long)]
    force: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let machine = Machine::this(Progress::Out);
    if !args.force {
        reset::confirm(io::stdin().lock(), io::stdout())?;
    }
    let pods: Teardown<'_> = Box::new(|| {
        let config = malha_node::Config::new("", Vec::new())
            .context("cannot find this program's own file")?;
        let done = malha_node::teardown(&config)?;
        Ok(done.pods + done.containers > 0)
    });
    let network: Teardown<'_> = Box::new(|| {
        let done = malha_agent::uninstall(&malha_agent::Paths::default())?;
        done.iter()
            .for_each(|line| machine.progress.step("reset", line));
        Ok(!done.is_empty())
    });
    let teardowns = vec![
        ("Stopped the pods of the node agent", pods),
        ("Removed the pod network", network),
    ];
    reset::run(&machine, teardowns)?;
    Ok(ExitCode::SUCCESS)
}
