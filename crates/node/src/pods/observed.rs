//! What is known of a pod on this machine. Pure data; the worker fills it, [`decide`](super::decide) and
//! [`status`](super::status) read it.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::backoff::Backoff;

/// A pod on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its sandbox.
    pub sandbox: SandboxState,
    /// Its addresses; they stay in the status when the sandbox is gone.
    pub ips: Vec<IpAddr>,
    /// When this node first saw the pod.
    pub since: Option<Timestamp>,
    /// After a failure to prepare it: not before this.
    pub prepare_at: Option<Timestamp>,
    /// Its containers by name, init containers among them.
    pub containers: BTreeMap<String, Track>,
    /// It is gone from the API server: nothing is left to report to.
    pub gone: bool,
    /// It will not run, ever: reason and message.
    pub rejected: Option<(String, String)>,
}

/// Whether the pod has a sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SandboxState {
    /// No, nor volumes.
    #[default]
    Absent,
    /// Yes.
    Ready,
    /// It had one, and is released.
    Released,
}

/// One container over its restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Track {
    /// The instance that runs, or ran last.
    pub current: Option<Instance>,
    /// How the one before it ended.
    pub last: Option<Ended>,
    /// How often it was started again.
    pub restarts: u32,
    /// How long it waits before the next time.
    pub backoff: Backoff,
    /// Why it cannot be started: reason and message.
    pub waiting: Option<(String, String)>,
    /// Then not before this.
    pub retry_at: Option<Timestamp>,
}

/// One run of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The runtime's name of it.
    pub id: String,
    /// Running or ended.
    pub run: Run,
    /// Its startup probe has succeeded, or it has none.
    pub started: bool,
    /// Its readiness probe succeeds, or it has none.
    pub ready: bool,
    /// It is being stopped.
    pub stopping: bool,
    /// A probe says that it must be stopped.
    pub unhealthy: bool,
}

/// Running or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// Since then.
    Running(Timestamp),
    /// Like this.
    Ended(Ended),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The runtime's name of it.
    pub id: String,
    /// Exit code.
    pub code: i32,
    /// Signal.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun`.
    pub reason: String,
    /// What it left as its message.
    pub message: String,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
}

/// The reason of a container whose program could not be started.
pub const CANNOT_RUN: &str = "ContainerCannotRun";

impl Track {
    /// Whether it runs.
    pub fn running(&self) -> Option<&Instance> {
        self.current
            .as_ref()
            .filter(|i| matches!(i.run, Run::Running(_)))
    }

    /// How its last instance ended, if none runs.
    pub fn ended(&self) -> Option<&Ended> {
        match &self.current.as_ref()?.run {
            Run::Ended(ended) => Some(ended),
            Run::Running(_) => None,
        }
    }

    /// Whether it serves.
    pub fn is_ready(&self) -> bool {
        self.running().is_some_and(|i| i.started && i.ready)
    }
}

impl Observed {
    /// A container's track; an unknown one has done nothing yet.
    pub fn track(&self, name: &str) -> Option<&Track> {
        self.containers.get(name)
    }

    /// Whether a container runs.
    pub fn is_running(&self, name: &str) -> bool {
        self.track(name).is_some_and(|t| t.running().is_some())
    }

    /// Whether any container runs.
    pub fn any_running(&self) -> bool {
        self.containers.values().any(|t| t.running().is_some())
    }
}

/// The spec, which every bound pod has.
pub fn spec(pod: &Pod) -> PodSpec {
    pod.spec.clone().unwrap_or_default()
}

/// Whether a container that ended with `code` is started again.
pub fn restarts(policy: Option<&str>, code: i32) -> bool {
    match policy {
        Some("Never") => false,
        Some("OnFailure") => code != 0,
        _ => true,
    }
}

/// An init container that goes on beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Whether an init container is done, or (a sidecar) as far as the next may start.
pub fn init_done(container: &Container, seen: &Observed) -> bool {
    let Some(track) = seen.track(&container.name) else {
        return false;
    };
    match is_sidecar(container) {
        true => track.running().is_some_and(|i| i.started),
        false => track.ended().is_some_and(|e| e.code == 0),
    }
}

/// The restart policy that counts for a container of a pod.
pub fn policy<'a>(spec: &'a PodSpec, container: &Container) -> Option<&'a str> {
    let init = spec
        .init_containers
        .iter()
        .flatten()
        .any(|c| c.name == container.name);
    match spec.restart_policy.as_deref() {
        // A sidecar is started again for as long as the pod lives.
        _ if init && is_sidecar(container) => Some("Always"),
        Some("Never") => Some("Never"),
        _ if init => Some("OnFailure"),
        other => other,
    }
}

/// Whether an init container has failed for good.
pub fn init_failed(spec: &PodSpec, seen: &Observed) -> bool {
    spec.init_containers.iter().flatten().any(|container| {
        let ended = seen.track(&container.name).and_then(Track::ended);
        ended.is_some_and(|e| e.code != 0 && !restarts(policy(spec, container), e.code))
    })
}

/// Whether nothing of the pod will run again.
pub fn is_over(pod: &Pod, seen: &Observed) -> bool {
    let Some(spec) = &pod.spec else {
        return true;
    };
    let recorded = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    let ended = |c: &Container| {
        let ended = seen.track(&c.name).and_then(Track::ended);
        ended.is_some_and(|e| !restarts(policy(spec, c), e.code))
    };
    matches!(recorded, Some("Succeeded" | "Failed"))
        || seen.rejected.is_some()
        || init_failed(spec, seen)
        || (!spec.containers.is_empty() && spec.containers.iter().all(ended))
}
