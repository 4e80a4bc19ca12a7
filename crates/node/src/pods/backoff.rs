//! How long a container that keeps ending waits before it is started again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
/// A container that ran for twice the longest pause is as good as new.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// The pause of one container: none before the first restart, then 10 s, doubled each time, at most 5 min.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    pause: Option<Duration>,
}

impl Backoff {
    /// When a container that ended at `ended` may be started again, and the pause that this is.
    pub fn until(&self, ended: Timestamp) -> Option<(Timestamp, Duration)> {
        let pause = self.pause?;
        let until = ended
            .checked_add(SignedDuration::try_from(pause).ok()?)
            .ok()?;
        Some((until, pause))
    }

    /// The container, which ran for `ran`, is started again.
    pub fn restart(&mut self, ran: Duration) {
        self.pause = Some(match self.pause {
            Some(pause) if ran < FORGIVEN_AFTER => (pause * 2).min(LONGEST),
            _ => FIRST,
        });
    }

    /// After an agent's restart: as if the container had been started again so many times.
    pub fn after(restarts: u32) -> Self {
        let mut backoff = Self::default();
        for _ in 0..restarts.min(8) {
            backoff.restart(Duration::ZERO);
        }
        backoff
    }
}

/// `10s`, `1m20s`, `5m0s`: Go's way.
pub fn go_duration(duration: Duration) -> String {
    let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs() % 60);
    if minutes == 0 {
        format!("{seconds}s")
    } else {
        format!("{minutes}m{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_forgiven() {
        let mut backoff = Backoff::default();
        let ended = Timestamp::from_second(1000).unwrap();
        assert_eq!(backoff.until(ended), None);
        let mut seen = Vec::new();
        for _ in 0..7 {
            backoff.restart(Duration::from_secs(1));
            let (until, pause) = backoff.until(ended).unwrap();
            assert_eq!(until.duration_since(ended).unsigned_abs(), pause);
            seen.push(go_duration(pause));
        }
        assert_eq!(
            seen,
            ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]
        );
        assert_eq!(Backoff::after(7), backoff);
        backoff.restart(FORGIVEN_AFTER);
        assert_eq!(backoff, Backoff::after(1));
    }
}
