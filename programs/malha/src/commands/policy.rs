//! `malha policy check`: what policies would change, before they are applied.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Subcommand;
use malha_policy::{diff, read};

use super::{
    block_on,
    cluster::{self, Source},
};

/// The exit code when a policy is not as it should be.
const PROBLEMS: u8 = 3;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print who gains and who loses access if these policies are applied; changes nothing. Exits with 3 if one of them
    /// is not as it should be.
    Check {
        #[command(flatten)]
        source: Source,
        /// Files with NetworkPolicies; - for standard input.
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// How to print it.
        #[arg(short = 'o', long = "output", value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text")]
        output: String,
    },
}

pub fn run(args: Args) -> Result<ExitCode> {
    let Command::Check {
        source,
        files,
        output,
    } = args.command;
    block_on(async move {
        let policies = cluster::policies(&files)?;
        let before = source.read().await?;
        let mut after = before.clone();
        let mut problems = Vec::new();
        for policy in policies {
            problems.extend(read::read(&policy, &after.address_sets).1);
            after.set_policy(policy);
        }
        let differences = diff::diff(&before, &after);
        let changes: Vec<String> = differences.iter().map(ToString::to_string).collect();
        let complaints: Vec<String> = problems.iter().map(ToString::to_string).collect();
        match output.as_str() {
            "json" => println!(
                "{}",
                serde_json::json!({ "problems": complaints, "changes": changes })
            ),
            _ => {
                complaints
                    .iter()
                    .for_each(|problem| println!("problem  {problem}"));
                changes.iter().for_each(|change| println!("{change}"));
                if changes.is_empty() {
                    println!("nobody gains or loses access");
                }
            }
        }
        Ok(if complaints.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(PROBLEMS)
        })
    })
}
