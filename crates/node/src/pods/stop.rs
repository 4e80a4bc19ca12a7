//! Stopping a container: its hook, a request, and after its grace no more requests.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Lifecycle, LifecycleHandler, Pod, Probe};
use rustix::process::Signal;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{context::Context, decide::Why};
use crate::{
    events::Kind,
    probes::{self, Target},
};

/// What a worker is told about its pod.
#[derive(Clone, Debug)]
pub struct Update {
    /// The pod, as it is now or was last.
    pub pod: Arc<Pod>,
    /// The API server does not have it any more.
    pub gone: bool,
}

/// A kubelet's usual grace.
const GRACE: i64 = 30;
/// Even a pod that is deleted without grace is asked once.
const LEAST: i64 = 1;

/// How long a container of the pod may take.
pub fn grace(pod: &Pod, container: &Container, why: Why) -> Duration {
    let of_pod = pod
        .spec
        .as_ref()
        .and_then(|s| s.termination_grace_period_seconds)
        .unwrap_or(GRACE);
    let of_probe = || {
        let own = |p: &Option<Probe>| p.as_ref().and_then(|p| p.termination_grace_period_seconds);
        own(&container.liveness_probe).or_else(|| own(&container.startup_probe))
    };
    let seconds = match why {
        Why::Deleted => pod.metadata.deletion_grace_period_seconds.unwrap_or(of_pod),
        Why::Unhealthy => of_probe().unwrap_or(of_pod),
        Why::Over => of_pod,
    };
    Duration::from_secs(seconds.max(LEAST).unsigned_abs())
}

/// Stops it. A deletion with less grace that comes meanwhile counts.
pub async fn stop(
    context: Arc<Context>,
    container: Container,
    target: Arc<Target>,
    why: Why,
    mut updates: watch::Receiver<Update>,
) {
    let begun = Instant::now();
    let pod = updates.borrow_and_update().pod.clone();
    let mut deadline = begun + grace(&pod, &container, why);
    let hook = container
        .lifecycle
        .as_ref()
        .and_then(|l: &Lifecycle| l.pre_stop.as_ref());
    if let Some(hook) = hook
        && let Err(error) = run_hook(hook, &container, &target, deadline - begun).await
    {
        let text = format!("PreStopHook failed: {error}");
        context.events.pod(
            &pod,
            Some(&container.name),
            Kind::Warning,
            "FailedPreStopHook",
            text,
        );
    }
    let runtime = &context.runtime;
    let log = |what: &str, error: std::io::Error| {
        tracing::warn!(container = target.record.id, what, %error, "cannot stop a container");
    };
    if let Err(error) = runtime.signal(&target.record, Signal::TERM) {
        log("SIGTERM", error);
    }
    loop {
        tokio::select! {
            _ = runtime.wait(&target.record) => return,
            () = sleep_until(deadline) => break,
            changed = updates.changed() => {
                if changed.is_err() {
                    sleep_until(deadline).await;
                    break;
                }
                let update = updates.borrow_and_update().clone();
                if update.gone || update.pod.metadata.deletion_timestamp.is_some() {
                    let sooner = Instant::now() + grace(&update.pod, &container, Why::Deleted);
                    deadline = deadline.min(sooner);
                }
            }
        }
    }
    if let Err(error) = runtime.signal(&target.record, Signal::KILL) {
        log("SIGKILL", error);
    }
}

/// Runs a hook.
///
/// # Errors
/// Why it failed, or that it took too long.
pub async fn run_hook(
    hook: &LifecycleHandler,
    container: &Container,
    target: &Target,
    limit: Duration,
) -> Result<(), String> {
    if let Some(sleep) = &hook.sleep {
        let pause = Duration::from_secs(sleep.seconds.max(0).unsigned_abs());
        return timeout(limit, tokio::time::sleep(pause))
            .await
            .map_err(|_| "it took too long".to_owned());
    }
    let probe = Probe {
        exec: hook.exec.clone(),
        http_get: hook.http_get.clone(),
        tcp_socket: hook.tcp_socket.clone(),
        ..Probe::default()
    };
    let handler = probes::handler(&probe, container);
    probes::check(&handler, target, limit).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn graces() {
        let pod = |metadata, seconds: Option<i64>| -> Pod {
            let spec = json!({"containers": [], "terminationGracePeriodSeconds": seconds});
            serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
        };
        let container: Container = serde_json::from_value(json!({
            "name": "c", "livenessProbe": {"terminationGracePeriodSeconds": 4},
        }))
        .unwrap();
        let of = |pod: &Pod, why| grace(pod, &container, why).as_secs();
        assert_eq!(of(&pod(json!({}), None), Why::Over), 30);
        assert_eq!(of(&pod(json!({}), Some(5)), Why::Deleted), 5);
        assert_eq!(
            of(
                &pod(json!({"deletionGracePeriodSeconds": 2}), Some(5)),
                Why::Deleted
            ),
            2
        );
        assert_eq!(
            of(
                &pod(json!({"deletionGracePeriodSeconds": 0}), Some(5)),
                Why::Deleted
            ),
            1
        );
        assert_eq!(of(&pod(json!({}), Some(5)), Why::Unhealthy), 4);
    }
}
