//! What is known of a pod when its worker starts: from the API server, and from what an earlier agent left.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::{
    backoff::Backoff,
    ended,
    observed::{Ended, Instance, Observed, Run, SandboxState, Track},
    worker::{Left, Worker},
};
use crate::runtime::{ContainerRecord, State};

/// What the API server remembers of a pod's containers. One that ran when nobody looked any more (the machine was
/// started anew) has ended; a kubelet calls that `ContainerStatusUnknown`.
pub fn seed(pod: &Pod) -> Observed {
    let status = pod.status.clone().unwrap_or_default();
    let all = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten());
    let containers = all
        .filter_map(|s| Some((s.name.clone(), track(s)?)))
        .collect();
    let ips = status
        .pod_ips
        .iter()
        .flatten()
        .filter_map(|ip| ip.ip.parse().ok());
    Observed {
        since: status.start_time.map(|t| t.0),
        containers,
        ips: ips.collect(),
        ..Observed::default()
    }
}

fn track(status: &ContainerStatus) -> Option<Track> {
    let id = status.container_id.as_ref()?.rsplit('/').next()?.to_owned();
    let state = status.state.clone().unwrap_or_default();
    let ended = match (state.terminated, state.running) {
        (Some(end), _) => Ended {
            id: id.clone(),
            code: end.exit_code,
            signal: end.signal,
            reason: end.reason.unwrap_or_default(),
            message: end.message.unwrap_or_default(),
            started: end.started_at.map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            finished: end.finished_at.map_or(Timestamp::UNIX_EPOCH, |t| t.0),
        },
        (None, running) => Ended {
            id: id.clone(),
            code: 137,
            signal: None,
            reason: "ContainerStatusUnknown".to_owned(),
            message: "The container could not be located when the node agent started".to_owned(),
            started: running
                .and_then(|r| r.started_at)
                .map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            finished: Timestamp::now(),
        },
    };
    let restarts = u32::try_from(status.restart_count).unwrap_or(0);
    Some(Track {
        current: Some(Instance {
            id,
            run: Run::Ended(ended),
            started: false,
            ready: false,
            stopping: false,
            unhealthy: false,
        }),
        restarts,
        ..Track::default()
    })
}

impl Worker {
    /// Takes over what an earlier agent left: what runs goes on running.
    pub(super) fn adopt(&mut self, left: Left) {
        for sandbox in left.sandboxes {
            self.sandboxes = self.sandboxes.max(sandbox.attempt + 1);
            if sandbox.is_intact() {
                self.seen.sandbox = SandboxState::Ready;
            }
            // One that is not intact is removed when the next one is made, or with the pod.
            self.take_sandbox(sandbox);
        }
        for record in left.containers {
            if let Some(container) = self.find(&record.name) {
                self.records
                    .entry(record.name.clone())
                    .or_default()
                    .push(record.clone());
                self.take_over(&container, &record);
            }
        }
    }

    fn take_over(
        &mut self,
        container: &k8s_openapi::api::core::v1::Container,
        record: &ContainerRecord,
    ) {
        let state = match self.context.runtime.state(record) {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!(container = record.id, %error, "a container's records cannot be read");
                return;
            }
        };
        let track = self.seen.containers.entry(record.name.clone()).or_default();
        let before = track.ended().cloned().filter(|e| e.id != record.id);
        track.restarts = record.attempt;
        track.backoff = Backoff::after(record.attempt);
        if before.is_some() {
            track.last = before;
        }
        let run = match state {
            State::Running(started) => {
                if self.seen.sandbox != SandboxState::Ready {
                    // Its network is gone: a new sandbox needs new containers.
                    let _ = self
                        .context
                        .runtime
                        .signal(record, rustix::process::Signal::KILL);
                }
                tracing::info!(
                    pod = self.name(),
                    container = record.name,
                    "container goes on"
                );
                self.runs(container, record, started.at);
                self.trust_recorded(record);
                return;
            }
            State::Exited(started, exit) => {
                Run::Ended(ended::of_exit(container, record, &started, &exit))
            }
            // The agent ended while it was being started.
            State::Created => {
                let failure = crate::launch::spec::Failure::setup(
                    "cannot start the container",
                    "the agent was restarted",
                );
                Run::Ended(ended::of_failure(record, &failure.into(), Timestamp::now()))
            }
        };
        let track = self.seen.containers.entry(record.name.clone()).or_default();
        track.current = Some(Instance {
            id: record.id.clone(),
            run,
            started: false,
            ready: false,
            stopping: false,
            unhealthy: false,
        });
    }
}

impl Worker {
    /// What was ready before the agent's restart is ready until a probe says otherwise: services must not lose it.
    fn trust_recorded(&mut self, record: &ContainerRecord) {
        let recorded = self.pod.status.as_ref().and_then(|s| {
            let all = s
                .container_statuses
                .iter()
                .chain(&s.init_container_statuses)
                .flatten();
            all.filter(|c| c.name == record.name).find(|c| {
                let id = c
                    .container_id
                    .as_deref()
                    .and_then(|id| id.rsplit('/').next());
                id == Some(record.id.as_str())
            })
        });
        let track = self.seen.containers.get_mut(&record.name);
        if let (Some(recorded), Some(instance)) = (recorded, track.and_then(|t| t.current.as_mut()))
        {
            instance.started |= recorded.started == Some(true);
            instance.ready |= recorded.ready;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_ran_before_a_reboot_has_ended() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {
            "startTime": "2026-01-01T00:00:00Z",
            "containerStatuses": [
                {"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 2, "containerID": "malha://x",
                 "state": {"running": {"startedAt": "2026-01-01T00:00:01Z"}}},
                {"name": "b", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                 "state": {"waiting": {"reason": "ContainerCreating"}}},
                {"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "containerID": "malha://y",
                 "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
            ],
        }}))
        .unwrap();
        let seen = seed(&pod);
        let ended = |name: &str| {
            seen.track(name)
                .and_then(Track::ended)
                .map(|e| (e.code, e.reason.clone()))
        };
        assert_eq!(ended("a"), Some((137, "ContainerStatusUnknown".to_owned())));
        assert_eq!(seen.track("a").unwrap().restarts, 2);
        assert_eq!(seen.track("b"), None);
        assert_eq!(ended("c"), Some((0, "Completed".to_owned())));
        assert_eq!(seen.sandbox, SandboxState::Absent);
    }
}
