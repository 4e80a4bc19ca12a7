//! What is known of one kind of objects: filled by one watch, read by every controller.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    pin::pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use futures::StreamExt;
use kube::{
    Resource,
    api::ObjectMeta,
    runtime::watcher::{self, Event},
};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};

use super::retry::Backoff;

/// Namespace (empty for cluster-wide objects) and name.
pub(crate) type Key = (String, String);

/// Annotation that repeats the whole object; no controller reads it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Which changes ring a controller's bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// All of them.
    Everything,
    /// Objects that come, go or begin to go, and changes of labels, owners and finalizers.
    Lifecycle,
}

/// How far a store has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// The first list is complete.
    pub ready: bool,
    /// The newest resource version seen.
    pub version: u64,
}

/// A store without its type: what the frame needs of it.
pub(crate) trait Watched: Send + Sync {
    /// `apps/v1/daemonsets`: which writes it will see.
    fn collection(&self) -> &str;
    /// Told on every change.
    fn progress(&self) -> watch::Receiver<Progress>;
    /// Rings `bell` on changes.
    fn subscribe(&self, interest: Interest, bell: Arc<Notify>);
    /// The resource version of an object.
    fn version_of(&self, namespace: &str, name: &str) -> Option<String>;
    /// Shows every object's metadata.
    fn each_meta(&self, look: &mut dyn FnMut(&ObjectMeta));
}

/// A store as one controller's input.
pub(crate) struct Input {
    pub store: Arc<dyn Watched>,
    pub interest: Interest,
}

/// The objects of one kind, as the watch shows them.
pub(crate) struct Store<K>(Arc<Shared<K>>);

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Shared<K> {
    collection: String,
    objects: RwLock<BTreeMap<Key, Arc<K>>>,
    progress: watch::Sender<Progress>,
    bells: Mutex<Vec<(Interest, Arc<Notify>)>>,
}

impl<K: Resource + Send + Sync + 'static> Store<K> {
    pub fn new(kind: &K::DynamicType) -> Self {
        Self(Arc::new(Shared {
            collection: format!("{}/{}", K::api_version(kind), K::plural(kind)),
            objects: RwLock::default(),
            progress: watch::Sender::new(Progress::default()),
            bells: Mutex::default(),
        }))
    }

    /// Every object, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.read(|objects| objects.values().cloned().collect())
    }

    /// One object; an empty namespace for cluster-wide ones.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read(|objects| {
            objects
                .get(&(namespace.to_owned(), name.to_owned()))
                .cloned()
        })
    }

    /// As input of a controller that wants to know every change.
    pub fn input(&self) -> Input {
        self.with_interest(Interest::Everything)
    }

    /// As input of a controller that cares about coming, going and belonging only.
    pub fn lifecycle(&self) -> Input {
        self.with_interest(Interest::Lifecycle)
    }

    pub fn watched(&self) -> Arc<dyn Watched> {
        self.0.clone()
    }

    fn with_interest(&self, interest: Interest) -> Input {
        Input {
            store: self.0.clone(),
            interest,
        }
    }

    fn read<T>(&self, look: impl FnOnce(&BTreeMap<Key, Arc<K>>) -> T) -> T {
        look(
            &self
                .0
                .objects
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn write<T>(&self, change: impl FnOnce(&mut BTreeMap<Key, Arc<K>>) -> T) -> T {
        change(
            &mut self
                .0
                .objects
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Takes a whole list.
    pub fn replace(&self, objects: impl IntoIterator<Item = K>) {
        let mut version = 0;
        let fresh: BTreeMap<Key, Arc<K>> = objects
            .into_iter()
            .map(|object| {
                version = version.max(version_number(object.meta()));
                (key(object.meta()), Arc::new(slim(object)))
            })
            .collect();
        self.write(|objects| *objects = fresh);
        self.advance(version, true);
        self.ring(true);
    }

    fn apply(&self, object: K) {
        let version = version_number(object.meta());
        let object = Arc::new(slim(object));
        let key = key(object.meta());
        let old = self.write(|objects| objects.insert(key, object.clone()));
        let lifecycle = old.is_none_or(|old| differs_in_lifecycle(old.meta(), object.meta()));
        self.advance(version, false);
        self.ring(lifecycle);
    }

    fn delete(&self, object: &K) {
        self.write(|objects| objects.remove(&key(object.meta())));
        self.advance(version_number(object.meta()), false);
        self.ring(true);
    }

    fn advance(&self, version: u64, complete: bool) {
        self.0.progress.send_modify(|progress| {
            progress.version = progress.version.max(version);
            progress.ready |= complete;
        });
    }

    fn ring(&self, lifecycle: bool) {
        let bells = self.0.bells.lock().unwrap_or_else(PoisonError::into_inner);
        for (interest, bell) in bells.iter() {
            if lifecycle || *interest == Interest::Everything {
                bell.notify_one();
            }
        }
    }
}

impl<K: Resource + Send + Sync + 'static> Watched for Shared<K> {
    fn collection(&self) -> &str {
        &self.collection
    }

    fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn subscribe(&self, interest: Interest, bell: Arc<Notify>) {
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        // A bell that only the store still holds belongs to a controller that was started anew.
        bells.retain(|(_, bell)| Arc::strong_count(bell) > 1);
        bells.push((interest, bell));
    }

    fn version_of(&self, namespace: &str, name: &str) -> Option<String> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let found = objects.get(&(namespace.to_owned(), name.to_owned()))?;
        found.meta().resource_version.clone()
    }

    fn each_meta(&self, look: &mut dyn FnMut(&ObjectMeta)) {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.values().for_each(|object| look(object.meta()));
    }
}

/// Keeps a store up to date. Ends never: a watch that fails is started again after a while.
pub(crate) async fn follow<K>(api: kube::Api<K>, config: watcher::Config, store: Store<K>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
    let mut fresh = Vec::new();
    let mut events = pin!(watcher::watcher(api, config));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => fresh.clear(),
            Ok(Event::InitApply(object)) => fresh.push(object),
            Ok(Event::InitDone) => store.replace(std::mem::take(&mut fresh)),
            Ok(Event::Apply(object)) => store.apply(object),
            Ok(Event::Delete(object)) => store.delete(&object),
            Err(error) => {
                let wait = backoff.failed();
                tracing::warn!(collection = store.0.collection, %error, ?wait, "a watch failed");
                tokio::time::sleep(wait).await;
                continue;
            }
        }
        backoff.succeeded();
    }
}

fn key(meta: &ObjectMeta) -> Key {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    (text(&meta.namespace), text(&meta.name))
}

/// Resource versions here are numbers that grow; elsewhere they are opaque, and zero only costs a little waiting.
fn version_number(meta: &ObjectMeta) -> u64 {
    parse_version(meta.resource_version.as_deref())
}

pub(super) fn parse_version(version: Option<&str>) -> u64 {
    version.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Without what no controller reads and what takes up most of the memory.
fn slim<K: Resource>(mut object: K) -> K {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
    }
    object
}

fn differs_in_lifecycle(old: &ObjectMeta, new: &ObjectMeta) -> bool {
    old.uid != new.uid
        || old.deletion_timestamp.is_some() != new.deletion_timestamp.is_some()
        || old.finalizers != new.finalizers
        || old.owner_references != new.owner_references
        || old.labels != new.labels
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "metadata": value })).unwrap()
    }

    /// Whether the bell rang since the last question.
    async fn rang(bell: &Notify) -> bool {
        let mut waiting = pin!(bell.notified());
        futures::poll!(waiting.as_mut()).is_ready()
    }

    #[tokio::test]
    async fn bells_ring_for_what_interests() {
        let store = Store::<Pod>::new(&());
        let (all, some) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        store.0.subscribe(Interest::Everything, all.clone());
        store.0.subscribe(Interest::Lifecycle, some.clone());
        type Change = Box<dyn Fn(&Store<Pod>)>;
        let cases: Vec<(&str, Change, bool, bool)> = vec![
            (
                "a new object",
                Box::new(|s| s.apply(pod(json!({"name": "a", "resourceVersion": "3"})))),
                true,
                true,
            ),
            (
                "an annotation",
                Box::new(|s| s.apply(pod(json!({"name": "a", "annotations": {"x": "y"}})))),
                true,
                false,
            ),
            (
                "a label",
                Box::new(|s| s.apply(pod(json!({"name": "a", "labels": {"x": "y"}})))),
                true,
                true,
            ),
            (
                "a deletion",
                Box::new(|s| s.delete(&pod(json!({"name": "a", "resourceVersion": "7"})))),
                true,
                true,
            ),
        ];
        for (name, change, everything, lifecycle) in cases {
            change(&store);
            assert_eq!(
                (rang(&all).await, rang(&some).await),
                (everything, lifecycle),
                "{name}"
            );
        }
        assert_eq!(store.0.progress().borrow().version, 7);
        assert!(store.list().is_empty());
    }

    #[test]
    fn a_list_replaces_everything_and_makes_ready() {
        let store = Store::<Pod>::new(&());
        store.apply(pod(json!({"name": "old"})));
        assert!(!store.0.progress().borrow().ready);
        store.replace([
            pod(json!({"name": "b"})),
            pod(json!({"name": "a", "managedFields": []})),
        ]);
        let names: Vec<_> = store
            .list()
            .iter()
            .map(|p| p.metadata.name.clone())
            .collect();
        assert_eq!(names, [Some("a".into()), Some("b".into())]);
        assert!(store.0.progress().borrow().ready);
        assert_eq!(store.0.collection(), "v1/pods");
    }
}
