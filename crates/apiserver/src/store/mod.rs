//! Where objects live: one revision over everything, consistent snapshots, watches from any recent revision.
//!
//! [`Store`] is what the server knows. Reads come from an in-memory index ([`index`]), so a list is one consistent
//! snapshot and costs a copy of pointers; writes go to the disk first ([`file`]) and are seen and acknowledged only
//! after it has them. Compare-and-swap on the object's revision is the only kind of write.
//!
//! History is short and in memory: each collection keeps a ring of its last events, so what changes all the time (Leases,
//! Events) does not push anything else out, and on the disk there is only the last state of every object.

mod file;
mod index;
mod key;
mod watch;
mod writer;

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

pub use file::{FileStore, OpenError};
pub use key::{Collection, Key};
pub use watch::{Batch, Event, EventKind, Watch, WatchError};

/// An object as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The object, `metadata.resourceVersion` included.
    pub value: Arc<Value>,
    /// The revision of its last write.
    pub revision: u64,
}

/// A list of objects as they were at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The revision of the whole store at that moment.
    pub revision: u64,
    /// In order of namespace and name.
    pub objects: Vec<Object>,
}

/// One write.
#[derive(Debug)]
pub struct Change {
    /// What is written.
    pub key: Key,
    /// What must be there for the write to happen.
    pub expect: Expect,
    /// What happens to it.
    pub action: Action,
}

/// The state a write was worked out on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing of that name.
    Absent,
    /// The object as of this revision.
    Revision(u64),
}

/// What a write does. The store sets `metadata.resourceVersion` in the object it is given.
#[derive(Debug)]
pub enum Action {
    /// The new object.
    Put(Value),
    /// Removal; the object is the last state that watchers see.
    Delete(Value),
}

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The name is taken.
    #[error("the object exists already")]
    Exists,
    /// Another write came first; what is there now, if anything.
    #[error("the object has been modified")]
    Conflict(Option<Object>),
    /// The disk refuses; nothing more can be written until the program starts again.
    #[error("cannot write to the database: {0}; look for a full or failing disk, then restart")]
    Disk(String),
    /// The store is shutting down.
    #[error("the server is shutting down")]
    Closed,
}

/// Objects, revisions and watches.
pub trait Store: Send + Sync {
    /// The revision of the last write.
    fn revision(&self) -> u64;

    /// One object.
    fn get(&self, key: &Key) -> Option<Object>;

    /// All objects of a collection; an empty namespace means every namespace.
    fn list(&self, collection: &Collection, namespace: &str) -> Snapshot;

    /// Writes durably. The answer is the object with its new revision, for a removal its last state with the removal's.
    ///
    /// The write happens or not whether or not the answer is awaited.
    fn commit(&self, change: Change) -> BoxFuture<'static, Result<Object, CommitError>>;

    /// The events of a collection after a revision.
    fn watch(&self, collection: &Collection, after: u64) -> Watch;

    /// Whether writes still reach the disk.
    ///
    /// # Errors
    /// When they do not, with the reason.
    fn health(&self) -> Result<(), String>;

    /// Ends every watch, now and from now on.
    fn end_watches(&self);

    /// Ends watches and writes and closes the files; blocks until writes under way are done.
    fn close(&self);
}

#[cfg(test)]
mod tests;
