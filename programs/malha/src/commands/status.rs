//! `malha status`: what this node's network agent says of itself. Exit code 0: healthy, 1: degraded, 2: no answer.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::ValueEnum;
use malha_agent::api::client;
use malha_core::paths;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print it.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// Print nothing unless something is wrong: whether the agent serves pods (ready), or answers at all (live).
    #[arg(long, value_name = "WHAT", num_args = 0..=1, default_missing_value = "ready")]
    check: Option<Check>,
    /// The agent's socket.
    #[arg(long, value_name = "FILE", default_value = paths::AGENT_SOCKET)]
    socket: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Check {
    Ready,
    Live,
}

const DEGRADED: u8 = 1;
const NO_ANSWER: u8 = 2;

pub fn run(args: &Args) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        match args.check {
            Some(check) => checked(args, check).await,
            None => printed(args).await,
        }
    });
    outcome.or_else(|error| {
        eprintln!("malha: {error:#}");
        Ok(ExitCode::from(NO_ANSWER))
    })
}

async fn checked(args: &Args, check: Check) -> Result<ExitCode> {
    let problem = match check {
        Check::Ready => client::ready(&args.socket).await?.err(),
        Check::Live => client::get(&args.socket, "/healthz").await.map(|_| None)?,
    };
    if let Some(problem) = problem {
        eprintln!("malha: {problem}");
        return Ok(ExitCode::from(DEGRADED));
    }
    Ok(ExitCode::SUCCESS)
}

async fn printed(args: &Args) -> Result<ExitCode> {
    let status = client::status(&args.socket).await?;
    match args.output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&status)?),
        Format::Table => print!("{}", status.page(jiff::Timestamp::now())),
    }
    let healthy = status.complaints().is_empty();
    Ok(if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DEGRADED)
    })
}
