//! Traffic between pods, beside the same traffic between nodes and through the reference plugins' network.

mod iperf;
mod latency;
mod path;
mod reference;

use anyhow::Result;

use crate::{
    lab::Lab,
    report::{Row, table},
    stats::Series,
};
pub use path::Path;
use reference::Reference;

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds over all paths; every round measures each path once.
    pub rounds: usize,
    /// Seconds of each throughput measurement.
    pub seconds: u32,
    /// Exchanges of each latency measurement.
    pub exchanges: usize,
}

/// A row's name, and what is aimed at there.
type Aim = (&'static str, &'static str);
const ONE_STREAM: &str = "TCP, 1 stream";
const EXCHANGE: &str = "request and response, p50";

/// Everything that is measured of one path.
#[derive(Default)]
struct Figures {
    one_stream: Series,
    eight_streams: Series,
    cpu: Series,
    exchange: Series,
    connect: Series,
}

/// Measures with one way of routing between nodes.
///
/// # Errors
/// When the lab or a measurement fails.
pub fn run(routing: &str, effort: Effort) -> Result<String> {
    let lab = Lab::up(2, routing)?;
    let reference = Reference::build()?;
    let paths = [
        lab.between_nodes()?,
        lab.between_pods()?,
        lab.same_node_pods()?,
        reference.across_nodes()?,
        reference.same_node()?,
    ];
    let figures = measure(&paths, effort)?;
    let [node, across, local, vxlan, bridge] = figures.as_slice() else {
        anyhow::bail!("a path was not measured");
    };
    let mut text = String::new();
    let heading = format!("Pods on different nodes, `--routing={routing}`");
    let (vxlan_aims, node_aims): (&[Aim], &[Aim]) = if routing == "overlay" {
        (&[(ONE_STREAM, "at least 1.3")], &[])
    } else {
        (
            &[],
            &[(ONE_STREAM, "at least 0.95"), (EXCHANGE, "at most 1.05")],
        )
    };
    let mut rows = compare(across, "reference bridge and VXLAN", vxlan, vxlan_aims);
    rows.extend(compare(across, "node to node", node, node_aims));
    text.push_str(&table(&heading, &rows));
    let aims = [(ONE_STREAM, "at least 1.2")];
    let rows = compare(local, "reference bridge", bridge, &aims);
    text.push_str(&format!("\n{}", table("Pods on one node", &rows)));
    Ok(text)
}

/// Round by round, so that what else the machine does meets every path alike.
fn measure(paths: &[Path], effort: Effort) -> Result<Vec<Figures>> {
    let mut all: Vec<Figures> = paths.iter().map(|_| Figures::default()).collect();
    for round in 0..effort.rounds {
        for (path, figures) in paths.iter().zip(&mut all) {
            eprintln!("round {} of {}: {}", round + 1, effort.rounds, path.name);
            let one = iperf::run(path, 1, effort.seconds)?;
            figures.one_stream.push(one.gigabits_per_second);
            figures.cpu.push(one.cpu_seconds_per_gigabyte);
            figures
                .eight_streams
                .push(iperf::run(path, 8, effort.seconds)?.gigabits_per_second);
            let latency = latency::run(path, effort.exchanges)?;
            figures.exchange.extend(latency.exchange);
            figures.connect.extend(latency.connect);
        }
    }
    Ok(all)
}

fn compare(ours: &Figures, baseline: &str, theirs: &Figures, aims: &[Aim]) -> Vec<Row> {
    let row = |what: &str, unit: &str, of: &dyn Fn(&Figures) -> f64| {
        let (mine, other) = (of(ours), of(theirs));
        let aim = aims.iter().find(|(row, _)| *row == what);
        Row {
            what: what.to_owned(),
            ours: format!("{mine:.2} {unit}"),
            baseline: baseline.to_owned(),
            theirs: format!("{other:.2} {unit}"),
            ratio: mine / other,
            aim: aim.map_or("", |(_, aim)| aim).to_owned(),
        }
    };
    vec![
        row(ONE_STREAM, "Gbit/s", &|f| f.one_stream.median()),
        row("TCP, 8 streams", "Gbit/s", &|f| f.eight_streams.median()),
        row(EXCHANGE, "µs", &|f| f.exchange.median()),
        row("request and response, p99", "µs", &|f| {
            f.exchange.quantile(0.99)
        }),
        row("connect, request, response, p50", "µs", &|f| {
            f.connect.median()
        }),
        row("connect, request, response, p99", "µs", &|f| {
            f.connect.quantile(0.99)
        }),
        row("CPU", "s/GB", &|f| f.cpu.median()),
    ]
}
