//! The objects in memory and the recent events of every collection. No I/O: whoever owns the disk publishes here.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use tokio::sync::watch;

use super::{
    Object, Snapshot,
    key::{Collection, Key},
    watch::{Event, EventKind, Watch},
};

/// How much of a collection's past can be watched: whichever bound is reached first.
const MAX_EVENTS: usize = 4096;
const MAX_BYTES: usize = 8 << 20;
/// The same for collections that change all the time and whose past nobody needs.
const MAX_FLEETING_EVENTS: usize = 256;
/// How many events a watch is handed at once: what a slow reader may keep alive.
const MAX_LOOK: usize = 256;
const FLEETING: [&str; 3] = [
    "coordination.k8s.io/leases",
    "/events",
    "events.k8s.io/events",
];

/// Shared by the store and its watches.
pub(super) struct Index(RwLock<State>);

struct State {
    revision: u64,
    /// Before this, nothing is known of the past: the revision the program started with.
    origin: u64,
    closed: bool,
    collections: HashMap<Collection, Topic>,
}

struct Topic {
    objects: BTreeMap<Box<str>, Object>,
    history: History,
    /// Says the revision of the last event.
    changed: watch::Sender<u64>,
}

/// The last events of a collection.
struct History {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// The last revision whose event is gone: a watch can start there or later.
    floor: u64,
    capacity: usize,
}

/// What a watch finds when it looks.
pub(super) enum Look {
    /// Events after the asked revision, and the revision up to which that is everything.
    Events(Vec<Arc<Event>>, u64),
    /// The asked revision is further back than the history.
    Expired(u64),
    /// The store is closed.
    Closed,
}

/// A write on its way into the index.
pub(super) struct Published {
    pub key: Key,
    pub kind: EventKind,
    pub object: Object,
    /// Length of the object's JSON.
    pub bytes: usize,
}

impl Index {
    /// The index of a store as it was found on the disk.
    pub fn new(revision: u64, objects: impl IntoIterator<Item = (Key, Object)>) -> Self {
        let mut state = State {
            revision,
            origin: revision,
            closed: false,
            collections: HashMap::new(),
        };
        for (key, object) in objects {
            let topic = state.topic(&key.collection);
            topic.objects.insert(key.place().into(), object);
        }
        Self(RwLock::new(state))
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn revision(&self) -> u64 {
        self.read().revision
    }

    pub fn get(&self, key: &Key) -> Option<Object> {
        let state = self.read();
        let topic = state.collections.get(&key.collection)?;
        topic.objects.get(key.place()).cloned()
    }

    pub fn list(&self, collection: &Collection, namespace: &str) -> Snapshot {
        let state = self.read();
        let topic = state.collections.get(collection);
        let objects = topic.map(|topic| topic.list(namespace));
        Snapshot {
            revision: state.revision,
            objects: objects.unwrap_or_default(),
        }
    }

    /// Makes a batch of writes visible, all at once. Revisions must follow on the last one.
    pub fn publish(&self, batch: Vec<Published>) {
        let mut state = self.write();
        for published in batch {
            state.revision = published.object.revision;
            state.topic(&published.key.collection).publish(published);
        }
        let revision = state.revision;
        for topic in state.collections.values() {
            if topic.history.last() > *topic.changed.borrow() {
                topic.changed.send_replace(revision);
            }
        }
    }

    pub fn watch(self: &Arc<Self>, collection: &Collection, after: u64) -> Watch {
        let changed = self.write().topic(collection).changed.subscribe();
        Watch::new(self.clone(), collection.clone(), after, changed)
    }

    /// The events after a revision.
    pub fn look(&self, collection: &Collection, after: u64) -> Look {
        let state = self.read();
        if state.closed {
            return Look::Closed;
        }
        let Some(topic) = state.collections.get(collection) else {
            return Look::Events(Vec::new(), state.revision);
        };
        if after < topic.history.floor {
            return Look::Expired(topic.history.floor);
        }
        let events = topic.history.after(after);
        let upto = match events.last() {
            Some(last) if events.len() == MAX_LOOK => last.revision,
            // A revision of the future waits until the store gets there.
            _ => state.revision.max(after),
        };
        Look::Events(events, upto)
    }

    /// Ends every watch.
    pub fn end_watches(&self) {
        let mut state = self.write();
        state.closed = true;
        for topic in state.collections.values() {
            topic.changed.send_modify(|_| {});
        }
    }
}

impl State {
    fn topic(&mut self, collection: &Collection) -> &mut Topic {
        let origin = self.origin;
        let new = || Topic::new(collection, origin);
        // `entry` needs an owned key; collections are few and live for ever.
        self.collections
            .entry(collection.clone())
            .or_insert_with(new)
    }
}

impl Topic {
    fn new(collection: &Collection, origin: u64) -> Self {
        let fleeting = FLEETING.contains(&collection.as_str());
        Self {
            objects: BTreeMap::new(),
            history: History {
                events: VecDeque::new(),
                bytes: 0,
                floor: origin,
                capacity: if fleeting {
                    MAX_FLEETING_EVENTS
                } else {
                    MAX_EVENTS
                },
            },
            changed: watch::Sender::new(origin),
        }
    }

    fn list(&self, namespace: &str) -> Vec<Object> {
        if namespace.is_empty() {
            return self.objects.values().cloned().collect();
        }
        // The character after the slash ends the namespace's part of the order.
        let range = format!("{namespace}/").into_boxed_str()..format!("{namespace}0").into();
        let objects = self.objects.range(range);
        objects.map(|(_, object)| object.clone()).collect()
    }

    fn publish(&mut self, published: Published) {
        let Published {
            key,
            kind,
            object,
            bytes,
        } = published;
        let previous = match kind {
            EventKind::Put => self.objects.insert(key.place().into(), object.clone()),
            EventKind::Delete => self.objects.remove(key.place()),
        };
        self.history.push(Event {
            revision: object.revision,
            kind,
            object: object.value,
            previous: previous.map(|object| object.value),
            bytes,
        });
    }
}

impl History {
    fn push(&mut self, event: Event) {
        self.bytes += event.bytes;
        self.events.push_back(Arc::new(event));
        while self.events.len() > self.capacity || self.bytes > MAX_BYTES {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes;
            self.floor = oldest.revision;
        }
    }

    fn last(&self) -> u64 {
        self.events
            .back()
            .map_or(self.floor, |event| event.revision)
    }

    fn after(&self, revision: u64) -> Vec<Arc<Event>> {
        let start = self.events.partition_point(|e| e.revision <= revision);
        self.events.range(start..).take(MAX_LOOK).cloned().collect()
    }
}
