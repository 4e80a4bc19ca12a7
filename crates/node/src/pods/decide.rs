//! What is to be done next for a pod. Pure: the same pod, observation and time give the same steps.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::observed::{Observed, SandboxState, init_done, is_over, is_sidecar, policy, restarts};

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Volumes, then the sandbox.
    Prepare,
    /// The pod has failed for good: reason and message.
    Fail(String, String),
    /// Start a container (again).
    Start(String),
    /// Stop a container.
    Stop(String, Why),
    /// Remove the sandbox and the volumes.
    Release,
    /// Nothing is left here: remove the object from the API server and forget the pod.
    Finish,
}

/// Why a container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The pod is deleted.
    Deleted,
    /// The containers it serves have ended.
    Over,
    /// A probe failed.
    Unhealthy,
}

/// Steps, and when to look again without a reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// To be done in this order.
    pub steps: Vec<Step>,
    /// A time in the future.
    pub wake: Option<Timestamp>,
}

impl Decision {
    fn steps(steps: Vec<Step>) -> Self {
        Self { steps, wake: None }
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// Decides.
pub fn decide(pod: &Pod, seen: &Observed, now: Timestamp) -> Decision {
    let Some(spec) = &pod.spec else {
        return Decision::steps(vec![Step::Finish]);
    };
    let deleted = seen.gone || pod.metadata.deletion_timestamp.is_some();
    if deleted || is_over(pod, seen) {
        return wind_up(spec, seen, deleted);
    }
    let mut decision = Decision::steps(stop_unhealthy(seen));
    match deadline(spec, seen) {
        Some(at) if at <= now => return Decision::steps(vec![too_late()]),
        Some(at) => decision.wake_at(at),
        None => {}
    }
    if seen.sandbox != SandboxState::Ready {
        match seen.prepare_at.filter(|at| *at > now) {
            Some(at) => decision.wake_at(at),
            None => decision.steps.push(Step::Prepare),
        }
        return decision;
    }
    for container in spec.init_containers.iter().flatten() {
        consider(container, policy(spec, container), seen, now, &mut decision);
        if !init_done(container, seen) {
            return decision;
        }
    }
    for container in &spec.containers {
        consider(container, policy(spec, container), seen, now, &mut decision);
    }
    decision
}

/// When the pod has had its time.
fn deadline(spec: &PodSpec, seen: &Observed) -> Option<Timestamp> {
    seen.since?
        .checked_add(SignedDuration::from_secs(spec.active_deadline_seconds?))
        .ok()
}

fn too_late() -> Step {
    let message = "Pod was active on the node longer than the specified deadline";
    Step::Fail("DeadlineExceeded".to_owned(), message.to_owned())
}

/// Stops what runs (sidecars last), then gives everything back.
fn wind_up(spec: &PodSpec, seen: &Observed, deleted: bool) -> Decision {
    let sidecars: Vec<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| is_sidecar(c))
        .map(|c| c.name.as_str())
        .collect();
    let why = if deleted { Why::Deleted } else { Why::Over };
    let running = seen
        .containers
        .iter()
        .filter_map(|(name, track)| Some((name, track.running()?)));
    let (last, first): (Vec<_>, Vec<_>) =
        running.partition(|(name, _)| sidecars.contains(&name.as_str()));
    let now = if first.is_empty() { last } else { first };
    if !now.is_empty() {
        let steps = now
            .into_iter()
            .filter(|(_, i)| !i.stopping)
            .map(|(name, _)| Step::Stop(name.clone(), why));
        return Decision::steps(steps.collect());
    }
    let mut steps = Vec::new();
    if seen.sandbox == SandboxState::Ready || (deleted && seen.sandbox == SandboxState::Absent) {
        steps.push(Step::Release);
    }
    if deleted {
        steps.push(Step::Finish);
    }
    Decision::steps(steps)
}

fn stop_unhealthy(seen: &Observed) -> Vec<Step> {
    let running = seen
        .containers
        .iter()
        .filter_map(|(name, track)| Some((name, track.running()?)));
    let ill = running.filter(|(_, i)| i.unhealthy && !i.stopping);
    ill.map(|(name, _)| Step::Stop(name.clone(), Why::Unhealthy))
        .collect()
}

fn consider(
    container: &Container,
    policy: Option<&str>,
    seen: &Observed,
    now: Timestamp,
    decision: &mut Decision,
) {
    let start = || Step::Start(container.name.clone());
    let Some(track) = seen.track(&container.name) else {
        decision.steps.push(start());
        return;
    };
    if track.running().is_some() {
        return;
    }
    let mut not_before = track.retry_at;
    if let Some(ended) = track.ended() {
        if !restarts(policy, ended.code) {
            return;
        }
        let pause = track.backoff.until(ended.finished).map(|(until, _)| until);
        not_before = not_before.max(pause);
    }
    match not_before.filter(|at| *at > now) {
        Some(at) => decision.wake_at(at),
        None => decision.steps.push(start()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::{
            backoff::Backoff,
            observed::{Ended, Instance, Run, Track},
        },
        *,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod(policy: &str, init: &[&str], containers: &[&str]) -> Pod {
        let list =
            |names: &[&str]| -> Vec<Value> { names.iter().map(|n| json!({"name": n})).collect() };
        serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"restartPolicy": policy, "initContainers": list(init), "containers": list(containers)},
        }))
        .unwrap()
    }

    fn deleted(mut pod: Pod) -> Pod {
        pod.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
        pod
    }

    fn running() -> Track {
        let instance = Instance {
            id: "i".into(),
            run: Run::Running(at(1)),
            started: true,
            ready: true,
            stopping: false,
            unhealthy: false,
        };
        Track {
            current: Some(instance),
            ..Track::default()
        }
    }

    fn ended(code: i32, finished: i64, restarts: u32) -> Track {
        let mut track = running();
        if let Some(instance) = &mut track.current {
            instance.run = Run::Ended(Ended {
                id: "i".into(),
                code,
                signal: None,
                reason: "Error".into(),
                message: String::new(),
                started: at(1),
                finished: at(finished),
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
            containers: tracks
                .iter()
                .map(|(n, t)| ((*n).to_owned(), t.clone()))
                .collect(),
            ..Observed::default()
        }
    }

    fn steps(pod: &Pod, seen: &Observed) -> String {
        let decision = decide(pod, seen, at(100));
        let mut words: Vec<String> = decision
            .steps
            .iter()
            .map(|step| match step {
                Step::Start(name) => format!("start {name}"),
                Step::Stop(name, why) => format!("stop {name} {why:?}"),
                other => format!("{other:?}"),
            })
            .collect();
        words.extend(decision.wake.map(|at| format!("wake {}", at.as_second())));
        words.join(", ")
    }

    #[test]
    fn a_pod_comes_up_in_order() {
        let pod = pod("Always", &["i1", "i2"], &["a", "b"]);
        assert_eq!(steps(&pod, &Observed::default()), "Prepare");
        let later = Observed {
            prepare_at: Some(at(130)),
            ..Observed::default()
        };
        assert_eq!(steps(&pod, &later), "wake 130");
        assert_eq!(steps(&pod, &seen(&[])), "start i1");
        assert_eq!(steps(&pod, &seen(&[("i1", running())])), "");
        let done = ended(0, 50, 0);
        assert_eq!(steps(&pod, &seen(&[("i1", done.clone())])), "start i2");
        let all = [("i1", done.clone()), ("i2", done)];
        assert_eq!(steps(&pod, &seen(&all)), "start a, start b");
    }

    #[test]
    fn restart_policies() {
        let table = [
            ("Always", ended(0, 99, 0), "start a"),
            ("Always", ended(1, 99, 1), "wake 109"),
            ("Always", ended(1, 90, 1), "start a"),
            ("Always", ended(1, 90, 3), "wake 130"),
            ("OnFailure", ended(1, 90, 1), "start a"),
            ("OnFailure", ended(0, 90, 1), "Release"),
            ("Never", ended(1, 90, 0), "Release"),
        ];
        for (policy, track, expected) in table {
            assert_eq!(
                steps(&pod(policy, &[], &["a"]), &seen(&[("a", track)])),
                expected,
                "{policy}"
            );
        }
    }

    #[test]
    fn init_containers_that_fail() {
        let failed = || ended(1, 99, 0);
        assert_eq!(
            steps(&pod("Always", &["i"], &["a"]), &seen(&[("i", failed())])),
            "start i"
        );
        assert_eq!(
            steps(&pod("Never", &["i"], &["a"]), &seen(&[("i", failed())])),
            "Release"
        );
    }

    #[test]
    fn sidecars_run_beside_and_end_last() {
        let mut pod = pod("Never", &["s"], &["a"]);
        let spec = pod.spec.as_mut().unwrap();
        spec.init_containers.as_mut().unwrap()[0].restart_policy = Some("Always".into());
        assert_eq!(steps(&pod, &seen(&[("s", running())])), "start a");
        let both = seen(&[("s", running()), ("a", running())]);
        assert_eq!(steps(&pod, &both), "");
        assert_eq!(steps(&deleted(pod.clone()), &both), "stop a Deleted");
        let over = seen(&[("s", running()), ("a", ended(0, 99, 0))]);
        assert_eq!(steps(&pod, &over), "stop s Over");
        let crashed = seen(&[("s", ended(1, 99, 0)), ("a", running())]);
        assert_eq!(steps(&pod, &crashed), "start s");
    }

    #[test]
    fn deletion_stops_releases_and_finishes() {
        let pod = deleted(pod("Always", &[], &["a", "b"]));
        let both = seen(&[("a", running()), ("b", running())]);
        assert_eq!(steps(&pod, &both), "stop a Deleted, stop b Deleted");
        let mut stopping = both.clone();
        for track in stopping.containers.values_mut() {
            track.current.as_mut().unwrap().stopping = true;
        }
        assert_eq!(steps(&pod, &stopping), "");
        assert_eq!(
            steps(&pod, &seen(&[("a", ended(0, 99, 0))])),
            "Release, Finish"
        );
        assert_eq!(steps(&pod, &Observed::default()), "Release, Finish");
        let released = Observed {
            sandbox: SandboxState::Released,
            ..Observed::default()
        };
        assert_eq!(steps(&pod, &released), "Finish");
    }

    #[test]
    fn a_pod_has_its_time() {
        let mut pod = pod("Always", &[], &["a"]);
        pod.spec.as_mut().unwrap().active_deadline_seconds = Some(50);
        let mut seen = seen(&[("a", running())]);
        seen.since = Some(at(60));
        assert_eq!(steps(&pod, &seen), "wake 110");
        seen.since = Some(at(50));
        assert!(steps(&pod, &seen).starts_with("Fail"));
        seen.rejected = Some(("DeadlineExceeded".into(), String::new()));
        assert_eq!(steps(&pod, &seen), "stop a Over");
    }

    #[test]
    fn probes_stop_containers() {
        let mut ill = running();
        ill.current.as_mut().unwrap().unhealthy = true;
        assert_eq!(
            steps(&pod("Always", &[], &["a"]), &seen(&[("a", ill)])),
            "stop a Unhealthy"
        );
    }

    #[test]
    fn a_pod_that_is_over_gives_its_network_back_once() {
        let pod = pod("Never", &[], &["a"]);
        let mut over = seen(&[("a", ended(0, 99, 0))]);
        assert_eq!(steps(&pod, &over), "Release");
        over.sandbox = SandboxState::Released;
        assert_eq!(steps(&pod, &over), "");
    }
}
