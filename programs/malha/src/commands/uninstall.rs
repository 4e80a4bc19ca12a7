//! `malha uninstall`: what the network agent brought to this machine goes. Exit code 0: it is gone, 1: not all of it.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use malha_agent::{
    Paths,
    uninstall::{Options, uninstall},
};
use malha_core::paths;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Go on although an agent runs, which may bring things back, or pods are attached, which lose their network.
    #[arg(short, long)]
    force: bool,
    /// Where the agent put the CNI configuration.
    #[arg(long, value_name = "DIR", default_value = paths::CNI_CONF_DIR)]
    cni_conf_dir: PathBuf,
    /// Where it put the CNI plugin.
    #[arg(long, value_name = "DIR", default_value = paths::CNI_BIN_DIR)]
    cni_bin_dir: PathBuf,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let paths = Paths {
        cni_conf: args.cni_conf_dir,
        cni_bin: args.cni_bin_dir,
        ..Paths::default()
    };
    let options = Options {
        dry_run: args.dry_run,
        under_agent: args.force,
        under_pods: args.force,
    };
    let report = uninstall(&paths, options)?;
    if report.done.is_empty() && report.failures.is_empty() {
        println!("[uninstall] There is nothing of Malha's network on this machine");
    }
    for line in &report.done {
        println!("[uninstall] {line}");
    }
    if !report.failures.is_empty() {
        bail!(
            "not everything was undone: {}; correct this and run malha uninstall again",
            report.failures.join("; ")
        );
    }
    Ok(ExitCode::SUCCESS)
}
