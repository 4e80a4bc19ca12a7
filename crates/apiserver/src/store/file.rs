//! The store over one redb file: opening it, and the [`Store`] on top of the index and the [`super::writer`].

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread::{self, JoinHandle},
};

use futures::future::BoxFuture;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::{
    Change, Collection, CommitError, Key, Object, Snapshot, Store, Watch,
    index::Index,
    writer::{Job, Writer},
};

const FILE_NAME: &str = "objects.redb";
/// `group/resource/namespace/name` → the object's JSON.
pub(super) const OBJECTS: TableDefinition<&str, &[u8]> = TableDefinition::new("objects");
/// `format` and `revision`.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const FORMAT: u64 = 1;

/// The index holds every object already; redb needs to remember its tree's inner pages only.
const CACHE_BYTES: usize = 8 << 20;
/// Writes that may wait for their turn.
const QUEUE: usize = 1024;

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another program, or another server in this one, has it open.
    #[error(
        "the data directory {0} is in use by another process; stop it, or choose another directory"
    )]
    InUse(PathBuf),
    /// The system refuses.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is not ours, or damaged.
    #[error(
        "cannot read the database {path}: {why}; restore it from a copy, or move it away to start empty"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Written by a later version.
    #[error(
        "the database {path} has format {found}, this version reads {FORMAT}; use the version that wrote it"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
}

/// A [`Store`] in one file.
pub struct FileStore {
    index: Arc<Index>,
    queue: mpsc::Sender<Job>,
    writer: Mutex<Option<JoinHandle<()>>>,
    failure: Arc<RwLock<Option<String>>>,
}

impl FileStore {
    /// Opens the database in a directory, which is made (mode 0700) if it does not exist.
    ///
    /// # Errors
    /// When it is in use, cannot be read, or is not a database of this format.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let path = prepare(dir)?;
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(&path)
            .map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(dir.to_owned()),
                error => unreadable(&path)(error.into()),
            })?;
        let loaded = load(&database).map_err(unreadable(&path))?;
        if loaded.format != FORMAT {
            let found = loaded.format;
            return Err(OpenError::Format { path, found });
        }
        let objects = loaded.objects.into_iter().map(|(key, json)| {
            let object = parse(&key, &json)?;
            let key = Key::from_text(&key).ok_or("a key is not group/resource/namespace/name")?;
            Ok((key, object))
        });
        let objects =
            objects
                .collect::<Result<Vec<_>, String>>()
                .map_err(|why| OpenError::Unreadable {
                    path: path.clone(),
                    why,
                })?;
        Self::start(database, Arc::new(Index::new(loaded.revision, objects))).map_err(|source| {
            OpenError::Io {
                what: "start a thread for",
                path,
                source,
            }
        })
    }

    pub(super) fn start(database: Database, index: Arc<Index>) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let failure = Arc::default();
        let writer = Writer {
            database,
            index: Arc::clone(&index),
            failure: Arc::clone(&failure),
        };
        let writer = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(jobs))?;
        Ok(Self {
            index,
            queue,
            writer: Mutex::new(Some(writer)),
            failure,
        })
    }
}

/// Makes directory and file, both for the owner only: the database holds every Secret.
fn prepare(dir: &Path) -> Result<PathBuf, OpenError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { what, path, source }
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed("make the data directory", dir))?;
    let path = dir.join(FILE_NAME);
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed("open the database", &path))?;
    // The file's name must survive a power cut too.
    fs::File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync the data directory", dir))?;
    Ok(path)
}

fn unreadable(path: &Path) -> impl Fn(redb::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError::Unreadable {
        path: path.clone(),
        why: error.to_string(),
    }
}

pub(super) struct Loaded {
    pub format: u64,
    pub revision: u64,
    pub objects: Vec<(String, Vec<u8>)>,
}

/// Reads everything; a new file gets its tables.
pub(super) fn load(database: &Database) -> Result<Loaded, redb::Error> {
    let transaction = database.begin_write()?;
    let (format, revision) = {
        transaction.open_table(OBJECTS)?;
        let mut meta = transaction.open_table(META)?;
        let format = meta.get("format")?.map(|value| value.value());
        if format.is_none() {
            meta.insert("format", FORMAT)?;
            // Revision 0 means "any" in the API: a store begins at 1.
            meta.insert("revision", 1)?;
        }
        let revision = meta.get("revision")?.map_or(1, |value| value.value());
        (format.unwrap_or(FORMAT), revision)
    };
    transaction.commit()?;
    let table = database.begin_read()?.open_table(OBJECTS)?;
    let mut objects = Vec::new();
    for entry in table.iter()? {
        let (key, json) = entry?;
        objects.push((key.value().to_owned(), json.value().to_owned()));
    }
    Ok(Loaded {
        format,
        revision,
        objects,
    })
}

fn parse(key: &str, json: &[u8]) -> Result<Object, String> {
    let value: Value = serde_json::from_slice(json).map_err(|e| format!("object {key}: {e}"))?;
    let revision = value["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("object {key} has no resourceVersion"))?;
    Ok(Object {
        value: Arc::new(value),
        revision,
    })
}

impl Store for FileStore {
    fn revision(&self) -> u64 {
        self.index.revision()
    }

    fn get(&self, key: &Key) -> Option<Object> {
        self.index.get(key)
    }

    fn list(&self, collection: &Collection, namespace: &str) -> Snapshot {
        self.index.list(collection, namespace)
    }

    fn commit(&self, change: Change) -> BoxFuture<'static, Result<Object, CommitError>> {
        let queue = self.queue.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let job = Job::Commit(change, answer);
            queue.send(job).await.map_err(|_| CommitError::Closed)?;
            answered.await.unwrap_or(Err(CommitError::Closed))
        })
    }

    fn watch(&self, collection: &Collection, after: u64) -> Watch {
        self.index.watch(collection, after)
    }

    fn health(&self) -> Result<(), String> {
        let failure = self.failure.read().unwrap_or_else(PoisonError::into_inner);
        failure.clone().map_or(Ok(()), Err)
    }

    fn end_watches(&self) {
        self.index.end_watches();
    }

    fn close(&self) {
        self.end_watches();
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(writer) = writer else {
            return;
        };
        // A full queue is being worked off: try until there is room or nobody listens.
        while let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(Job::Close) {
            thread::yield_now();
        }
        if writer.join().is_err() {
            tracing::error!("the store's writer had panicked");
        }
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.close();
    }
}
