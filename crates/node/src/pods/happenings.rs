//! What a worker takes in: ends of containers, findings of probes.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;

use super::{
    ended,
    observed::{Run, Track},
    worker::Worker,
};
use crate::{
    probes::{self, Finding},
    runtime::State,
};

impl Worker {
    /// A container has ended.
    pub(super) fn ended(&mut self, name: &str, id: &str, state: &State) {
        let (Some(container), Some(record)) = (self.find(name), self.record(name).cloned()) else {
            return;
        };
        let State::Exited(started, exit) = state else {
            return;
        };
        if let Some(probe) = self.probes.remove(name) {
            probe.abort();
        }
        let ended = ended::of_exit(&container, &record, started, exit);
        tracing::info!(
            pod = self.name(),
            container = name,
            code = ended.code,
            reason = ended.reason,
            "container ended"
        );
        let track: &mut Track = self.seen.containers.entry(name.to_owned()).or_default();
        if let Some(instance) = track.current.as_mut().filter(|i| i.id == id) {
            instance.run = Run::Ended(ended);
        }
        self.tell_of_backoff(&container);
    }

    fn tell_of_backoff(&self, container: &Container) {
        let Some(track) = self.seen.track(&container.name) else {
            return;
        };
        let pause = track.ended().and_then(|e| track.backoff.until(e.finished));
        if pause.is_some_and(|(until, _)| until > Timestamp::now())
            && self.pod.metadata.deletion_timestamp.is_none()
        {
            let text = format!(
                "Back-off restarting failed container {} in pod {}",
                container.name,
                self.name()
            );
            self.warn(Some(&container.name), "BackOff", text);
        }
    }

    /// A probe has something to say.
    pub(super) fn found(&mut self, finding: Finding) {
        let name = finding.container.clone();
        if let Some(why) = &finding.failure {
            let text = format!("{} probe failed: {}", finding.kind.name(), why.trim_end());
            self.warn(Some(&name), "Unhealthy", text);
        }
        let track = self.seen.containers.get_mut(&name);
        let Some(instance) = track
            .and_then(|t| t.current.as_mut())
            .filter(|i| i.id == finding.id)
        else {
            return;
        };
        match (finding.kind, finding.changed) {
            (probes::Kind::Startup, Some(true)) => instance.started = true,
            (probes::Kind::Startup | probes::Kind::Liveness, Some(false)) => {
                instance.unhealthy = true
            }
            (probes::Kind::Readiness, Some(ready)) => instance.ready = ready,
            _ => {}
        }
    }
}
