//! Starting and stopping pods' sandboxes as a kubelet does, through containerd: with Malha's network, with the reference
//! plugins', and with none. Runs inside a node of a lab.

mod engine;
mod pause;
mod work;

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{
    lab::Lab,
    report::{Row, table},
};
use engine::{Engine, Network};
use work::Times;

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Effort {
    /// Sandboxes one after the other.
    pub rounds: u32,
    /// Sandboxes that exist at once.
    pub pods: u32,
}

/// How many calls a kubelet that starts many pods makes at a time.
const WORKERS: u32 = 10;
const REFERENCE: &str = "bridge, host-local, portmap";
const BARE: &str = "the host's network: no plugin";

/// Measures in a fresh lab.
///
/// # Errors
/// When containerd is missing, or the lab or a call fails.
pub fn run(effort: Effort) -> Result<String> {
    engine::require_programs()?;
    let lab = Lab::up(1, "auto")?;
    let effort = serde_json::to_string(&effort)?;
    lab.run_inside("node1", &["inside-sandbox", &effort])
}

/// The part that runs inside the node.
///
/// # Errors
/// When a call fails.
pub fn inside(effort: Effort) -> Result<String> {
    let image = pause::archive(Path::new(engine::HOME))?;
    let ours = Engine::start(Network::Malha, &image)?;
    let reference = Engine::start(Network::Reference, &image)?;
    let (mut mine, mut theirs, mut bare) = (Times::default(), Times::default(), Times::default());
    // In turn, so that noise meets all alike.
    for number in 0..effort.rounds {
        mine.merge(ours.once(number, false)?);
        theirs.merge(reference.once(number, false)?);
        bare.merge(ours.once(number, true)?);
    }
    let mut rows = Vec::new();
    let one = "one at a time";
    rows.extend(compare(one, &mine, REFERENCE, &theirs));
    rows.extend(compare(one, &mine, BARE, &bare));
    let many = format!("{} pods, {WORKERS} at a time", effort.pods);
    let (mine, theirs) = (
        ours.many(effort.pods, WORKERS)?,
        reference.many(effort.pods, WORKERS)?,
    );
    rows.extend(compare(&many, &mine, REFERENCE, &theirs));
    rows.push(Row::times(
        &format!("all {} pods started", effort.pods),
        &mine.all,
        REFERENCE,
        &theirs.all,
        0.5,
    ));
    Ok(table("Sandboxes, by containerd", &rows))
}

fn compare(how: &str, mine: &Times, baseline: &str, theirs: &Times) -> [Row; 2] {
    let row = |call, mine, theirs| {
        Row::times(&format!("{call}, {how}, p50"), mine, baseline, theirs, 0.5)
    };
    [
        row("RunPodSandbox", &mine.run, &theirs.run),
        row("StopPodSandbox", &mine.stop, &theirs.stop),
    ]
}
