//! The status of a pod, as a kubelet would put it. Pure.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
        ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodSpec,
        PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};

use super::{
    backoff::go_duration,
    image,
    observed::{
        CANNOT_RUN, Ended, Observed, Run, SandboxState, Track, init_done, init_failed, is_sidecar,
        policy, restarts,
    },
    resources::qos_class,
};
use crate::machine::seconds;

/// The pod's status. Conditions of others (readiness gates, say) are taken from the object.
pub fn status(pod: &Pod, seen: &Observed, host_ips: &[IpAddr], now: Timestamp) -> PodStatus {
    let spec = pod.spec.clone().unwrap_or_default();
    let report = Report {
        pod,
        spec: &spec,
        seen,
        now,
    };
    let init: Vec<_> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|c| report.container(c, true))
        .collect();
    let containers: Vec<_> = spec
        .containers
        .iter()
        .map(|c| report.container(c, false))
        .collect();
    let phase = report.phase(&containers);
    let ips: Vec<String> = match spec.host_network {
        Some(true) if seen.sandbox != SandboxState::Absent => {
            host_ips.iter().map(ToString::to_string).collect()
        }
        _ => seen.ips.iter().map(ToString::to_string).collect(),
    };
    let hosts: Vec<String> = host_ips.iter().map(ToString::to_string).collect();
    let some = |list: Vec<ContainerStatus>| (!list.is_empty()).then_some(list);
    let (reason, message) = seen.rejected.clone().unzip();
    PodStatus {
        conditions: Some(report.conditions(phase, &init, &containers)),
        container_statuses: some(containers),
        init_container_statuses: some(init),
        host_ip: hosts.first().cloned(),
        host_ips: Some(hosts.into_iter().map(|ip| HostIP { ip }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        phase: Some(phase.to_owned()),
        qos_class: Some(qos_class(&spec).to_owned()),
        start_time: seen.since.map(|at| Time(seconds(at))),
        reason,
        message,
        ..PodStatus::default()
    }
}

struct Report<'a> {
    pod: &'a Pod,
    spec: &'a PodSpec,
    seen: &'a Observed,
    now: Timestamp,
}

impl Report<'_> {
    fn container(&self, container: &Container, init: bool) -> ContainerStatus {
        let unknown = Track::default();
        let track = self.seen.track(&container.name).unwrap_or(&unknown);
        let sidecar = init && is_sidecar(container);
        let (state, hidden) = self.state(container, track);
        let done = track.ended().is_some_and(|e| e.code == 0);
        let id = track
            .current
            .as_ref()
            .map(|i| i.id.as_str())
            .filter(|id| !id.is_empty());
        let image = image::resolve(&container.image.clone().unwrap_or_default()).map(image::id);
        ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            image_id: id.and(image.ok()).unwrap_or_default().to_owned(),
            container_id: id.map(|id| format!("malha://{id}")),
            ready: if init && !sidecar {
                done
            } else {
                track.is_ready()
            },
            started: Some(
                track
                    .running()
                    .is_some_and(|i| i.started && (!init || sidecar)),
            ),
            restart_count: i32::try_from(track.restarts).unwrap_or(i32::MAX),
            last_state: hidden.or(track.last.as_ref()).map(|ended| ContainerState {
                terminated: Some(terminated(ended)),
                ..ContainerState::default()
            }),
            state: Some(state),
            ..ContainerStatus::default()
        }
    }

    /// The state, and the end that it hides.
    fn state<'t>(
        &self,
        container: &Container,
        track: &'t Track,
    ) -> (ContainerState, Option<&'t Ended>) {
        let Some(instance) = &track.current else {
            let (reason, message) = self.not_started(track);
            return (waiting(&reason, &message), None);
        };
        let ended = match &instance.run {
            Run::Running(since) => {
                let running = ContainerStateRunning {
                    started_at: Some(Time(seconds(*since))),
                };
                return (
                    ContainerState {
                        running: Some(running),
                        ..ContainerState::default()
                    },
                    None,
                );
            }
            Run::Ended(ended) => ended,
        };
        let again = restarts(policy(self.spec, container), ended.code)
            && self.pod.metadata.deletion_timestamp.is_none();
        if again {
            if let Some((reason, message)) = &track.waiting {
                return (waiting(reason, message), Some(ended));
            }
            if ended.reason == CANNOT_RUN {
                return (waiting("RunContainerError", &ended.message), Some(ended));
            }
            if let Some((until, pause)) = track.backoff.until(ended.finished)
                && until > self.now
            {
                let metadata = &self.pod.metadata;
                let text = |t: &Option<String>| t.clone().unwrap_or_default();
                let message = format!(
                    "back-off {} restarting failed container={} pod={}_{}({})",
                    go_duration(pause),
                    container.name,
                    text(&metadata.name),
                    text(&metadata.namespace),
                    text(&metadata.uid),
                );
                return (waiting("CrashLoopBackOff", &message), Some(ended));
            }
        }
        let state = ContainerState {
            terminated: Some(terminated(ended)),
            ..ContainerState::default()
        };
        (state, None)
    }

    fn not_started(&self, track: &Track) -> (String, String) {
        if let Some(why) = &track.waiting {
            return why.clone();
        }
        let initializing = self.spec.init_containers.iter().flatten().next().is_some();
        let reason = if initializing {
            "PodInitializing"
        } else {
            "ContainerCreating"
        };
        (reason.to_owned(), String::new())
    }

    fn phase(&self, containers: &[ContainerStatus]) -> &'static str {
        let recorded = self.pod.status.as_ref().and_then(|s| s.phase.as_deref());
        match recorded {
            Some("Succeeded") => return "Succeeded",
            Some("Failed") => return "Failed",
            _ if self.seen.rejected.is_some() || init_failed(self.spec, self.seen) => {
                return "Failed";
            }
            _ => {}
        }
        let done = self.spec.init_containers.iter().flatten().all(|c| {
            init_done(c, self.seen)
                || (is_sidecar(c)
                    && self
                        .seen
                        .track(&c.name)
                        .is_some_and(|t| t.current.is_some()))
        });
        if !done {
            return "Pending";
        }
        let ended = |s: &ContainerStatus| -> Option<i32> {
            let state = s.state.as_ref()?;
            let last = s.last_state.as_ref().filter(|_| state.waiting.is_some());
            state
                .terminated
                .as_ref()
                .or(last.and_then(|l| l.terminated.as_ref()))
                .map(|t| t.exit_code)
        };
        let running = |s: &ContainerStatus| s.state.as_ref().is_some_and(|s| s.running.is_some());
        let codes: Vec<i32> = containers.iter().filter_map(ended).collect();
        let runs = containers.iter().any(running);
        if containers.iter().any(|s| !running(s) && ended(s).is_none()) {
            return "Pending";
        }
        match self.spec.restart_policy.as_deref() {
            _ if runs => "Running",
            Some("Never" | "OnFailure") if codes.iter().all(|code| *code == 0) => "Succeeded",
            Some("Never") => "Failed",
            _ => "Running",
        }
    }

    fn conditions(
        &self,
        phase: &str,
        init: &[ContainerStatus],
        containers: &[ContainerStatus],
    ) -> Vec<PodCondition> {
        let incomplete: Vec<&str> = self
            .spec
            .init_containers
            .iter()
            .flatten()
            .zip(init)
            .filter(|(c, _)| !init_done(c, self.seen))
            .map(|(c, _)| c.name.as_str())
            .collect();
        let unready: Vec<&str> = containers
            .iter()
            .filter(|c| !c.ready)
            .map(|c| c.name.as_str())
            .collect();
        let fine = || (true, "", String::new());
        let over = match phase {
            "Succeeded" => Some("PodCompleted"),
            "Failed" => Some("PodFailed"),
            _ => None,
        };
        let initialized = match (incomplete.as_slice(), phase) {
            (_, "Succeeded") => (true, "PodCompleted", String::new()),
            ([], _) => fine(),
            (names, _) => {
                let message = format!("containers with incomplete status: [{}]", names.join(" "));
                (false, "ContainersNotInitialized", message)
            }
        };
        let ready = match (over, unready.as_slice()) {
            (Some(reason), _) => (false, reason, String::new()),
            (None, []) => fine(),
            (None, names) => {
                let message = format!("containers with unready status: [{}]", names.join(" "));
                (false, "ContainersNotReady", message)
            }
        };
        let gated = if ready.0 {
            self.gates().unwrap_or_else(fine)
        } else {
            ready.clone()
        };
        let sandbox = (self.seen.sandbox == SandboxState::Ready, "", String::new());
        [
            ("PodReadyToStartContainers", sandbox),
            ("Initialized", initialized),
            ("Ready", gated),
            ("ContainersReady", ready),
            ("PodScheduled", fine()),
        ]
        .map(|(kind, (holds, reason, message))| self.condition(kind, holds, reason, message))
        .to_vec()
    }

    /// Why the pod is not ready although its containers are.
    fn gates(&self) -> Option<(bool, &'static str, String)> {
        let conditions = self
            .pod
            .status
            .as_ref()
            .and_then(|s| s.conditions.clone())
            .unwrap_or_default();
        let mut unmet = self.spec.readiness_gates.iter().flatten().filter(|gate| {
            !conditions
                .iter()
                .any(|c| c.type_ == gate.condition_type && c.status == "True")
        });
        let gate = unmet.next()?;
        let message = format!(
            "corresponding condition of pod readiness gate {:?} is not \"True\".",
            gate.condition_type
        );
        Some((false, "ReadinessGatesNotReady", message))
    }

    fn condition(&self, kind: &str, holds: bool, reason: &str, message: String) -> PodCondition {
        let status = if holds { "True" } else { "False" };
        let before = self
            .pod
            .status
            .as_ref()
            .and_then(|s| s.conditions.clone())
            .unwrap_or_default();
        let same = before
            .into_iter()
            .find(|c| c.type_ == kind && c.status == status);
        let since = same
            .and_then(|c| c.last_transition_time)
            .unwrap_or(Time(seconds(self.now)));
        PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()).filter(|r| !r.is_empty()),
            message: Some(message).filter(|m| !m.is_empty()),
            last_transition_time: Some(since),
            ..PodCondition::default()
        }
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let waiting = ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()).filter(|m| !m.is_empty()),
    };
    ContainerState {
        waiting: Some(waiting),
        ..ContainerState::default()
    }
}

fn terminated(ended: &Ended) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: Some(format!("malha://{}", ended.id)).filter(|_| !ended.id.is_empty()),
        exit_code: ended.code,
        signal: ended.signal,
        reason: Some(ended.reason.clone()),
        message: Some(ended.message.clone()).filter(|m| !m.is_empty()),
        started_at: Some(Time(seconds(ended.started))),
        finished_at: Some(Time(seconds(ended.finished))),
    }
}

/// The strategic merge patch from what was reported to `wanted`; the pod's uid is its precondition. What merges by key
/// (conditions) keeps others' entries; addresses are replaced as a whole when they change.
pub fn patch(uid: &str, before: &PodStatus, wanted: &PodStatus) -> Value {
    let mut status = serde_json::to_value(wanted).unwrap_or_default();
    if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
        for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
            for field in ["reason", "message"] {
                condition.entry(field).or_insert(Value::Null);
            }
        }
    }
    let addresses = [
        (
            "podIPs",
            before.pod_ips == wanted.pod_ips,
            before.pod_ips.is_some(),
        ),
        (
            "hostIPs",
            before.host_ips == wanted.host_ips,
            before.host_ips.is_some(),
        ),
    ];
    for (field, same, had) in addresses {
        if let Some(list) = status.get_mut(field).and_then(Value::as_array_mut)
            && had
            && !same
        {
            list.push(json!({"$patch": "replace"}));
        }
    }
    json!({"metadata": {"uid": uid}, "status": status})
}

#[cfg(test)]
mod tests {
    use super::{
        super::{backoff::Backoff, observed::Instance},
        *,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod(policy: &str, init: &[&str], containers: &[&str]) -> Pod {
        let list = |names: &[&str]| -> Vec<Value> {
            names
                .iter()
                .map(|n| json!({"name": n, "image": "malha:v1"}))
                .collect()
        };
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"restartPolicy": policy, "initContainers": list(init), "containers": list(containers)},
        }))
        .unwrap()
    }

    fn running(started: bool, ready: bool) -> Track {
        let instance = Instance {
            id: "abc".into(),
            run: Run::Running(at(5)),
            started,
            ready,
            stopping: false,
            unhealthy: false,
        };
        Track {
            current: Some(instance),
            ..Track::default()
        }
    }

    fn ended(code: i32, restarts: u32) -> Track {
        let mut track = running(true, true);
        if let Some(instance) = &mut track.current {
            instance.run = Run::Ended(Ended {
                id: "abc".into(),
                code,
                signal: None,
                reason: if code == 0 { "Completed" } else { "Error" }.into(),
                message: String::new(),
                started: at(5),
                finished: at(95),
            });
        }
        Track {
            restarts,
            backoff: Backoff::after(restarts),
            ..track
        }
    }

    fn seen(tracks: &[(&str, Track)]) -> Observed {
        Observed {
            sandbox: SandboxState::Ready,
            ips: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            since: Some(at(1)),
            containers: tracks
                .iter()
                .map(|(n, t)| ((*n).to_owned(), t.clone()))
                .collect(),
            ..Observed::default()
        }
    }

    fn of(pod: &Pod, seen: &Observed) -> PodStatus {
        status(pod, seen, &["192.0.2.1".parse().unwrap()], at(100))
    }

    fn condition<'a>(status: &'a PodStatus, kind: &str) -> (&'a str, &'a str) {
        let all = status.conditions.as_deref().unwrap();
        let found = all.iter().find(|c| c.type_ == kind).unwrap();
        (&found.status, found.reason.as_deref().unwrap_or(""))
    }

    #[test]
    fn phases() {
        let table: Vec<(Pod, Observed, &str)> = vec![
            (pod("Always", &[], &["a"]), Observed::default(), "Pending"),
            (
                pod("Always", &[], &["a"]),
                seen(&[("a", running(true, false))]),
                "Running",
            ),
            (
                pod("Always", &[], &["a", "b"]),
                seen(&[("a", running(true, true))]),
                "Pending",
            ),
            (
                pod("Always", &[], &["a"]),
                seen(&[("a", ended(0, 0))]),
                "Running",
            ),
            (
                pod("Always", &[], &["a"]),
                seen(&[("a", ended(1, 2))]),
                "Running",
            ),
            (
                pod("Never", &[], &["a"]),
                seen(&[("a", ended(0, 0))]),
                "Succeeded",
            ),
            (
                pod("Never", &[], &["a"]),
                seen(&[("a", ended(1, 0))]),
                "Failed",
            ),
            (
                pod("OnFailure", &[], &["a"]),
                seen(&[("a", ended(1, 0))]),
                "Running",
            ),
            (
                pod("OnFailure", &[], &["a"]),
                seen(&[("a", ended(0, 0))]),
                "Succeeded",
            ),
            (
                pod("Always", &["i"], &["a"]),
                seen(&[("i", running(true, true))]),
                "Pending",
            ),
            (
                pod("Never", &["i"], &["a"]),
                seen(&[("i", ended(1, 0))]),
                "Failed",
            ),
            (
                pod("Always", &["i"], &["a"]),
                seen(&[("i", ended(0, 0)), ("a", running(true, true))]),
                "Running",
            ),
        ];
        for (pod, seen, phase) in table {
            assert_eq!(of(&pod, &seen).phase.as_deref(), Some(phase), "{seen:?}");
        }
    }

    #[test]
    fn a_running_pod() {
        let status = of(
            &pod("Always", &[], &["a"]),
            &seen(&[("a", running(true, true))]),
        );
        assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.2"));
        assert_eq!(status.pod_ips.as_ref().unwrap().len(), 2);
        assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));
        assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
        for kind in [
            "Ready",
            "ContainersReady",
            "Initialized",
            "PodScheduled",
            "PodReadyToStartContainers",
        ] {
            assert_eq!(condition(&status, kind).0, "True", "{kind}");
        }
        let container = &status.container_statuses.as_ref().unwrap()[0];
        assert!(container.ready && container.started == Some(true));
        assert_eq!(container.container_id.as_deref(), Some("malha://abc"));
    }

    #[test]
    fn readiness_and_gates() {
        let mut pod = pod("Always", &[], &["a"]);
        let unready = of(&pod, &seen(&[("a", running(true, false))]));
        assert_eq!(
            condition(&unready, "Ready"),
            ("False", "ContainersNotReady")
        );
        let starting = of(&pod, &seen(&[("a", running(false, true))]));
        assert_eq!(
            condition(&starting, "ContainersReady"),
            ("False", "ContainersNotReady")
        );
        let gates = json!([{"conditionType": "example.com/gate"}]);
        pod.spec.as_mut().unwrap().readiness_gates = serde_json::from_value(gates).unwrap();
        let gated = of(&pod, &seen(&[("a", running(true, true))]));
        assert_eq!(
            condition(&gated, "Ready"),
            ("False", "ReadinessGatesNotReady")
        );
        assert_eq!(condition(&gated, "ContainersReady").0, "True");
    }

    #[test]
    fn waiting_reasons() {
        let reason = |pod: &Pod, seen: &Observed| {
            let status = of(pod, seen);
            let state = status.container_statuses.unwrap()[0].state.clone().unwrap();
            let waiting = state.waiting.unwrap_or_default();
            (
                waiting.reason.unwrap_or_default(),
                waiting.message.unwrap_or_default(),
            )
        };
        let simple = pod("Always", &[], &["a"]);
        assert_eq!(reason(&simple, &Observed::default()).0, "ContainerCreating");
        assert_eq!(
            reason(&pod("Always", &["i"], &["a"]), &seen(&[])).0,
            "PodInitializing"
        );
        assert_eq!(
            reason(&simple, &seen(&[("a", ended(1, 1))])),
            (
                "CrashLoopBackOff".into(),
                "back-off 10s restarting failed container=a pod=p_ns(u)".into()
            )
        );
        let mut missing = ended(127, 1);
        if let Some(Instance {
            run: Run::Ended(ended),
            ..
        }) = &mut missing.current
        {
            ended.reason = CANNOT_RUN.into();
            ended.message = "exec: \"x\": executable file not found in $PATH".into();
        }
        assert_eq!(
            reason(&simple, &seen(&[("a", missing)])).0,
            "RunContainerError"
        );
        let config = Track {
            waiting: Some(("CreateContainerConfigError".into(), "m".into())),
            ..Track::default()
        };
        assert_eq!(
            reason(&simple, &seen(&[("a", config)])).0,
            "CreateContainerConfigError"
        );
    }

    #[test]
    fn transitions_keep_their_time_and_patches_delete() {
        let mut pod = pod("Always", &[], &["a"]);
        let first = of(&pod, &seen(&[("a", running(true, true))]));
        pod.status = Some(first.clone());
        let second = status(
            &pod,
            &seen(&[("a", running(true, true))]),
            &["192.0.2.1".parse().unwrap()],
            at(200),
        );
        assert_eq!(first, second);
        let patch = patch("u", &first, &second);
        assert_eq!(patch["metadata"]["uid"], "u");
        assert_eq!(patch["status"]["conditions"][2]["message"], Value::Null);
        assert_eq!(patch["status"]["podIPs"].as_array().unwrap().len(), 2);
        let moved = PodStatus {
            pod_ips: Some(vec![PodIP {
                ip: "10.0.0.3".into(),
            }]),
            ..second
        };
        let patch = super::patch("u", &first, &moved);
        assert_eq!(
            patch["status"]["podIPs"],
            json!([{"ip": "10.0.0.3"}, {"$patch": "replace"}])
        );
    }
}
