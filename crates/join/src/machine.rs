//! The machine a command runs on, and how it speaks: what tests replace.

use std::time::Duration;

use crate::{client::Limits, clock::Clock, paths::Paths, progress::Progress};

/// The machine a command runs on.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its files.
    pub paths: Paths,
    /// Its clock.
    pub clock: Clock,
    /// Where progress is told.
    pub progress: Progress,
    /// Whether the user is root.
    pub privileged: bool,
    /// How long each request may take.
    pub limits: Limits,
    /// How long to repeat what may heal by itself.
    pub patience: Duration,
}

impl Machine {
    /// This machine, telling progress to `progress`.
    pub fn this(progress: Progress) -> Self {
        Self {
            paths: Paths::default(),
            clock: Clock::default(),
            progress,
            privileged: nix::unistd::geteuid().is_root(),
            limits: Limits::default(),
            patience: Duration::from_secs(4),
        }
    }
}
