//! What the cluster is told: the node's condition, and events when something changes that an operator should know.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use crate::cluster::condition::Condition;
use crate::cluster::events::{About, Notice, Notices};
use crate::model::Desired;
use crate::target::{Board, Health};

/// The condition that the node's health asks for. While the agent starts, the condition stays as it is.
#[must_use]
pub fn wanted_condition(mut board: watch::Receiver<Board>) -> watch::Receiver<Option<Condition>> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            let wanted = condition(&board.borrow_and_update().health);
            sender.send_if_modified(|current| {
                let changes = wanted.is_some() && *current != wanted;
                if changes {
                    *current = wanted;
                }
                changes
            });
            if board.changed().await.is_err() {
                return;
            }
        }
    });
    receiver
}

fn condition(health: &Health) -> Option<Condition> {
    match health {
        Health::Serving => Some(Condition::up()),
        Health::Starting(_) => None,
        Health::Waiting(reason) | Health::Failing(reason) => Some(Condition::down(reason)),
    }
}

/// Tell what changes, for as long as it does.
pub async fn run(
    notices: Notices,
    mut board: watch::Receiver<Board>,
    mut desired: watch::Receiver<Option<Arc<Desired>>>,
) {
    let mut health = Health::default();
    let mut told = BTreeSet::new();
    loop {
        let now = board.borrow_and_update().health.clone();
        if now != health {
            notices.tell(health_notice(&now));
            health = now;
        }
        let found = problems(desired.borrow_and_update().as_deref());
        for problem in found.difference(&told) {
            notices.tell(node_notice(true, "PeerProblem", problem.clone()));
        }
        told = found;
        let more = tokio::select! {
            changed = board.changed() => changed,
            changed = desired.changed() => changed,
        };
        if more.is_err() {
            return;
        }
    }
}

fn problems(desired: Option<&Desired>) -> BTreeSet<String> {
    let peers = desired.into_iter().flat_map(|desired| &desired.peers);
    peers
        .flat_map(|peer| {
            peer.problems
                .iter()
                .map(|problem| format!("node {}: {problem}", peer.name))
        })
        .collect()
}

fn health_notice(health: &Health) -> Notice {
    match health {
        Health::Serving => node_notice(
            false,
            "NetworkReady",
            "Malha gives pods of this node their network".to_owned(),
        ),
        Health::Starting(reason) => node_notice(false, "NetworkStarting", reason.clone()),
        Health::Waiting(reason) => node_notice(true, "NetworkWaiting", reason.clone()),
        Health::Failing(reason) => node_notice(true, "NetworkFailing", reason.clone()),
    }
}

fn node_notice(warning: bool, reason: &'static str, message: String) -> Notice {
    Notice {
        about: About::Node,
        warning,
        reason,
        message,
    }
}
