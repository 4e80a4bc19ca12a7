//! Following a collection.
//!
//! A watch holds nothing but the revision it has seen: it reads the collection's history when told that there is more.
//! So a reader may be as slow as it likes without costing memory or holding up a write; one that is slower than the
//! history is long finds its revision gone and starts over.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch::Receiver;

use super::{
    index::{Index, Look},
    key::Collection,
};

/// A write, as watchers see it.
#[derive(Debug)]
pub struct Event {
    /// The write's revision, which is also the object's `metadata.resourceVersion`.
    pub revision: u64,
    /// What happened.
    pub kind: EventKind,
    /// The new object; for a removal its last state.
    pub object: Arc<Value>,
    /// What was there before; none for a creation.
    pub previous: Option<Arc<Value>>,
    pub(super) bytes: usize,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was created or changed.
    Put,
    /// It was removed.
    Delete,
}

/// Some events in order, and the revision up to which there are no others.
#[derive(Debug)]
pub struct Batch {
    /// May be empty at the first look.
    pub events: Vec<Arc<Event>>,
    /// A watch begun after this revision would go on exactly here.
    pub revision: u64,
}

/// Why a watch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Events between `asked` and `oldest` are no longer known.
    #[error("too old resource version: {asked} ({oldest})")]
    Expired {
        /// Where the watch stood.
        asked: u64,
        /// Where one can start.
        oldest: u64,
    },
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Closed,
}

/// A reader of a collection's events.
pub struct Watch {
    index: Arc<Index>,
    collection: Collection,
    seen: u64,
    changed: Receiver<u64>,
}

impl Watch {
    pub(super) fn new(
        index: Arc<Index>,
        collection: Collection,
        after: u64,
        changed: Receiver<u64>,
    ) -> Self {
        Self {
            index,
            collection,
            seen: after,
            changed,
        }
    }

    /// What is there now, possibly nothing.
    ///
    /// # Errors
    /// When the history no longer reaches back to where this watch stands, or the store is closed.
    pub fn poll(&mut self) -> Result<Batch, WatchError> {
        self.changed.mark_unchanged();
        match self.index.look(&self.collection, self.seen) {
            Look::Events(events, revision) => {
                self.seen = revision;
                Ok(Batch { events, revision })
            }
            Look::Expired(oldest) => Err(WatchError::Expired {
                asked: self.seen,
                oldest,
            }),
            Look::Closed => Err(WatchError::Closed),
        }
    }

    /// Waits until there is at least one event. Cancelling loses nothing.
    ///
    /// # Errors
    /// As [`Watch::poll`].
    pub async fn next(&mut self) -> Result<Batch, WatchError> {
        loop {
            let batch = self.poll()?;
            if !batch.events.is_empty() {
                return Ok(batch);
            }
            // The sender lives as long as the index, which we hold.
            let _ = self.changed.changed().await;
        }
    }
}
