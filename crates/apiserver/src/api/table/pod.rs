//! Pods.

use jiff::Timestamp;
use serde_json::Value;

use super::{Printer, age, column::Column, name, number, or};
use crate::auth::fields::{items, text};

pub(super) const PODS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Ready", "The containers that are ready, of all."),
        Column::text("Status", "The aggregate status of the containers."),
        Column::text(
            "Restarts",
            "The number of times the containers have been restarted, and when last.",
        ),
        Column::AGE,
        Column::text("IP", "The pod's first address.").wide(),
        Column::text("Node", "The node it runs on.").wide(),
        Column::text("Nominated Node", "The node it waits for.").wide(),
        Column::text(
            "Readiness Gates",
            "The readiness gates that are open, of all.",
        )
        .wide(),
    ],
    cells,
};

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let total = items(pod, "/spec/containers").len()
        + items(pod, "/spec/initContainers")
            .iter()
            .filter(|c| is_sidecar(c))
            .count();
    let none = |pointer| Value::from(or(text(pod, pointer), "<none>"));
    vec![
        name(pod),
        format!("{}/{total}", summary.ready).into(),
        summary.reason.into(),
        restarts(summary.restarts, summary.last_restart, now).into(),
        age::created(pod, now),
        none("/status/podIPs/0/ip"),
        none("/spec/nodeName"),
        none("/status/nominatedNodeName"),
        gates(pod).into(),
    ]
}

fn restarts(count: i64, last: Option<&str>, now: Timestamp) -> String {
    match last {
        Some(time) if count != 0 => format!("{count} ({} ago)", age::since(time, now)),
        _ => count.to_string(),
    }
}

fn gates(pod: &Value) -> String {
    let gates = items(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = gates
        .iter()
        .filter(|gate| has_condition(pod, text(gate, "/conditionType")));
    format!("{}/{}", open.count(), gates.len())
}

fn has_condition(pod: &Value, kind: &str) -> bool {
    let mut all = items(pod, "/status/conditions").iter();
    all.any(|c| text(c, "/type") == kind && text(c, "/status") == "True")
}

/// An init container that keeps running.
fn is_sidecar(container: &Value) -> bool {
    text(container, "/restartPolicy") == "Always"
}

/// What the containers' states come to.
struct Summary<'a> {
    ready: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<&'a str>,
}

impl<'a> Summary<'a> {
    fn of(pod: &'a Value) -> Self {
        let phase = text(pod, "/status/phase");
        let gated = |c: &Value| {
            text(c, "/type") == "PodScheduled" && text(c, "/reason") == "SchedulingGated"
        };
        let mut reason = or(text(pod, "/status/reason"), phase).to_owned();
        if items(pod, "/status/conditions").iter().any(gated) {
            reason = "SchedulingGated".to_owned();
        }
        let mut summary = Self {
            ready: 0,
            reason,
            restarts: 0,
            last_restart: None,
        };
        let initializing = summary.init_containers(pod);
        if !initializing || has_condition(pod, "Initialized") {
            summary.containers(pod);
        }
        let deleted = !text(pod, "/metadata/deletionTimestamp").is_empty();
        if deleted && text(pod, "/status/reason") == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if deleted && !["Succeeded", "Failed"].contains(&phase) {
            summary.reason = "Terminating".to_owned();
        }
        summary
    }

    /// Looks for the first init container that is not done; says whether there is one.
    fn init_containers(&mut self, pod: &'a Value) -> bool {
        let specs = items(pod, "/spec/initContainers");
        for (index, status) in items(pod, "/status/initContainerStatuses")
            .iter()
            .enumerate()
        {
            let spec = specs
                .iter()
                .find(|spec| text(spec, "/name") == text(status, "/name"));
            let sidecar = spec.is_some_and(is_sidecar);
            self.count_restarts(status);
            let terminated = status.pointer("/state/terminated");
            if terminated.is_some_and(|t| number(t, "/exitCode") == 0) {
                continue;
            }
            if sidecar && status["started"] == true {
                self.ready += usize::from(status["ready"] == true);
                continue;
            }
            let waiting = text(status, "/state/waiting/reason");
            self.reason = match terminated {
                Some(ended) => format!("Init:{}", end(ended)),
                None if !["", "PodInitializing"].contains(&waiting) => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", specs.len()),
            };
            return true;
        }
        false
    }

    fn containers(&mut self, pod: &'a Value) {
        let specs = items(pod, "/spec/initContainers");
        // From here on only what keeps running counts.
        (self.restarts, self.last_restart) = (0, None);
        for status in items(pod, "/status/initContainerStatuses") {
            let mut specs = specs.iter().filter(|spec| is_sidecar(spec));
            if specs.any(|spec| text(spec, "/name") == text(status, "/name")) {
                self.count_restarts(status);
            }
        }
        let mut running = false;
        for status in items(pod, "/status/containerStatuses").iter().rev() {
            self.count_restarts(status);
            let waiting = text(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(ended) = status.pointer("/state/terminated") {
                self.reason = end(ended);
            } else if status["ready"] == true && status.pointer("/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = has_condition(pod, "Ready");
            self.reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn count_restarts(&mut self, status: &'a Value) {
        self.restarts += number(status, "/restartCount");
        let finished = text(status, "/lastState/terminated/finishedAt");
        // Timestamps of one form sort as text.
        if !finished.is_empty() && self.last_restart.is_none_or(|last| last < finished) {
            self.last_restart = Some(finished);
        }
    }
}

/// How a container ended.
fn end(terminated: &Value) -> String {
    match (text(terminated, "/reason"), number(terminated, "/signal")) {
        ("", 0) => format!("ExitCode:{}", number(terminated, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}
