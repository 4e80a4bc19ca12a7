//! Keeps the Node object there and its status true.

use std::{pin::pin, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::{Facts, NetworkState, facts, object, seconds};
use crate::{Config, retry::Pauses};

/// How often conditions are looked at without a reason.
const LOOK: Duration = Duration::from_secs(10);
/// How often the status is sent although nothing has changed: the lease is what says that the node lives.
const REPORT: Duration = Duration::from_secs(300);
/// No request of these takes longer.
const LIMIT: Duration = Duration::from_secs(10);
/// Pause after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// Registers the machine, again if its object is deleted, and reports its status. `published` gets the object as the
/// server has it.
pub async fn keep_registered(
    client: Client,
    config: Arc<Config>,
    mut network: watch::Receiver<NetworkState>,
    published: watch::Sender<Option<Arc<Node>>>,
) {
    let mut reporter = Reporter {
        nodes: Api::all(client),
        config,
        reported: None,
    };
    let fields = format!("metadata.name={}", reporter.config.node_name);
    let events = watcher(
        reporter.nodes.clone(),
        watcher::Config::default().fields(&fields),
    )
    .backoff(Pauses::default());
    let mut events = pin!(events);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What a listing has not shown yet is not known to be absent.
    let mut listed: Option<Option<Arc<Node>>> = None;
    loop {
        tokio::select! {
            _ = look.tick() => {}
            changed = network.changed() => if changed.is_err() { return },
            event = events.next() => match event {
                Some(Ok(watcher::Event::Init)) => listed = Some(None),
                Some(Ok(watcher::Event::InitApply(node))) => listed = Some(Some(Arc::new(node))),
                Some(Ok(watcher::Event::InitDone)) => drop(published.send_replace(listed.take().flatten())),
                Some(Ok(watcher::Event::Apply(node))) => drop(published.send_replace(Some(Arc::new(node)))),
                Some(Ok(watcher::Event::Delete(_))) => {
                    tracing::warn!("the Node object was deleted: registering again");
                    published.send_replace(None);
                }
                Some(Err(error)) => tracing::debug!(%error, "watch of the own node"),
                None => return,
            },
        }
        let state = network.borrow_and_update().clone();
        let known = published.borrow().clone();
        match tokio::time::timeout(LIMIT, reporter.bring_up_to_date(known, &state)).await {
            Ok(Ok(Some(node))) => drop(published.send_replace(Some(Arc::new(node)))),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = format!("{error:#}"), "cannot report the node");
                tokio::time::sleep(RETRY).await;
                look.reset_immediately();
            }
            Err(_) => tracing::warn!("the API server did not take the node's status in time"),
        }
        if published.is_closed() {
            return;
        }
    }
}

struct Reporter {
    nodes: Api<Node>,
    config: Arc<Config>,
    reported: Option<Timestamp>,
}

impl Reporter {
    /// Gives the object if it was written.
    async fn bring_up_to_date(
        &mut self,
        known: Option<Arc<Node>>,
        network: &NetworkState,
    ) -> Result<Option<Node>> {
        let facts = facts::read(&self.config);
        let pressure = facts::pressure(&self.config.root_dir);
        let now = seconds(Timestamp::now());
        let node = match known {
            Some(node) => node,
            None => match self
                .register(&object::node(&facts, network, pressure, now))
                .await?
            {
                Registered::Now(node) => {
                    tracing::info!(node = facts.name, "registered");
                    self.reported = Some(now);
                    return Ok(Some(*node));
                }
                Registered::Before(node) => Arc::new(*node),
            },
        };
        let before = node.status.clone().unwrap_or_default();
        let conditions: Vec<NodeCondition> = before.conditions.clone().unwrap_or_default();
        let wanted = object::status(
            &facts,
            &object::conditions(network, pressure, &conditions, now),
        );
        let due = self
            .reported
            .is_none_or(|at| now.duration_since(at).unsigned_abs() >= REPORT);
        self.label(&node, &facts).await?;
        if !due && !differs(&before, &wanted) {
            return Ok(None);
        }
        let patch = Patch::Strategic(object::status_patch(&before, &wanted));
        let node = self
            .nodes
            .patch_status(&facts.name, &PatchParams::default(), &patch)
            .await
            .context("cannot patch the node's status")?;
        self.reported = Some(now);
        Ok(Some(node))
    }

    async fn register(&self, node: &Node) -> Result<Registered> {
        match self.nodes.create(&PostParams::default(), node).await {
            Ok(node) => Ok(Registered::Now(Box::new(node))),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                let existing = self.nodes.get(name).await.context("cannot read the node")?;
                Ok(Registered::Before(Box::new(existing)))
            }
            Err(error) => Err(error).context("cannot register the node"),
        }
    }

    /// Sets the labels that are the node's own where they are missing or wrong.
    async fn label(&self, node: &Node, facts: &Facts) -> Result<()> {
        let wanted = object::labels(facts);
        let present = node.metadata.labels.clone().unwrap_or_default();
        if wanted
            .iter()
            .all(|(key, value)| present.get(key) == Some(value))
        {
            return Ok(());
        }
        let patch = Patch::Merge(json!({"metadata": {"labels": wanted}}));
        self.nodes
            .patch(&facts.name, &PatchParams::default(), &patch)
            .await
            .context("cannot label the node")
            .map(drop)
    }
}

enum Registered {
    Now(Box<Node>),
    Before(Box<Node>),
}

fn differs(before: &NodeStatus, wanted: &NodeStatus) -> bool {
    let empty: &[NodeCondition] = &[];
    let conditions = |s: &NodeStatus| s.conditions.clone().unwrap_or_else(|| empty.to_vec());
    object::differ(&conditions(before), &conditions(wanted))
        || before.addresses != wanted.addresses
        || before.capacity != wanted.capacity
        || before.node_info != wanted.node_info
        || before.daemon_endpoints != wanted.daemon_endpoints
}
