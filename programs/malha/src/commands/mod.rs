//! The command line. Each command's file holds its arguments and wires them to the crate that does the work.

mod agent;
mod cluster;
mod completions;
mod control_plane;
mod detached;
mod explain;
mod init;
mod join;
mod lab;
mod node;
mod policy;
mod reset;
mod status;
mod token;
mod uninstall;

use std::{io::IsTerminal, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// From bare Linux machines to a Ready Kubernetes cluster with a pod network.
#[derive(Debug, Parser)]
#[command(name = "malha", version, propagate_version = true)]
pub struct Malha {
    /// What to log, for example `debug` or `info,malha_agent=debug`.
    #[arg(
        long,
        global = true,
        env = "MALHA_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this machine a control plane; prints the command that nodes join with.
    Init(Box<init::Args>),
    /// Make this machine a node of a cluster.
    Join(Box<join::Args>),
    /// Make, list and delete the tokens that nodes join with.
    Token(token::Args),
    /// Undo malha init and malha join on this machine.
    Reset(reset::Args),
    /// Run the control plane that malha init made.
    ControlPlane(control_plane::Args),
    /// Run this machine as a node, where there is no kubelet.
    Node(Box<node::Args>),
    /// Give this node's pods their network.
    Agent(Box<agent::Args>),
    /// What this node's network agent says of itself.
    Status(status::Args),
    /// Whether one may talk to another, and which rule of which policy says so.
    Explain(explain::Args),
    /// What policies would change.
    Policy(policy::Args),
    /// Remove what the network agent brought to this machine.
    Uninstall(uninstall::Args),
    /// A whole cluster on this machine, to look at and to test with.
    Lab(lab::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
    /// Run a program in a session of its own (started by malha itself).
    #[command(hide = true)]
    Detached(detached::Args),
}

impl Malha {
    /// Runs the command to its end.
    ///
    /// # Errors
    /// What the command could not do, in one line that names cause and remedy.
    pub fn run(self) -> Result<ExitCode> {
        start_log(&self.log)?;
        if self.command.only_prints() {
            sigpipe::reset();
        }
        match self.command {
            Command::Init(args) => init::run(*args),
            Command::Join(args) => join::run(*args),
            Command::Token(args) => token::run(args),
            Command::Reset(args) => reset::run(&args),
            Command::ControlPlane(args) => control_plane::run(&args),
            Command::Node(args) => node::run(*args),
            Command::Agent(args) => agent::run(*args),
            Command::Status(args) => status::run(&args),
            Command::Explain(args) => explain::run(args),
            Command::Policy(args) => policy::run(args),
            Command::Uninstall(args) => uninstall::run(args),
            Command::Lab(args) => lab::run(args),
            Command::Completions(args) => completions::run(&args),
            Command::Detached(args) => detached::run(&args),
        }
    }
}

impl Command {
    /// Whether `| head` may end it like any other tool. What serves sockets must outlive a peer that goes away.
    fn only_prints(&self) -> bool {
        matches!(
            self,
            Self::Status(_)
                | Self::Token(_)
                | Self::Completions(_)
                | Self::Explain(_)
                | Self::Policy(_)
        )
    }
}

/// Logs go to standard error, coloured only on a terminal.
fn start_log(filter: &str) -> Result<()> {
    let mut logged = EnvFilter::try_new(filter)?;
    if !filter.contains("kube_client") {
        // It logs what it also returns, and the commands say that better.
        logged = logged.add_directive("kube_client::client::builder=off".parse()?);
    }
    tracing_subscriber::fmt()
        .with_env_filter(logged)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

/// A runtime for commands that talk to a cluster.
fn block_on<F: Future<Output = Result<ExitCode>>>(work: F) -> Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
