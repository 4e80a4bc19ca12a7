//! What Malha takes: memory, disk, and the time to join.

use std::{fs, time::Instant};

use anyhow::{Context, Result};
use malha_lab::{cluster::Cluster, state};
use serde_json::Value;

use crate::lab::{Lab, malha, program};

/// Measures in a fresh lab; a table in Markdown.
///
/// # Errors
/// When the lab fails.
pub fn run(joins: usize) -> Result<String> {
    let _lab = Lab::up(2, "auto")?;
    let status = malha(&[
        "lab", "exec", "node1", "--", "malha", "status", "-o", "json",
    ])?;
    let status: Value = serde_json::from_str(&status).context("cannot read the agent's status")?;
    let resident = status["residentBytes"]
        .as_f64()
        .context("the agent does not tell its memory")?;
    let mut times = crate::stats::Series::default();
    for _ in 0..joins {
        times.push(join_again()?);
    }
    Ok(format!(
        "### Footprint\n\n| what | figure | aim |\n| --- | ---: | --- |\n\
         | agent, resident, idle | {:.1} MiB | under 30 MiB |\n\
         | `malha` | {:.1} MB | under 20 MB |\n\
         | `malha-cni` | {:.2} MB | under 1.5 MB |\n\
         | `malha join`, start to registered, p50 (n={}) | {:.0} ms | |\n",
        resident / 1024.0 / 1024.0,
        megabytes("malha")?,
        megabytes("malha-cni")?,
        times.len(),
        times.median(),
    ))
}

fn megabytes(name: &str) -> Result<f64> {
    Ok(fs::metadata(program(name)?)?.len() as f64 / 1e6)
}

/// Takes the second node out of the cluster and has it join again; milliseconds.
fn join_again() -> Result<f64> {
    malha(&["lab", "exec", "node2", "--", "malha", "reset", "--force"])?;
    tokio::runtime::Runtime::new()?.block_on(forget())?;
    let command = malha(&[
        "lab",
        "exec",
        "control",
        "--",
        "malha",
        "token",
        "create",
        "--print-join-command",
    ])?;
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    let arguments: Vec<&str> = ["lab", "exec", "node2", "--", "malha"]
        .into_iter()
        .chain(words)
        .collect();
    let begun = Instant::now();
    malha(&arguments)?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

async fn forget() -> Result<()> {
    Cluster::open(&state::kubeconfig())
        .await?
        .delete("/api/v1/nodes/node2")
        .await
}
