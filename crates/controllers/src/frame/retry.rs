//! Failures: what they are, and how long to wait after them.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// Why an action was not done. It is decided anew and, if still wanted, tried again after a while.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActError {
    /// The decision was made on old knowledge: the object has changed, is gone, or is there already.
    #[error("the object has changed meanwhile: {0}")]
    Stale(Box<kube::core::Status>),
    /// Something else has to happen first; nothing is wrong.
    #[error("{0}")]
    NotYet(String),
    /// The API refused.
    #[error("{}", .0.message)]
    Refused(Box<kube::core::Status>),
    /// The API could not be asked.
    #[error(transparent)]
    Api(kube::Error),
    /// No answer.
    #[error("no answer from the API within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The action itself is impossible.
    #[error("{0}")]
    Impossible(String),
}

impl From<kube::Error> for ActError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if matches!(status.code, 404 | 409) => Self::Stale(status),
            kube::Error::Api(status) if is_in_terminating_namespace(&status) => {
                Self::NotYet(status.message)
            }
            kube::Error::Api(status) => Self::Refused(status),
            other => Self::Api(other),
        }
    }
}

/// Nothing is made in a namespace that goes; whatever wanted it goes too.
fn is_in_terminating_namespace(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403
        && causes
            .into_iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
}

impl ActError {
    /// Whether this happens in a healthy cluster.
    pub fn is_ordinary(&self) -> bool {
        matches!(self, Self::Stale(_) | Self::NotYet(_))
    }

    /// The shortest and the longest wait before the action is tried again: what only waits for something soon
    /// succeeds, and old knowledge is renewed within a millisecond.
    fn limits(&self) -> (Duration, Duration) {
        match self {
            Self::Stale(_) => (Duration::from_millis(3), Duration::from_secs(1)),
            Self::NotYet(_) => (Duration::from_millis(50), Duration::from_secs(1)),
            _ => (Duration::from_millis(50), Duration::from_secs(30)),
        }
    }
}

/// Waiting times that double: 50 ms, 100 ms, … up to a limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    failures: u32,
    first: Duration,
    limit: Duration,
}

impl Backoff {
    pub const fn new(first: Duration, limit: Duration) -> Self {
        Self {
            failures: 0,
            first,
            limit,
        }
    }

    /// Counts a failure and says how long to wait.
    pub fn failed(&mut self) -> Duration {
        let factor = 1u32 << self.failures.min(20);
        self.failures += 1;
        self.first.saturating_mul(factor).min(self.limit)
    }

    /// Starts anew.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// The failures of one controller's actions.
#[derive(Default)]
pub(super) struct Retries(HashMap<String, (Backoff, Instant)>);

impl Retries {
    /// Whether the action may be tried at `now`.
    pub fn is_due(&self, key: &str, now: Instant) -> bool {
        self.0.get(key).is_none_or(|(_, when)| *when <= now)
    }

    /// Counts a failure at `now`.
    pub fn failed(&mut self, key: String, error: &ActError, now: Instant) -> Duration {
        let (shortest, longest) = error.limits();
        let entry = self
            .0
            .entry(key)
            .or_insert((Backoff::new(shortest, Duration::MAX), now));
        let wait = entry.0.failed().clamp(shortest, longest);
        entry.1 = now + wait;
        wait
    }

    pub fn succeeded(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// Forgets actions that are not wanted any more.
    pub fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|key, _| wanted(key));
    }

    /// When the next action may be tried again.
    pub fn next(&self) -> Option<Instant> {
        self.0.values().map(|(_, when)| *when).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(300));
        let waits: Vec<u128> = (0..5).map(|_| backoff.failed().as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 300, 300]);
        backoff.succeeded();
        assert_eq!(backoff.failed().as_millis(), 50);
    }

    #[test]
    fn a_failed_action_waits_and_others_do_not() {
        let now = Instant::now();
        let mut retries = Retries::default();
        let wait = retries.failed("a".into(), &ActError::NotYet("x".into()), now);
        assert!(!retries.is_due("a", now));
        assert!(retries.is_due("a", now + wait));
        assert!(retries.is_due("b", now));
        assert_eq!(retries.next(), Some(now + wait));
        for _ in 0..30 {
            retries.failed("a".into(), &ActError::NotYet("x".into()), now);
        }
        assert_eq!(retries.next(), Some(now + Duration::from_secs(1)));
        retries.keep(|key| key != "a");
        assert!(retries.is_due("a", now) && retries.next().is_none());
    }
}
