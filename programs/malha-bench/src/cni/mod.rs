//! CNI calls, beside Debian's reference plugins and beside a bare netlink loop. Runs inside a node of a lab.

mod calls;
mod floor;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{
    lab::Lab,
    report::{Row, table},
    stats::Series,
};
pub use calls::REFERENCE;
use calls::{Network, Times};

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Effort {
    /// Calls one after the other.
    pub calls: usize,
    /// Calls with several at a time.
    pub parallel_calls: usize,
    /// Pods that exist at once.
    pub pods: usize,
}

/// How many call at a time.
const WORKERS: usize = 8;

/// Measures in a fresh lab.
///
/// # Errors
/// When the lab or a call fails.
pub fn run(effort: Effort) -> Result<String> {
    let lab = Lab::up(1, "auto")?;
    let effort = serde_json::to_string(&effort)?;
    lab.run_inside("node1", &["inside", &effort])
}

/// The part that runs inside the node.
///
/// # Errors
/// When a call fails.
pub fn inside(effort: Effort) -> Result<String> {
    let (ours, reference) = (Network::ours()?, Network::reference()?);
    let mut rows = Vec::new();
    let (mine, theirs, floor) = alternate(&ours, &reference, effort.calls)?;
    rows.extend(compare(
        "one at a time",
        &mine,
        &theirs,
        ["at most 1/20", "at most 1/30"],
    ));
    rows.push(row(
        "ADD, one at a time",
        &mine.add,
        "the same veth, addresses and routes by netlink",
        &floor,
        0.5,
        "at most 2.5",
    ));
    let (mine, theirs) = (
        ours.parallel(WORKERS, effort.parallel_calls)?,
        reference.parallel(WORKERS, effort.parallel_calls)?,
    );
    rows.extend(compare("8 at a time", &mine, &theirs, ["", ""]));
    let (mine, theirs) = (ours.many(effort.pods)?, reference.many(effort.pods)?);
    rows.extend(compare(
        &format!("{} pods at once", effort.pods),
        &mine,
        &theirs,
        ["", ""],
    ));
    let (status, start) = ours.status(effort.calls)?;
    rows.push(row(
        "STATUS",
        &status,
        "the plugin's VERSION: starting it",
        &start,
        0.5,
        "at most 2 ms more",
    ));
    Ok(table("CNI calls", &rows))
}

/// Ours, the reference's and the floor in turn, so that noise meets all alike.
fn alternate(ours: &Network, reference: &Network, calls: usize) -> Result<(Times, Times, Series)> {
    let (mut mine, mut theirs, mut floor) = (Times::default(), Times::default(), Series::default());
    for number in 0..calls {
        mine.merge(ours.once(&format!("one-{number}"))?);
        theirs.merge(reference.once(&format!("two-{number}"))?);
        floor.push_time(floor::add(number)?);
    }
    Ok((mine, theirs, floor))
}

fn compare(how: &str, mine: &Times, theirs: &Times, aims: [&str; 2]) -> Vec<Row> {
    let baseline = "bridge, host-local, portmap";
    vec![
        row(
            &format!("ADD, {how}, p50"),
            &mine.add,
            baseline,
            &theirs.add,
            0.5,
            aims[0],
        ),
        row(
            &format!("ADD, {how}, p99"),
            &mine.add,
            baseline,
            &theirs.add,
            0.99,
            "",
        ),
        row(
            &format!("DEL, {how}, p50"),
            &mine.del,
            baseline,
            &theirs.del,
            0.5,
            aims[1],
        ),
        row(
            &format!("DEL, {how}, p99"),
            &mine.del,
            baseline,
            &theirs.del,
            0.99,
            "",
        ),
    ]
}

fn row(what: &str, mine: &Series, baseline: &str, theirs: &Series, share: f64, aim: &str) -> Row {
    Row {
        aim: aim.to_owned(),
        ..Row::times(what, mine, baseline, theirs, share)
    }
}
