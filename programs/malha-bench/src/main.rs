//! `malha-bench`: measures Malha beside its baselines, in one run, and prints Markdown.

mod cni;
mod footprint;
mod join;
mod lab;
mod memory;
mod report;
mod sandbox;
mod stats;
mod traffic;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "Measures Malha, each figure beside its baseline from the same run")]
struct Arguments {
    /// Few repetitions: to see that the measurements run, not what they say.
    #[arg(long, global = true)]
    quick: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// CNI calls.
    Cni,
    /// Traffic between pods.
    Traffic,
    /// Starting and stopping pods' sandboxes through containerd.
    Sandbox,
    /// Memory, sizes, the time to join.
    Footprint,
    /// Memory of an agent that knows many pods.
    Memory,
    /// Joining a control plane of real kubeadm, beside `kubeadm join`.
    Join,
    /// What runs inside a node.
    #[command(hide = true)]
    Inside { effort: String },
    /// What runs inside a node, beside a containerd.
    #[command(hide = true)]
    InsideSandbox { effort: String },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let quick = arguments.quick;
    // Only one provider is built in; a second call is refused and changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match arguments.part {
        Some(Part::Inside { effort }) => print!("{}", cni::inside(serde_json::from_str(&effort)?)?),
        Some(Part::Cni) => println!("{}", calls(quick)?),
        Some(Part::Traffic) => println!("{}", paths(quick)?),
        Some(Part::InsideSandbox { effort }) => {
            print!("{}", sandbox::inside(serde_json::from_str(&effort)?)?);
        }
        Some(Part::Sandbox) => println!("{}", sandboxes(quick)?),
        Some(Part::Footprint) => println!("{}", size(quick)?),
        Some(Part::Join) => println!("{}", join::run(joins(quick))?),
        Some(Part::Memory) => println!("{}", knowledge(quick)?),
        None => {
            for part in [calls, sandboxes, paths, size, knowledge, joining] {
                println!("{}", part(quick)?);
            }
        }
    }
    Ok(())
}

fn calls(quick: bool) -> Result<String> {
    cni::run(if quick {
        cni::Effort {
            calls: 5,
            parallel_calls: 16,
            pods: 10,
        }
    } else {
        cni::Effort {
            calls: 50,
            parallel_calls: 160,
            pods: 500,
        }
    })
}

fn paths(quick: bool) -> Result<String> {
    let effort = if quick {
        traffic::Effort {
            rounds: 1,
            seconds: 1,
            exchanges: 500,
        }
    } else {
        traffic::Effort {
            rounds: 5,
            seconds: 3,
            exchanges: 10_000,
        }
    };
    Ok(format!(
        "{}\n{}",
        traffic::run("overlay", effort)?,
        traffic::run("direct", effort)?
    ))
}

fn sandboxes(quick: bool) -> Result<String> {
    sandbox::run(if quick {
        sandbox::Effort {
            rounds: 3,
            pods: 10,
        }
    } else {
        sandbox::Effort {
            rounds: 30,
            pods: 100,
        }
    })
}

fn knowledge(quick: bool) -> Result<String> {
    memory::run(if quick {
        memory::Effort {
            local: 10,
            elsewhere: 200,
        }
    } else {
        memory::Effort {
            local: 100,
            elsewhere: 5_000,
        }
    })
}

fn joins(quick: bool) -> usize {
    if quick { 1 } else { 10 }
}

/// Skipped, and said so, where the programs of Kubernetes are missing.
fn joining(quick: bool) -> Result<String> {
    join::run_or_skip(joins(quick))
}

fn size(quick: bool) -> Result<String> {
    footprint::run(if quick { 1 } else { 10 })
}
