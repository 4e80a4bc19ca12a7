//! What a container runtime does with plugins.
//!
//! ADD calls a list's plugins in order and hands each one the result of those before; DEL calls them backwards with
//! the last result. What an attachment was made with (list, arguments, result) is kept in a [`cache`] until DEL, from
//! before the first plugin runs: whatever dies in between, DEL finds what to undo. DEL also works without it.
//!
//! Calls about one container wait for each other, those about different ones do not; GC runs alone.
//!
//! Everything blocks, and ends: a plugin that outlives its limit is killed, with all that it started.

mod cache;
mod chain;
mod error;
mod exec;
mod load;
mod lock;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Map, Value};

pub use error::RuntimeError;
pub use load::{LoadError, load, load_file};

use self::{
    cache::{Cache, Entry},
    chain::Chain,
    exec::Exec,
    lock::Locks,
};
use crate::types::{
    Args, AttachmentId, NetworkList, Success, Version, check_container_id, check_ifname,
};
use crate::wire::Verb;

/// How a [`Runtime`] works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where plugins are looked for, in this order.
    pub bin_dirs: Vec<PathBuf>,
    /// Where attachments are remembered. It must not outlive the machine's run (a tmpfs, such as under `/run`): after
    /// a reboot neither namespaces nor addresses are what they were. It is made if need be.
    pub cache_dir: PathBuf,
    /// How long one call of this runtime may take with all the plugins it runs. A failed ADD takes as long again for
    /// cleaning up.
    pub limit: Duration,
}

/// What is attached.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Container and interface.
    pub id: AttachmentId,
    /// The network namespace; `None` (on DEL) when it is gone.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`
    pub args: Args,
    /// Values for the capabilities that plugins declare, for example `portMappings`.
    pub capabilities: Map<String, Value>,
}

/// Calls plugins.
#[derive(Debug)]
pub struct Runtime {
    bin_dirs: Vec<PathBuf>,
    cache: Cache,
    limit: Duration,
    locks: Locks,
}

impl Runtime {
    /// A runtime. Nothing is touched before the first call.
    pub fn new(options: Options) -> Self {
        Self {
            bin_dirs: options.bin_dirs,
            cache: Cache::new(options.cache_dir),
            limit: options.limit,
            locks: Locks::default(),
        }
    }

    /// Attaches a container. When a plugin fails, the whole chain is called with DEL before this returns.
    ///
    /// # Errors
    /// [`RuntimeError::Attached`] when it is attached already (nothing is touched then), else what failed, and what
    /// of the cleaning up failed.
    pub fn add(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
    ) -> Result<Success, RuntimeError> {
        check_names(&attachment.id)?;
        let netns = attachment
            .netns
            .as_ref()
            .ok_or(RuntimeError::NoNetns("ADD"))?;
        let _turn = self.locks.container(&attachment.id.container_id);
        match self.cache.get(&list.name, &attachment.id) {
            Ok(Some(entry)) if entry.result.is_some() => {
                return Err(RuntimeError::Attached(attachment.id.clone()));
            }
            Ok(None) => {}
            // Somebody died in the middle of an ADD, or of writing: what that left is undone first.
            Ok(Some(_)) | Err(_) => self.detach(list, attachment)?,
        }
        let mut entry = Entry::intent(list, attachment, netns);
        self.cache.put(&entry)?;
        let mut chain = Chain::new(list, attachment, self.exec());
        let outcome = chain.add().and_then(|result| {
            entry.result = Some(
                result
                    .to_value(list.version)
                    .map_err(RuntimeError::result)?,
            );
            self.cache.put(&entry)?;
            Ok(result)
        });
        outcome.map_err(
            |cause| match self.undo(list, attachment, chain.previous.take()) {
                Ok(()) => cause,
                Err(cleanup) => RuntimeError::AddAndCleanup {
                    cause: Box::new(cause),
                    cleanup: Box::new(cleanup),
                },
            },
        )
    }

    /// Detaches a container, with the list and the arguments that it was attached with, if they are known, else with
    /// those given. All plugins are called, whichever fail.
    ///
    /// # Errors
    /// What every plugin that failed said; calling again is in order.
    pub fn del(&self, list: &NetworkList, attachment: &Attachment) -> Result<(), RuntimeError> {
        check_names(&attachment.id)?;
        let _turn = self.locks.container(&attachment.id.container_id);
        self.detach(list, attachment)
    }

    /// Asks the plugins whether the container is still attached as it was.
    ///
    /// # Errors
    /// When it is not, when there is no record of it, or when the list is older than CHECK (0.4.0).
    pub fn check(&self, list: &NetworkList, attachment: &Attachment) -> Result<(), RuntimeError> {
        check_names(&attachment.id)?;
        if list.version < Verb::Check.since() {
            return Err(RuntimeError::Version {
                verb: Verb::Check,
                version: list.version,
            });
        }
        if attachment.netns.is_none() {
            return Err(RuntimeError::NoNetns("CHECK"));
        }
        if list.disable_check {
            return Ok(());
        }
        let _turn = self.locks.container(&attachment.id.container_id);
        let entry = self.cache.get(&list.name, &attachment.id)?;
        let result = entry.and_then(|entry| entry.result(list.version));
        let result = result.ok_or_else(|| RuntimeError::NotAttached(attachment.id.clone()))?;
        Chain::new(list, attachment, self.exec()).check(result)
    }

    /// Asks the plugins whether ADD can be served. A list older than STATUS (1.1.0) always says yes.
    ///
    /// # Errors
    /// What the first plugin said that cannot.
    pub fn status(&self, list: &NetworkList) -> Result<(), RuntimeError> {
        if list.version < Verb::Status.since() {
            return Ok(());
        }
        chain::status(list, &self.exec())
    }

    /// Detaches what the cache knows and `keep` does not list, then lets the plugins remove whatever else is not
    /// listed (lists from 1.1.0). `keep` is everything that is to stay on this network: nothing listed means nothing
    /// stays.
    ///
    /// # Errors
    /// Everything that failed; the rest was done.
    pub fn gc(&self, list: &NetworkList, keep: &[AttachmentId]) -> Result<(), RuntimeError> {
        if list.disable_gc {
            return Ok(());
        }
        let _alone = self.locks.all();
        let mut errors = Vec::new();
        for entry in self.cache.list(&list.name)? {
            let stale = entry.attachment();
            if !keep.contains(&stale.id) {
                errors.extend(self.detach(list, &stale).err());
            }
        }
        self.cache.remove_unreadable(&list.name, keep);
        if list.version >= Verb::Gc.since() {
            errors.extend(chain::gc(list, keep, &self.exec()).err());
        }
        RuntimeError::all(errors)
    }

    /// What of a network is attached, or was being attached, as far as the cache knows.
    pub fn attachments(&self, network: &str) -> Vec<AttachmentId> {
        let entries = self.cache.list(network).unwrap_or_default();
        entries
            .into_iter()
            .map(|entry| entry.attachment().id)
            .collect()
    }

    /// The versions that a plugin says it speaks.
    ///
    /// # Errors
    /// When it cannot be asked. (A plugin older than VERSION says it with an error; that is not guessed at here.)
    pub fn versions(&self, kind: &str) -> Result<Vec<String>, RuntimeError> {
        chain::versions(kind, &self.exec())
    }

    fn exec(&self) -> Exec<'_> {
        Exec::new(&self.bin_dirs, Instant::now() + self.limit)
    }

    /// DEL, the container's lock being held.
    fn detach(&self, list: &NetworkList, attachment: &Attachment) -> Result<(), RuntimeError> {
        // A record that cannot be read says nothing: then the caller knows best.
        let entry = self
            .cache
            .get(&list.name, &attachment.id)
            .unwrap_or_default();
        let Some(entry) = entry else {
            return self.undo(list, attachment, None);
        };
        let list = entry.list().unwrap_or_else(|| list.clone());
        let known = Attachment {
            netns: attachment.netns.clone(),
            ..entry.attachment()
        };
        let result = entry.result(list.version);
        self.undo(&list, &known, result)
    }

    fn undo(
        &self,
        list: &NetworkList,
        at: &Attachment,
        result: Option<Success>,
    ) -> Result<(), RuntimeError> {
        // `prevResult` on DEL exists since 0.4.0.
        let result = result.filter(|_| list.version >= Version::V0_4_0);
        Chain::new(list, at, self.exec()).del(result)?;
        self.cache.remove(&list.name, &at.id)
    }
}

fn check_names(id: &AttachmentId) -> Result<(), RuntimeError> {
    let checked = check_container_id(&id.container_id).and_then(|()| check_ifname(&id.ifname));
    checked.map_err(RuntimeError::Name)
}
