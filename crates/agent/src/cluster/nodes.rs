//! The watch of nodes. What is not needed is left out while decoding: a node's list of images is larger than
//! everything the agent keeps.

use std::borrow::Cow;
use std::net::IpAddr;
use std::pin::pin;

use futures::StreamExt;
use ipnet::IpNet;
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Resource};
use serde::{Deserialize, Deserializer};
use tokio::sync::{mpsc, watch};

use super::Change;
use super::condition::Condition;
use super::connection::{Current, error_chain, left};
use crate::model::NodeFacts;

/// First and longest pause after a failed watch.
const PAUSE: (std::time::Duration, std::time::Duration) = (
    std::time::Duration::from_millis(200),
    std::time::Duration::from_secs(5),
);

/// A Node, as far as it matters.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct TrimmedNode {
    #[serde(deserialize_with = "trimmed_metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs", default)]
    pod_cidrs: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    addresses: Vec<Address>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// Where the API server's words go.
#[derive(Clone, Debug)]
pub struct Sinks {
    /// Changes of the index.
    pub changes: mpsc::Sender<Change>,
    /// The `NetworkUnavailable` condition of this node, as the API server has it.
    pub condition: watch::Sender<Option<Condition>>,
    /// Why the watch does not work, if it does not.
    pub problem: watch::Sender<Option<String>>,
}

/// Watch until nobody takes the changes any more.
pub async fn run(mut server: Current, own: String, sinks: Sinks) {
    let mut pause = PAUSE.0;
    while !sinks.changes.is_closed() {
        let using = server.borrow_and_update().clone();
        let healthy = tokio::select! {
            healthy = watch_one(using.client.clone(), &own, &sinks) => healthy,
            () = left(&mut server, &using.url) => true,
            () = sinks.changes.closed() => return,
        };
        pause = if healthy {
            PAUSE.0
        } else {
            (pause * 2).min(PAUSE.1)
        };
        tokio::time::sleep(pause).await;
    }
}

/// Watch at one server until it fails or nobody listens. Whether it worked for a while.
async fn watch_one(client: kube::Client, own: &str, sinks: &Sinks) -> bool {
    let mut stream = pin!(watcher(
        Api::<TrimmedNode>::all(client),
        watcher::Config::default()
    ));
    let mut listed = Vec::new();
    let mut healthy = false;
    while let Some(event) = stream.next().await {
        let change = match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(watcher::Event::InitApply(node)) => {
                note_condition(&node, own, sinks);
                listed.push(node.facts());
                continue;
            }
            Ok(watcher::Event::InitDone) => Change::NodesReset(std::mem::take(&mut listed)),
            Ok(watcher::Event::Apply(node)) => {
                note_condition(&node, own, sinks);
                Change::NodeApplied(node.facts())
            }
            Ok(watcher::Event::Delete(node)) => Change::NodeDeleted(node.name()),
            Err(error) => {
                let problem = error_chain(&error);
                tracing::warn!(problem, "the watch of nodes failed");
                sinks.problem.send_replace(Some(problem));
                return healthy;
            }
        };
        healthy = true;
        sinks
            .problem
            .send_if_modified(|problem| problem.take().is_some());
        if sinks.changes.send(change).await.is_err() {
            return healthy;
        }
    }
    healthy
}

fn note_condition(node: &TrimmedNode, own: &str, sinks: &Sinks) {
    if node.metadata.name.as_deref() == Some(own) {
        let found = node
            .status
            .conditions
            .iter()
            .find(|condition| condition.is_network());
        sinks.condition.send_if_modified(|current| {
            let changes = current.as_ref() != found;
            *current = found.cloned();
            changes
        });
    }
}

impl TrimmedNode {
    fn name(&self) -> String {
        self.metadata.name.clone().unwrap_or_default()
    }

    /// What the index keeps of it. Addresses and ranges that cannot be read are left out.
    #[must_use]
    pub fn facts(&self) -> NodeFacts {
        let internal = self
            .status
            .addresses
            .iter()
            .filter(|address| address.kind == "InternalIP");
        let mut addresses: Vec<IpAddr> = internal
            .filter_map(|address| address.address.parse().ok())
            .collect();
        addresses.dedup();
        let all = if self.spec.pod_cidrs.is_empty() {
            self.spec.pod_cidr.as_slice()
        } else {
            &self.spec.pod_cidrs
        };
        let pod_ranges = all
            .iter()
            .filter_map(|text| text.parse::<IpNet>().ok())
            .map(|net| net.trunc());
        let created = self
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0.to_string());
        NodeFacts {
            name: self.name(),
            addresses,
            pod_ranges: pod_ranges.collect(),
            created: created.unwrap_or_default(),
        }
    }
}

impl Resource for TrimmedNode {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind(dt: &()) -> Cow<'_, str> {
        Node::kind(dt)
    }

    fn group(dt: &()) -> Cow<'_, str> {
        Node::group(dt)
    }

    fn version(dt: &()) -> Cow<'_, str> {
        Node::version(dt)
    }

    fn plural(dt: &()) -> Cow<'_, str> {
        Node::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

fn trimmed_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kept {
        name: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        creation_timestamp: Option<Time>,
    }
    let kept = Kept::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: kept.name,
        uid: kept.uid,
        resource_version: kept.resource_version,
        creation_timestamp: kept.creation_timestamp,
        ..ObjectMeta::default()
    })
}
