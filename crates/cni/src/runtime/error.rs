//! What can go wrong between a runtime and its plugins.

use std::{io, path::PathBuf, time::Duration};

use crate::{
    types::{AttachmentId, CniError, Version, code},
    wire::Verb,
};

/// Why a call failed. The texts about plugins are those of libcni, which people search for.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A plugin answered with an error.
    #[error("plugin type={kind:?} failed ({}): {error}", .verb.to_lowercase())]
    Plugin {
        /// The plugin.
        kind: String,
        /// What it was asked.
        verb: String,
        /// Its answer.
        error: CniError,
    },
    /// There is no such plugin.
    #[error("failed to find plugin {kind:?} in path {dirs:?}: install it there")]
    NotFound {
        /// The plugin.
        kind: String,
        /// Where it was looked for.
        dirs: Vec<PathBuf>,
    },
    /// A plugin could not be run.
    #[error("cannot run plugin {}: {source}", .path.display())]
    Run {
        /// Its binary.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A plugin took too long and was killed.
    #[error("plugin type={kind:?} ({}) did not end within {} ms and was killed", .verb.to_lowercase(), .limit.as_millis())]
    Timeout {
        /// The plugin.
        kind: String,
        /// What it was asked.
        verb: String,
        /// What was left of the call's limit when it started.
        limit: Duration,
    },
    /// A plugin's result is not one.
    #[error("the plugin's result cannot be used: {0}")]
    Result(CniError),
    /// The container or interface has an impossible name.
    #[error("cannot attach: {0}")]
    Name(CniError),
    /// The list's version does not have the verb.
    #[error("configuration version {version} does not have {verb}")]
    Version {
        /// What was asked.
        verb: Verb,
        /// The list's version.
        version: Version,
    },
    /// The call needs a network namespace.
    #[error("{0} needs a network namespace")]
    NoNetns(&'static str),
    /// ADD for what is attached.
    #[error("interface {} of container {} is attached already: detach it first", .0.ifname, .0.container_id)]
    Attached(AttachmentId),
    /// CHECK for what is not attached.
    #[error("interface {} of container {} is not attached", .0.ifname, .0.container_id)]
    NotAttached(AttachmentId),
    /// The record of an attachment cannot be read or written.
    #[error("the record of an attachment, {}, cannot be used: {source}", .path.display())]
    Cache {
        /// The record.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// ADD failed, and so did undoing it.
    #[error("{cause}; and cleaning up failed: {cleanup}")]
    AddAndCleanup {
        /// Why ADD failed.
        cause: Box<RuntimeError>,
        /// Why DEL failed.
        cleanup: Box<RuntimeError>,
    },
    /// Several things failed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<RuntimeError>),
}

impl RuntimeError {
    /// Whether the plugin itself asked to be called again later (code 11).
    pub fn is_try_again(&self) -> bool {
        match self {
            RuntimeError::Plugin { error, .. } => error.code == code::TRY_AGAIN,
            RuntimeError::AddAndCleanup { cause, .. } => cause.is_try_again(),
            _ => false,
        }
    }

    pub(super) fn result(error: CniError) -> Self {
        RuntimeError::Result(error)
    }

    /// Success when nothing failed; a single failure stands for itself.
    pub(super) fn all(mut errors: Vec<RuntimeError>) -> Result<(), RuntimeError> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.swap_remove(0)),
            _ => Err(RuntimeError::Several(errors)),
        }
    }
}
