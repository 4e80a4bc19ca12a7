//! `malha lab status`: what there is of a lab.

use anyhow::Result;

use crate::{
    state::{State, kubeconfig},
    table::align,
};

/// A line for each machine and how to reach the API.
///
/// # Errors
/// When there is no lab.
pub fn render() -> Result<String> {
    let state = State::load()?;
    let mut rows = vec![
        ["MACHINE", "ADDRESSES", "PID", "STATE"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for machine in state.plan.machines() {
        let holder = state
            .holders
            .iter()
            .find(|holder| holder.name == machine.name);
        let (pid, alive) = holder.map_or((String::new(), false), |holder| {
            (holder.process.pid.to_string(), holder.process.is_alive())
        });
        let condition = if alive { "running" } else { "ended" };
        rows.push(vec![
            machine.name.clone(),
            machine.node_ip(),
            pid,
            condition.to_owned(),
        ]);
    }
    Ok(format!(
        "{}\nKUBECONFIG={}\n",
        align(rows),
        kubeconfig().display()
    ))
}
