use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

fn open(dir: &Path) -> FileStore {
    FileStore::open(dir).unwrap()
}

fn pods() -> Collection {
    Collection::new("", "pods")
}

fn key(name: &str) -> Key {
    Key::new(pods(), "default", name)
}

fn pod(name: &str, note: u64) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "note": note})
}

async fn write(
    store: &FileStore,
    key: Key,
    expect: Expect,
    action: Action,
) -> Result<Object, CommitError> {
    let change = Change {
        key,
        expect,
        action,
    };
    store.commit(change).await
}

async fn create(store: &FileStore, name: &str) -> Object {
    let action = Action::Put(pod(name, 0));
    write(store, key(name), Expect::Absent, action)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_write_is_stored_with_its_revision_and_outlives_the_store() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let first = create(&store, "a").await;
    assert_eq!(first.value["metadata"]["resourceVersion"], "2");
    let put = Action::Put(pod("a", 1));
    let second = write(&store, key("a"), Expect::Revision(2), put)
        .await
        .unwrap();
    assert_eq!(second.revision, 3);
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.revision(), 3);
    assert_eq!(store.get(&key("a")), Some(second.clone()));
    let delete = Action::Delete((*second.value).clone());
    let last = write(&store, key("a"), Expect::Revision(3), delete)
        .await
        .unwrap();
    assert_eq!(last.value["metadata"]["resourceVersion"], "4");
    drop(store);
    let store = open(dir.path());
    assert_eq!((store.revision(), store.get(&key("a"))), (4, None));
}

#[tokio::test]
async fn only_the_expected_state_is_replaced() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let put = || Action::Put(pod("a", 1));
    let missing = write(&store, key("a"), Expect::Revision(1), put()).await;
    assert!(matches!(missing, Err(CommitError::Conflict(None))));
    let object = create(&store, "a").await;
    let taken = write(&store, key("a"), Expect::Absent, put()).await;
    assert!(matches!(taken, Err(CommitError::Exists)));
    let stale = write(&store, key("a"), Expect::Revision(1), put()).await;
    assert!(matches!(stale, Err(CommitError::Conflict(Some(now))) if now == object));
    assert_eq!(store.revision(), object.revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writers_of_one_object_each_wins_once() {
    let dir = TempDir::new().unwrap();
    let store = Arc::new(open(dir.path()));
    create(&store, "a").await;
    let writers = (0..20).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                let now = store.get(&key("a")).unwrap();
                let mut next = (*now.value).clone();
                next["note"] = (next["note"].as_u64().unwrap() + 1).into();
                let expect = Expect::Revision(now.revision);
                if write(&store, key("a"), expect, Action::Put(next))
                    .await
                    .is_ok()
                {
                    return;
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(store.get(&key("a")).unwrap().value["note"], 20);
    assert_eq!(store.revision(), 22);
}

#[tokio::test]
async fn lists_know_namespaces_and_order() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for (namespace, name) in [("b", "x"), ("a-b", "x"), ("a", "y"), ("a", "x")] {
        let key = Key::new(pods(), namespace, name);
        let object = json!({"metadata": {"name": name, "namespace": namespace}});
        write(&store, key, Expect::Absent, Action::Put(object))
            .await
            .unwrap();
    }
    let names = |namespace: &str| -> Vec<String> {
        let snapshot = store.list(&pods(), namespace);
        assert_eq!(snapshot.revision, 5);
        let text = |object: &Object| {
            let metadata = &object.value["metadata"];
            format!(
                "{}/{}",
                metadata["namespace"].as_str().unwrap(),
                metadata["name"].as_str().unwrap()
            )
        };
        snapshot.objects.iter().map(text).collect()
    };
    assert_eq!(names("a"), ["a/x", "a/y"]);
    assert_eq!(names(""), ["a-b/x", "a/x", "a/y", "b/x"]);
    assert!(names("c").is_empty());
}

#[tokio::test]
async fn a_watch_tells_everything_after_its_revision() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let a = create(&store, "a").await;
    let mut watch = store.watch(&pods(), a.revision);
    let batch = watch.poll().unwrap();
    assert!(batch.events.is_empty());
    assert_eq!(batch.revision, a.revision);

    let b = create(&store, "b").await;
    let delete = Action::Delete((*b.value).clone());
    let gone = write(&store, key("b"), Expect::Revision(b.revision), delete)
        .await
        .unwrap();
    let batch = watch.next().await.unwrap();
    assert_eq!(batch.revision, gone.revision);
    let [added, removed] = batch.events.as_slice() else {
        panic!("{batch:?}");
    };
    assert_eq!((added.kind, added.revision), (EventKind::Put, b.revision));
    assert!(added.previous.is_none());
    assert_eq!(removed.kind, EventKind::Delete);
    assert_eq!(removed.previous.as_ref(), Some(&b.value));
    assert_eq!(
        removed.object["metadata"]["resourceVersion"],
        gone.revision.to_string()
    );

    // Another collection's writes are none of its business, but move its bookmark on.
    let other = Key::new(Collection::new("", "nodes"), "", "n");
    write(&store, other, Expect::Absent, Action::Put(json!({})))
        .await
        .unwrap();
    assert_eq!(watch.poll().unwrap().revision, gone.revision + 1);
    // One of the future keeps silent until the store gets there.
    let mut future = store.watch(&pods(), gone.revision + 3);
    create(&store, "c").await;
    create(&store, "d").await;
    let e = create(&store, "e").await;
    assert_eq!(future.next().await.unwrap().events[0].revision, e.revision);
}

#[tokio::test]
async fn a_slow_watch_ends_and_a_restart_forgets_the_past() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let leases = Collection::new("coordination.k8s.io", "leases");
    let mut slow = store.watch(&leases, store.revision());
    let mut pod_watch = store.watch(&pods(), store.revision());
    let lease = Key::new(leases.clone(), "kube-node-lease", "n");
    let mut revision = create(&store, "a").await.revision;
    let mut expect = Expect::Absent;
    for beat in 0..300 {
        let object = write(
            &store,
            lease.clone(),
            expect,
            Action::Put(json!({"beat": beat})),
        )
        .await
        .unwrap();
        revision = object.revision;
        expect = Expect::Revision(revision);
    }
    assert!(matches!(
        slow.poll(),
        Err(WatchError::Expired { asked: 1, .. })
    ));
    assert_eq!(pod_watch.poll().unwrap().events.len(), 1);
    // From where the error says, it can go on.
    let Err(WatchError::Expired { oldest, .. }) = slow.poll() else {
        panic!("still expired");
    };
    let rest = store.watch(&leases, oldest).poll().unwrap();
    assert_eq!(rest.events.len(), 256);
    assert_eq!(rest.events.last().unwrap().revision, revision);

    drop(store);
    let store = open(dir.path());
    assert!(store.watch(&pods(), revision).poll().is_ok());
    assert!(store.watch(&pods(), revision - 1).poll().is_err());
}

#[tokio::test]
async fn a_long_past_is_read_piece_by_piece() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let mut watch = store.watch(&pods(), store.revision());
    for i in 0..600 {
        create(&store, &format!("p{i}")).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 600 {
        let batch = watch.next().await.unwrap();
        assert!(batch.events.len() <= 256);
        seen.extend(batch.events.iter().map(|event| event.revision));
        assert_eq!(seen.last(), Some(&batch.revision));
    }
    assert_eq!(seen, (2..602).collect::<Vec<_>>());
}

#[tokio::test]
async fn closing_ends_watches_and_writes() {
    let dir = TempDir::new().unwrap();
    let store = Arc::new(open(dir.path()));
    let mut watch = store.watch(&pods(), 1);
    let waiting = tokio::spawn(async move { watch.next().await.unwrap_err() });
    let closing = store.clone();
    tokio::task::spawn_blocking(move || closing.close())
        .await
        .unwrap();
    let ended = timeout(Duration::from_secs(10), waiting).await;
    assert_eq!(ended.unwrap().unwrap(), WatchError::Closed);
    let refused = write(&store, key("a"), Expect::Absent, Action::Put(json!({}))).await;
    assert!(matches!(refused, Err(CommitError::Closed)));
    // The file is free while the store's remains are still held.
    open(dir.path());
}

#[test]
fn a_directory_in_use_and_a_file_of_another_kind_are_named() {
    let dir = TempDir::new().unwrap();
    let _store = open(dir.path());
    let error = FileStore::open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::InUse(_)));
    assert!(
        error.to_string().contains("in use by another process"),
        "{error}"
    );

    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("objects.redb"), [7u8; 9000]).unwrap();
    let error = FileStore::open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::Unreadable { .. }), "{error}");

    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = FileStore::open(&file).err().unwrap();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}

#[test]
fn only_the_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("a/b");
    let _store = open(&data);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("objects.redb")), 0o600);
}

/// A disk that fills up.
#[derive(Debug)]
struct Disk {
    memory: redb::backends::InMemoryBackend,
    full: Arc<AtomicBool>,
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        match self.full.load(Ordering::Relaxed) {
            true => Err(std::io::ErrorKind::StorageFull.into()),
            false => self.memory.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.memory.write(offset, data)
    }
}

#[tokio::test]
async fn a_full_disk_refuses_the_write_and_is_not_well() {
    let full = Arc::new(AtomicBool::new(false));
    let disk = Disk {
        memory: redb::backends::InMemoryBackend::new(),
        full: full.clone(),
    };
    let database = redb::Database::builder().create_with_backend(disk).unwrap();
    let loaded = file::load(&database).unwrap();
    let index = Arc::new(index::Index::new(loaded.revision, []));
    let store = FileStore::start(database, index).unwrap();
    let a = create(&store, "a").await;
    assert!(store.health().is_ok());
    full.store(true, Ordering::Relaxed);
    let put = || Action::Put(pod("a", 1));
    let refused = write(&store, key("a"), Expect::Revision(a.revision), put()).await;
    assert!(matches!(refused, Err(CommitError::Disk(_))), "{refused:?}");
    // Nobody sees what the disk does not have.
    assert_eq!(store.get(&key("a")), Some(a.clone()));
    assert_eq!(store.revision(), a.revision);
    assert!(
        store
            .watch(&pods(), a.revision)
            .poll()
            .unwrap()
            .events
            .is_empty()
    );
    assert!(store.health().is_err());
    // Space alone does not help: what the disk has is not known any more before it is read again.
    full.store(false, Ordering::Relaxed);
    let refused = write(&store, key("a"), Expect::Revision(a.revision), put()).await;
    assert!(matches!(refused, Err(CommitError::Disk(_))), "{refused:?}");
}

/// What a random program does to the store.
#[derive(Debug, Clone)]
enum Step {
    Put(u8, bool),
    Delete(u8, bool),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..6u8, any::<bool>()).prop_map(|(name, fits)| Step::Put(name, fits)),
        3 => (0..6u8, any::<bool>()).prop_map(|(name, fits)| Step::Delete(name, fits)),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A map, a counter and a list of events are all there is to it.
    #[test]
    fn the_store_is_a_map_with_a_counter(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps));
    }
}

async fn run(steps: Vec<Step>) {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    let mut model: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut events = Vec::new();
    let mut revision = 1;
    let mut began = 1;
    for (note, step) in (0u64..).zip(steps) {
        let (name, fits, put) = match step {
            Step::Put(name, fits) => (format!("p{name}"), fits, true),
            Step::Delete(name, fits) => (format!("p{name}"), fits, false),
            Step::Reopen => {
                drop(store);
                store = open(dir.path());
                events.clear();
                began = revision;
                continue;
            }
        };
        let current = model.get(&name).copied();
        let expect = match (current, fits) {
            (Some((at, _)), true) => Expect::Revision(at),
            (Some((at, _)), false) => Expect::Revision(at - 1),
            (None, true) if put => Expect::Absent,
            (None, _) => Expect::Revision(1),
        };
        let action = match put {
            true => Action::Put(pod(&name, note)),
            false => Action::Delete(pod(&name, note)),
        };
        let may = fits && (put || current.is_some());
        let result = write(&store, key(&name), expect, action).await;
        assert_eq!(result.is_ok(), may, "{result:?}");
        if may {
            revision += 1;
            events.push((revision, name.clone(), put));
            match put {
                true => model.insert(name, (revision, note)),
                false => model.remove(&name),
            };
        }
    }
    compare(&store, &model, revision);
    for start in began..=revision {
        let mut watch = store.watch(&pods(), start);
        let seen = watch.poll().unwrap().events.into_iter().map(|event| {
            let name = event.object["metadata"]["name"].as_str().unwrap();
            (
                event.revision,
                name.to_owned(),
                event.kind == EventKind::Put,
            )
        });
        let expected = events.iter().filter(|event| event.0 > start).cloned();
        assert_eq!(seen.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
}

fn compare(store: &FileStore, model: &BTreeMap<String, (u64, u64)>, revision: u64) {
    let snapshot = store.list(&pods(), "");
    assert_eq!(snapshot.revision, revision);
    let stored: HashMap<String, (u64, u64)> = snapshot
        .objects
        .iter()
        .map(|object| {
            let name = object.value["metadata"]["name"].as_str().unwrap();
            assert_eq!(
                object.value["metadata"]["resourceVersion"],
                object.revision.to_string()
            );
            let note = object.value["note"].as_u64().unwrap();
            (name.to_owned(), (object.revision, note))
        })
        .collect();
    let model: HashMap<_, _> = model.clone().into_iter().collect();
    assert_eq!(stored, model);
}
