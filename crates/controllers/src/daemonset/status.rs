//! The numbers in a set's status.

use k8s_openapi::api::apps::v1::DaemonSetStatus;
use serde_json::json;

use super::{Placement, View};
use crate::{
    frame::{Plan, Target, Write},
    pods,
};

/// Writes the status if it has changed, and waits for pods that become available by time alone.
pub(super) fn report(view: &View<'_>, plan: &mut Plan<Write>) {
    let status = count(view);
    if view.set.status.as_ref() != Some(&status) {
        let patch = json!({ "status": status });
        plan.push(Write::patch(Target::of(view.set).sub("status"), patch));
    }
    let seconds = view.spec.min_ready_seconds.unwrap_or(0);
    let pods = view.nodes.iter().filter_map(|(_, _, pods)| pods.first());
    let times = pods.filter_map(|pod| pods::available_at(pod, seconds));
    if let Some(when) = times.filter(|when| *when > view.now).min() {
        plan.wake(when);
    }
}

fn count(view: &View<'_>) -> DaemonSetStatus {
    let old = view.set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        observed_generation: view.set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions,
        ..DaemonSetStatus::default()
    };
    let (mut available, mut updated) = (0, 0);
    for (_, placement, pods) in &view.nodes {
        if *placement != Placement::Run {
            status.number_misscheduled += i32::from(!pods.is_empty());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pod) = pods.first() else { continue };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pods::is_ready(pod));
        available += i32::from(view.is_available(pod));
        updated += i32::from(pods.iter().any(|pod| view.is_current(pod)));
    }
    // Zeros are written: a merge patch leaves alone what it does not name.
    status.number_available = Some(available);
    status.updated_number_scheduled = Some(updated);
    status.number_unavailable = Some(status.desired_number_scheduled - available);
    status
}
