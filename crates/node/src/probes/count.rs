//! Thresholds. Pure.

use super::Kind;

/// Whether a probe's meaning has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No.
    Same,
    /// To this. A failing liveness or startup probe says so again after as many failures more.
    Now(bool),
}

/// Counts outcomes in a row.
#[derive(Clone, Debug)]
pub struct Counter {
    kind: Kind,
    successes: u32,
    failures: u32,
    last: Option<bool>,
    run: u32,
    holds: Option<bool>,
}

impl Counter {
    /// With the probe's thresholds, or the usual ones (1 and 3).
    pub fn new(kind: Kind, successes: Option<i32>, failures: Option<i32>) -> Self {
        let given = |value: Option<i32>, usual| {
            value
                .and_then(|v| u32::try_from(v).ok())
                .filter(|v| *v > 0)
                .unwrap_or(usual)
        };
        // Only readiness may ask for more than one success.
        let successes = if kind == Kind::Readiness {
            given(successes, 1)
        } else {
            1
        };
        // A container that has said nothing yet is not ready, and lives.
        let holds = if kind == Kind::Liveness {
            Some(true)
        } else {
            None
        };
        Self {
            kind,
            successes,
            failures: given(failures, 3),
            last: None,
            run: 0,
            holds,
        }
    }

    /// One more outcome.
    pub fn count(&mut self, success: bool) -> Verdict {
        self.run = if self.last == Some(success) {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = Some(success);
        let enough = self.run
            >= if success {
                self.successes
            } else {
                self.failures
            };
        if !enough {
            return Verdict::Same;
        }
        let again = !success && self.kind != Kind::Readiness;
        if again {
            self.run = 0;
        }
        if self.holds == Some(success) && !again {
            return Verdict::Same;
        }
        self.holds = Some(success);
        Verdict::Now(success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(kind: Kind, successes: i32, failures: i32, outcomes: &str) -> String {
        let mut counter = Counter::new(kind, Some(successes), Some(failures));
        outcomes
            .chars()
            .map(|c| match counter.count(c == '+') {
                Verdict::Same => '.',
                Verdict::Now(true) => 'Y',
                Verdict::Now(false) => 'N',
            })
            .collect()
    }

    #[test]
    fn thresholds() {
        let table = [
            (Kind::Readiness, 1, 3, "+++---+", "Y....NY"),
            (Kind::Readiness, 2, 1, "+-++-", ".N.YN"),
            (Kind::Readiness, 1, 3, "----", "..N."),
            (Kind::Liveness, 1, 3, "+--+---", "......N"),
            (Kind::Liveness, 1, 2, "----+", ".N.NY"),
            (Kind::Startup, 5, 2, "-+", ".Y"),
        ];
        for (kind, successes, failures, outcomes, expected) in table {
            assert_eq!(
                verdicts(kind, successes, failures, outcomes),
                expected,
                "{kind:?} {outcomes}"
            );
        }
    }
}
