//! Throughput, by iperf3.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::path::Path;

/// What one run came to.
pub struct Throughput {
    /// What the receiver got.
    pub gigabits_per_second: f64,
    /// What the whole machine was busy with, for each gigabyte that arrived.
    pub cpu_seconds_per_gigabyte: f64,
}

/// Sends as fast as it can for some seconds.
pub fn run(path: &Path, streams: u32, seconds: u32) -> Result<Throughput> {
    let mut server = path.server.run(start_server)??;
    let before = busy_seconds()?;
    let output = path.client.run(|| {
        Command::new("iperf3")
            .args(["--json", "--client", &path.address.to_string()])
            .args([
                "--parallel",
                &streams.to_string(),
                "--time",
                &seconds.to_string(),
            ])
            .output()
    })?;
    let busy = busy_seconds()? - before;
    server.kill().context("cannot end the iperf3 server")?;
    server.wait().context("cannot wait for the iperf3 server")?;
    let output = output.context("cannot run iperf3; install it with: apt-get install iperf3")?;
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "{}: iperf3 said {:?}",
            path.name,
            String::from_utf8_lossy(&output.stdout)
        )
    })?;
    let received = &report["end"]["sum_received"];
    let figure = |name: &str| {
        received[name]
            .as_f64()
            .with_context(|| format!("{}: iperf3 reports {}", path.name, report["error"]))
    };
    Ok(Throughput {
        gigabits_per_second: figure("bits_per_second")? / 1e9,
        cpu_seconds_per_gigabyte: busy / (figure("bytes")? / 1e9),
    })
}

/// Started when it says that it listens.
fn start_server() -> Result<Child> {
    let mut server = Command::new("iperf3")
        .args(["--server", "--one-off", "--forceflush"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run iperf3; install it with: apt-get install iperf3")?;
    let output = server.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next() {
        if line?.contains("listening") {
            // Its later output goes nowhere, but somebody has to read it, or the server stops at a full pipe.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(server);
        }
    }
    anyhow::bail!("the iperf3 server ended before it listened")
}

/// Everything but idling and waiting for disks, of all processors together, since boot.
fn busy_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let [user, nice, system, _idle, _wait, interrupt, soft, ..] = ticks.as_slice() else {
        anyhow::bail!("/proc/stat cannot be understood");
    };
    // A tick is 1/100 s on every Linux that user space sees (USER_HZ).
    Ok((user + nice + system + interrupt + soft) / 100.0)
}
