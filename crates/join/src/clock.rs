//! The clock that joining reads. Tests set it wrong.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::{pki_types::UnixTime, time_provider::TimeProvider};

/// This machine's clock, plus an offset that is zero outside of tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Added to the system's time.
    pub offset: SignedDuration,
}

impl Clock {
    /// A clock that is wrong by `offset`.
    pub fn wrong_by(offset: SignedDuration) -> Self {
        Self { offset }
    }

    /// What the clock shows.
    pub fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        now.checked_add(self.offset).unwrap_or(now)
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
