//! Errors.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Result with [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a runtime's answer is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No runtime listens.
    #[error("cannot connect to {socket}: {source}")]
    Connect {
        /// Where.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke, or what speaks there is no HTTP/2.
    #[error("{call}: {source}")]
    Http {
        /// What was asked.
        call: &'static str,
        /// Why.
        source: hyper::Error,
    },
    /// The runtime refused.
    #[error("{call}: {message} (gRPC status {code})")]
    Refused {
        /// What was asked.
        call: &'static str,
        /// The number of gRPC.
        code: u32,
        /// Its reason.
        message: String,
    },
    /// Not an answer of this interface.
    #[error("{call}: the answer cannot be understood: {problem}")]
    Answer {
        /// What was asked.
        call: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It took too long.
    #[error("{call}: no answer within {} s", limit.as_secs())]
    Late {
        /// What was asked.
        call: &'static str,
        /// How long it may take.
        limit: Duration,
    },
}

/// gRPC's number for "no such call".
pub(crate) const UNIMPLEMENTED: u32 = 12;

impl Error {
    /// Whether the runtime does not know what was asked.
    #[must_use]
    pub fn is_unimplemented(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == UNIMPLEMENTED)
    }
}
