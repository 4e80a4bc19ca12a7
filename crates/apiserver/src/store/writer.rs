//! The one thread that writes.
//!
//! It takes every write that waits (up to a bound), decides each against the state the ones before it leave, puts all
//! that succeed into one transaction, and only when the disk has it (fsync) makes them visible and answers. So under
//! load many writes share one fsync, and what was acknowledged survives `kill -9`; what was not is not seen by anyone,
//! so no revision is ever given out twice.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use redb::Database;
use tokio::sync::{mpsc, oneshot};

use super::{
    Action, Change, CommitError, EventKind, Expect, Key, Object,
    file::{META, OBJECTS},
    index::{Index, Published},
};

/// Writes that share an fsync at most.
const BATCH: usize = 256;

/// What the thread is asked to do.
pub(super) enum Job {
    Commit(Change, Answer),
    Close,
}

type Answer = oneshot::Sender<Result<Object, CommitError>>;

/// The thread that owns the file.
pub(super) struct Writer {
    pub database: Database,
    pub index: Arc<Index>,
    /// Why nothing can be written any more.
    pub failure: Arc<RwLock<Option<String>>>,
}

/// A decided write that waits for the disk.
struct Staged {
    published: Published,
    json: Vec<u8>,
    answer: Answer,
}

impl Writer {
    pub fn run(self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::new();
        while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
            let closing = batch.iter().any(|job| matches!(job, Job::Close));
            self.write(std::mem::take(&mut batch));
            if closing {
                break;
            }
        }
    }

    fn write(&self, jobs: Vec<Job>) {
        let mut batch = Staging::new(&self.index);
        for job in jobs {
            if let Job::Commit(change, answer) = job {
                batch.stage(change, answer);
            }
        }
        let staged = batch.staged;
        if staged.is_empty() {
            return;
        }
        if let Err(error) = self.persist(&staged) {
            return self.refuse(staged, &error.to_string());
        }
        let (published, answers): (Vec<_>, Vec<_>) = staged
            .into_iter()
            .map(|staged| {
                let object = staged.published.object.clone();
                (staged.published, (staged.answer, object))
            })
            .unzip();
        self.index.publish(published);
        for (answer, object) in answers {
            let _ = answer.send(Ok(object));
        }
    }

    fn persist(&self, staged: &[Staged]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            for staged in staged {
                let key = staged.published.key.to_text();
                match staged.published.kind {
                    EventKind::Put => objects.insert(key.as_str(), staged.json.as_slice())?,
                    EventKind::Delete => objects.remove(key.as_str())?,
                };
            }
            let last = staged.last().map(|staged| staged.published.object.revision);
            let mut meta = transaction.open_table(META)?;
            if let Some(last) = last {
                meta.insert("revision", last)?;
            }
        }
        // redb commits durably unless told otherwise: this returns after fsync.
        transaction.commit()?;
        Ok(())
    }

    fn refuse(&self, staged: Vec<Staged>, why: &str) {
        tracing::error!(error = why, "cannot write to the database");
        *self.failure.write().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
        for staged in staged {
            let _ = staged.answer.send(Err(CommitError::Disk(why.to_owned())));
        }
    }
}

/// Decides writes one after the other, each seeing the ones before it.
struct Staging<'a> {
    index: &'a Index,
    revision: u64,
    /// What the batch has done so far: the new object, or none for a removal.
    overlay: HashMap<Key, Option<Object>>,
    staged: Vec<Staged>,
}

impl<'a> Staging<'a> {
    fn new(index: &'a Index) -> Self {
        Self {
            index,
            revision: index.revision(),
            overlay: HashMap::new(),
            staged: Vec::new(),
        }
    }

    fn stage(&mut self, change: Change, answer: Answer) {
        let current = match self.overlay.get(&change.key) {
            Some(object) => object.clone(),
            None => self.index.get(&change.key),
        };
        let refusal = match (change.expect, current) {
            (Expect::Absent, None) => None,
            (Expect::Absent, Some(_)) => Some(CommitError::Exists),
            (Expect::Revision(wanted), Some(object)) if object.revision == wanted => None,
            (Expect::Revision(_), current) => Some(CommitError::Conflict(current)),
        };
        if let Some(refusal) = refusal {
            let _ = answer.send(Err(refusal));
            return;
        }
        self.revision += 1;
        let (kind, mut value) = match change.action {
            Action::Put(value) => (EventKind::Put, value),
            Action::Delete(value) => (EventKind::Delete, value),
        };
        value["metadata"]["resourceVersion"] = self.revision.to_string().into();
        // Values have string keys and finite numbers: writing one cannot fail.
        let json = serde_json::to_vec(&value).unwrap_or_default();
        let object = Object {
            value: Arc::new(value),
            revision: self.revision,
        };
        let left = (kind == EventKind::Put).then(|| object.clone());
        self.overlay.insert(change.key.clone(), left);
        self.staged.push(Staged {
            published: Published {
                key: change.key,
                kind,
                object,
                bytes: json.len(),
            },
            json,
            answer,
        });
    }
}
