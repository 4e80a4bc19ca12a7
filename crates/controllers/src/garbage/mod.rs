//! Garbage collection: what belongs to something that is gone goes too.
//!
//! Every object names its owners by uid. The collector knows every object's metadata: the shared stores have most
//! kinds, and the rest is watched as metadata only ([`watch_rest`]). An owner counts as gone only after the API has
//! been asked for it, because watches of different kinds are not in step.
//!
//! Source: kubernetes.io, "Garbage Collection" (background, foreground and orphan deletion).

mod graph;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Client,
    api::{ApiResource, DynamicObject},
    core::PartialObjectMeta,
    runtime::watcher,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use self::graph::{Decision, Item};
use crate::{
    discovery::Kind,
    frame::{
        ActError, Action, Api, Controller, Input, Interest, Plan, Precondition, Store, Target,
        Watched, Write, follow,
    },
    world::World,
};

/// A deleted object with this finalizer waits until its dependents have lost it as owner.
const ORPHAN: &str = "orphan";
/// A deleted object with this finalizer waits until its dependents are gone.
const FOREGROUND: &str = "foregroundDeletion";

pub(crate) struct GarbageCollector {
    stores: Vec<Arc<dyn Watched>>,
    kinds: Arc<Vec<Kind>>,
}

/// Watches the metadata of every kind that no store has in full.
pub(crate) fn watch_rest(
    client: &Client,
    world: &World,
    kinds: &[Kind],
    tasks: &mut JoinSet<()>,
) -> Vec<Arc<dyn Watched>> {
    let known = world.complete_stores();
    let mut stores = known.to_vec();
    for kind in kinds
        .iter()
        .filter(|kind| kind.watchable && kind.plural != "events")
    {
        let collection = format!("{}/{}", kind.api_version, kind.plural);
        if known.iter().any(|store| store.collection() == collection) {
            continue;
        }
        let resource = resource(kind);
        let store = Store::<PartialObjectMeta<DynamicObject>>::new(&resource);
        let api = kube::Api::all_with(client.clone(), &resource);
        tasks.spawn(follow(api, watcher::Config::default(), store.clone()));
        stores.push(store.watched());
    }
    stores
}

fn resource(kind: &Kind) -> ApiResource {
    let version = kind.api_version.rsplit('/').next().unwrap_or_default();
    ApiResource {
        group: kind.group().to_owned(),
        version: version.to_owned(),
        api_version: kind.api_version.clone(),
        kind: kind.kind.clone(),
        plural: kind.plural.clone(),
    }
}

impl GarbageCollector {
    pub fn new(stores: &[Arc<dyn Watched>], kinds: &Arc<Vec<Kind>>) -> Self {
        Self {
            stores: stores.to_vec(),
            kinds: kinds.clone(),
        }
    }
}

impl Controller for GarbageCollector {
    type Action = Collect;
    const NAME: &'static str = "garbage-collector";

    fn inputs(&self) -> Vec<Input> {
        let stores = self.stores.iter().cloned();
        stores
            .map(|store| Input {
                store,
                interest: Interest::Lifecycle,
            })
            .collect()
    }

    fn decide(&mut self, _now: Timestamp) -> Plan<Collect> {
        let items = graph::items(&self.stores);
        let exists = graph::existing(&self.stores, &items);
        let mut plan = Plan::new();
        plan.extend(
            graph::decide(&items, &exists)
                .into_iter()
                .map(|decision| Collect {
                    decision,
                    kinds: self.kinds.clone(),
                }),
        );
        plan
    }
}

/// One decision of the graph, and the kinds by which owners are found.
pub(crate) struct Collect {
    decision: Decision,
    kinds: Arc<Vec<Kind>>,
}

impl Action for Collect {
    fn key(&self) -> String {
        let item = self.decision.item();
        format!(
            "{} {}/{} {}",
            item.collection, item.namespace, item.name, item.uid
        )
    }

    async fn perform(&self, api: &Api) -> Result<(), ActError> {
        match &self.decision {
            Decision::Orphaned { item, absent } => self.collect(api, item, absent).await,
            Decision::DeleteFirst { item, policy } => {
                let delete = Write::delete(item.target(), &item.same()).propagate(policy);
                api.write(&delete).await.map(drop)
            }
            Decision::Disown { item, owner } => {
                let gone: Vec<&str> = vec![owner];
                api.write(&without_owners(item, &gone)).await.map(drop)
            }
            Decision::Release { item, finalizer } => {
                let left: Vec<&String> =
                    item.finalizers.iter().filter(|f| f != finalizer).collect();
                let patch = item.versioned(json!({"metadata": {"finalizers": left}}));
                api.write(&Write::patch(item.target(), patch))
                    .await
                    .map(drop)
            }
        }
    }
}

impl Collect {
    /// Asks for the owners that seem to be gone, and deletes the object or takes the gone owners away.
    async fn collect(
        &self,
        api: &Api,
        item: &Item,
        absent: &[OwnerReference],
    ) -> Result<(), ActError> {
        let mut gone = Vec::new();
        for owner in absent {
            let Some(target) = self.find(item, owner) else {
                tracing::debug!(
                    object = self.key(),
                    owner = owner.kind,
                    "nobody can say whether its owner exists"
                );
                return Ok(());
            };
            let found: Option<Value> = api.look(&target).await?;
            if found.is_some_and(|object| object["metadata"]["uid"] == owner.uid) {
                return Err(ActError::NotYet("an owner is there after all".into()));
            }
            gone.push(owner.uid.as_str());
        }
        let write = if gone.len() == item.owners.len() {
            Write::delete(item.target(), &item.same()).propagate("Background")
        } else {
            without_owners(item, &gone)
        };
        tracing::debug!(object = self.key(), "its owners are gone");
        api.write(&write).await.map(drop)
    }

    /// Where the owner would be; none when its kind is unknown, or when it would have to be in a namespace and the
    /// object is in none.
    fn find(&self, item: &Item, owner: &OwnerReference) -> Option<Target> {
        let group = owner
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        let mut kinds = self.kinds.iter();
        let kind = kinds.find(|kind| kind.kind == owner.kind && kind.group() == group)?;
        let namespace = kind.namespaced.then_some(item.namespace.as_str());
        if namespace == Some("") {
            return None;
        }
        Some(Target::dynamic(&kind.api_version, &kind.plural, namespace).named(&owner.name))
    }
}

fn without_owners(item: &Item, gone: &[&str]) -> Write {
    let left = item
        .owners
        .iter()
        .filter(|owner| !gone.contains(&owner.uid.as_str()));
    let left: Vec<&OwnerReference> = left.collect();
    let patch = item.versioned(json!({"metadata": {"ownerReferences": left}}));
    Write::patch(item.target(), patch)
}

impl Item {
    fn target(&self) -> Target {
        let (version, plural) = self.collection.rsplit_once('/').unwrap_or_default();
        Target::dynamic(version, plural, Some(&self.namespace)).named(&self.name)
    }

    fn same(&self) -> Precondition {
        Precondition::uid(&self.uid)
    }

    fn versioned(&self, mut patch: Value) -> Value {
        patch["metadata"]["resourceVersion"] = self.version.as_str().into();
        patch
    }
}
