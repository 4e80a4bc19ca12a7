//! Undoing all that the agent made on a machine.

use anyhow::{Result, bail};

use crate::{
    Config, open_runtime, pods,
    runtime::{Inventory, Runtime},
    volumes,
};

/// What [`teardown`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TornDown {
    /// Pods that were running or had left something.
    pub pods: usize,
    /// Containers that were stopped or removed.
    pub containers: usize,
}

/// The file of the run directory that says which node this is.
pub(crate) const NODE_NAME: &str = "node-name";

/// Undoes all that [`run`](crate::run) made on this machine: stops pods, gives their networks back, unmounts volumes,
/// removes cgroups, records and logs. The configuration need not name the node. Blocking; the node agent itself must not be running. Doing it twice is fine.
///
/// # Errors
/// Everything that could not be removed, together; the rest is removed all the same.
pub fn teardown(config: &Config) -> Result<TornDown> {
    let mut config = config.clone();
    if config.node_name.is_empty() {
        config.node_name =
            std::fs::read_to_string(config.run_dir.join(NODE_NAME)).unwrap_or_default();
    }
    let config = &config;
    if config.node_name.is_empty() && !config.run_dir.exists() {
        return Ok(TornDown::default());
    }
    let runtime = open_runtime(config)?;
    let inventory = runtime.inventory()?;
    let mut failures = Failures::default();
    let pods = pods_of(&inventory, config);
    remove_containers(&runtime, &inventory, &mut failures);
    for sandbox in &inventory.sandboxes {
        if let Err(error) = runtime.remove_sandbox(sandbox) {
            failures.add("a pod's network may be left on the machine", &error);
            // Whoever made it is gone, most likely; what the agent itself keeps must not stay for that.
            failures.check("a sandbox", runtime.forget_sandbox(sandbox));
        }
    }
    for uid in &pods {
        failures.check(
            "a pod's volumes",
            volumes::remove_directory(&volumes::pods_dir(&config.root_dir).join(uid)),
        );
        for logs in pods::logs_of_uid(&config.log_dir, uid) {
            failures.check("a pod's logs", volumes::remove_directory(&logs));
        }
    }
    let cgroups = runtime.cgroups();
    if !config.node_name.is_empty() {
        failures.check("the cgroups", cgroups.remove(cgroups.node()));
    }
    cgroups.remove_base();
    for directory in [&config.run_dir, &config.root_dir] {
        failures.check("a directory", volumes::remove_directory(directory));
    }
    failures.result(TornDown {
        pods: pods.len(),
        containers: inventory.containers.len(),
    })
}

fn remove_containers(runtime: &Runtime, inventory: &Inventory, failures: &mut Failures) {
    // All are asked before any is waited for.
    for container in &inventory.containers {
        failures.check(
            "a container",
            runtime.signal(container, rustix::process::Signal::KILL),
        );
    }
    for container in &inventory.containers {
        failures.check("a container", runtime.remove(container));
    }
}

/// The uids of all pods that left a trace.
fn pods_of(inventory: &Inventory, config: &Config) -> std::collections::BTreeSet<String> {
    let of_sandboxes = inventory.sandboxes.iter().map(|s| s.pod_uid.clone());
    let of_containers = inventory.containers.iter().map(|c| c.pod_uid.clone());
    of_sandboxes
        .chain(of_containers)
        .chain(volumes::pods_in(&config.root_dir))
        .collect()
}

#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn add(&mut self, what: &str, error: &dyn std::fmt::Display) {
        self.0.push(format!("{what}: {error}"));
    }

    fn check<T, E: std::fmt::Display>(&mut self, what: &str, outcome: Result<T, E>) {
        if let Err(error) = outcome {
            self.add(what, &error);
        }
    }

    fn result(self, done: TornDown) -> Result<TornDown> {
        if self.0.is_empty() {
            return Ok(done);
        }
        bail!("not everything could be removed: {}", self.0.join("; "))
    }
}
