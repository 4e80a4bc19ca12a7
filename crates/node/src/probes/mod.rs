//! Probes: whether containers have started, live and serve.

mod check;
mod count;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

pub use check::{Handler, Target, check, handler};
use count::{Counter, Verdict};

/// Which of a container's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing else is probed before it has succeeded once.
    Startup,
    /// A failure ends the container.
    Liveness,
    /// A failure takes the container out of service.
    Readiness,
}

impl Kind {
    /// As events begin.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// What a probe has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The container.
    pub container: String,
    /// The runtime's name of the run.
    pub id: String,
    /// Which probe.
    pub kind: Kind,
    /// What is so now, if that has changed.
    pub changed: Option<bool>,
    /// What went wrong this time.
    pub failure: Option<String>,
}

/// Probes one run of a container until it is dropped (by the task that runs this) or nobody listens.
pub async fn watch(
    container: Container,
    id: String,
    target: Arc<Target>,
    findings: mpsc::Sender<Finding>,
) {
    let started = Instant::now();
    let one = |probe: Option<Probe>, kind| Loop {
        container: container.name.clone(),
        id: id.clone(),
        kind,
        handler: probe.as_ref().map(|p| check::handler(p, &container)),
        probe,
        target: target.clone(),
        findings: findings.clone(),
        started,
    };
    one(container.startup_probe.clone(), Kind::Startup)
        .run()
        .await;
    tokio::join!(
        one(container.liveness_probe.clone(), Kind::Liveness).run(),
        one(container.readiness_probe.clone(), Kind::Readiness).run(),
    );
}

struct Loop {
    container: String,
    id: String,
    kind: Kind,
    probe: Option<Probe>,
    handler: Option<Handler>,
    target: Arc<Target>,
    findings: mpsc::Sender<Finding>,
    started: Instant,
}

impl Loop {
    async fn run(self) {
        let (Some(probe), Some(handler)) = (&self.probe, &self.handler) else {
            return;
        };
        let seconds = |value: Option<i32>, default: u64| {
            let given = value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0);
            Duration::from_secs(given.unwrap_or(default))
        };
        let mut counter = Counter::new(self.kind, probe.success_threshold, probe.failure_threshold);
        sleep_until(self.started + seconds(probe.initial_delay_seconds, 0)).await;
        let mut tick = interval(seconds(probe.period_seconds, 10));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let limit = seconds(probe.timeout_seconds, 1);
        loop {
            tick.tick().await;
            let outcome = check::check(handler, &self.target, limit).await;
            let verdict = counter.count(outcome.is_ok());
            let finding = Finding {
                container: self.container.clone(),
                id: self.id.clone(),
                kind: self.kind,
                changed: match verdict {
                    Verdict::Same => None,
                    Verdict::Now(holds) => Some(holds),
                },
                failure: outcome.err(),
            };
            let done = self.kind == Kind::Startup && finding.changed == Some(true);
            let telling = finding.changed.is_some() || finding.failure.is_some();
            if telling && self.findings.send(finding).await.is_err() {
                return;
            }
            if done {
                return;
            }
        }
    }
}
