//! Rolling updates: old pods go, at most `maxUnavailable` at a time, or new ones come first, at most `maxSurge`.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{Placement, View};
use crate::pods;

/// The next step of an update.
#[derive(Default)]
pub(super) struct Step<'a> {
    /// Old pods that go now.
    pub delete: Vec<&'a Pod>,
    /// Nodes that get a new pod beside the old one.
    pub surge: Vec<&'a Node>,
    /// When a new pod will have been ready for long enough.
    pub again: Option<Timestamp>,
}

/// In pods.
pub(super) struct Limits {
    pub unavailable: usize,
    pub surge: usize,
}

/// What the set allows; percentages are of the nodes that should run a pod, rounded up.
pub(super) fn limits(view: &View<'_>) -> Limits {
    let strategy = view.spec.update_strategy.as_ref();
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let desired = view
        .nodes
        .iter()
        .filter(|(_, placement, _)| *placement == Placement::Run)
        .count();
    let surge = rolling
        .and_then(|r| r.max_surge.as_ref())
        .map_or(0, |v| scale(v, desired));
    let unavailable = rolling
        .and_then(|r| r.max_unavailable.as_ref())
        .map_or(1, |v| scale(v, desired));
    match (unavailable, surge) {
        // Nothing could ever change.
        (0, 0) => Limits {
            unavailable: 1,
            surge: 0,
        },
        (unavailable, surge) => Limits { unavailable, surge },
    }
}

fn scale(value: &IntOrString, total: usize) -> usize {
    match value {
        IntOrString::Int(number) => usize::try_from(*number).unwrap_or(0),
        IntOrString::String(text) => {
            let percent: usize = text.trim_end_matches('%').parse().unwrap_or(0);
            (percent * total).div_ceil(100)
        }
    }
}

/// The old and the new pod of a node that should run one.
struct Pair<'a> {
    node: &'a Node,
    old: Option<&'a Pod>,
    new: Option<&'a Pod>,
}

pub(super) fn next<'a>(view: &View<'a>) -> Step<'a> {
    let strategy = view.spec.update_strategy.as_ref();
    if strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete")) {
        return Step::default();
    }
    let running = view
        .nodes
        .iter()
        .filter(|(_, placement, _)| *placement == Placement::Run);
    let pairs: Vec<Pair<'a>> = running
        .map(|(node, _, pods)| {
            let living = |current: bool| {
                let mut living = pods
                    .iter()
                    .filter(|pod| !pods::is_terminating(&pod.metadata) && !pods::is_finished(pod));
                living.find(|pod| view.is_current(pod) == current).copied()
            };
            Pair {
                node,
                old: living(false),
                new: living(true),
            }
        })
        .collect();
    if pairs.iter().all(|pair| pair.old.is_none()) {
        return Step::default();
    }
    let limits = limits(view);
    let mut step = match limits.surge {
        0 => replace(view, &pairs, limits.unavailable),
        surge => surge_first(view, &pairs, surge),
    };
    let seconds = view.spec.min_ready_seconds.unwrap_or(0);
    let news = pairs
        .iter()
        .filter_map(|pair| pods::available_at(pair.new?, seconds));
    step.again = news.filter(|when| *when > view.now).min();
    step
}

/// Old pods that serve nobody go at once, others as far as the limit allows.
fn replace<'a>(view: &View<'a>, pairs: &[Pair<'a>], limit: usize) -> Step<'a> {
    let mut unavailable = 0;
    let (mut delete, mut candidates) = (Vec::new(), Vec::new());
    for pair in pairs {
        match (pair.old, pair.new) {
            (Some(old), None) if view.is_available(old) => candidates.push(old),
            (Some(old), None) => {
                unavailable += 1;
                delete.push(old);
            }
            (None, Some(new)) if view.is_available(new) => {}
            _ => unavailable += 1,
        }
    }
    candidates.truncate(limit.saturating_sub(unavailable));
    delete.extend(candidates);
    Step {
        delete,
        ..Step::default()
    }
}

/// New pods come beside old ones, as many as the limit allows; an old one goes when the new one serves.
fn surge_first<'a>(view: &View<'a>, pairs: &[Pair<'a>], limit: usize) -> Step<'a> {
    let mut step = Step::default();
    let (mut surging, mut candidates) = (0, Vec::new());
    for pair in pairs {
        match (pair.old, pair.new) {
            (Some(old), None) if view.is_available(old) => candidates.push(pair.node),
            (Some(_), None) => step.surge.push(pair.node),
            (Some(old), Some(new)) if view.is_available(new) => step.delete.push(old),
            (Some(_), Some(_)) => surging += 1,
            (None, _) => {}
        }
    }
    candidates.truncate(limit.saturating_sub(surging));
    step.surge.extend(candidates);
    step
}
