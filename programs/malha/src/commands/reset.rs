//! `malha reset`: undoes `malha join` and `malha init`.

use std::{io, process::ExitCode};

use anyhow::{Context, Result, bail};
use malha_agent::uninstall::{Options, uninstall};
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
        // Whoever resets the machine has said that its pods may go.
        let options = Options {
            dry_run: false,
            under_agent: true,
            under_pods: true,
        };
        let report = uninstall(&malha_agent::Paths::default(), options)?;
        for line in &report.done {
            machine.progress.step("reset", line);
        }
        if !report.failures.is_empty() {
            bail!("{}", report.failures.join("; "));
        }
        Ok(!report.done.is_empty())
    });
    let teardowns = vec![
        ("Stopped the pods of the node agent", pods),
        ("Removed the pod network", network),
    ];
    reset::run(&machine, teardowns)?;
    Ok(ExitCode::SUCCESS)
}
