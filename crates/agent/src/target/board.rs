//! How each target fares, and whether the node serves pods.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Failures in a row after which a target that worked counts as broken: one is no reason to turn pods away.
pub const TOLERATED: u32 = 3;

/// How one target fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// Whether it ever worked.
    pub worked: bool,
    /// Failures in a row; 0: the last call worked.
    pub failures: u32,
    /// The last error, also when it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_at: Option<Timestamp>,
    /// When it last worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<Timestamp>,
}

impl TargetStatus {
    /// Nothing was tried yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            worked: false,
            failures: 0,
            last_error: None,
            last_error_at: None,
            last_success_at: None,
        }
    }

    /// The outcome of a call.
    pub fn note(&mut self, outcome: Result<(), String>, now: Timestamp) {
        match outcome {
            Ok(()) => {
                self.failures = 0;
                self.worked = true;
                self.last_success_at = Some(now);
            }
            Err(error) => {
                self.failures += 1;
                self.last_error = Some(error);
                self.last_error_at = Some(now);
            }
        }
    }

    /// Whether pods can be served as far as this goes.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.worked && self.failures < TOLERATED
    }
}

/// Whether the node gives pods a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not yet; nothing is known to be wrong. This is what comes next.
    Starting(String),
    /// It waits for the cluster or the operator: this is for what.
    Waiting(String),
    /// It does.
    Serving,
    /// A target fails: this is why.
    Failing(String),
}

impl Health {
    /// Whether ADD can be served.
    #[must_use]
    pub fn serves(&self) -> bool {
        *self == Self::Serving
    }

    /// Why not, in a sentence.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Serving => None,
            Self::Starting(reason) | Self::Waiting(reason) | Self::Failing(reason) => Some(reason),
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::Starting("the agent is starting".to_owned())
    }
}

/// Everything that the runner tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board {
    /// The targets, in their order.
    pub targets: Vec<TargetStatus>,
    /// What follows.
    pub health: Health,
}

impl Board {
    /// The health that follows from the targets.
    #[must_use]
    pub fn judge(targets: &[TargetStatus]) -> Health {
        let broken = targets.iter().find(|target| !target.serves());
        match broken {
            None => Health::Serving,
            Some(target) if target.failures == 0 => Health::default(),
            Some(target) => {
                let error = target.last_error.as_deref().unwrap_or("unknown");
                Health::Failing(format!("{}: {error}", target.name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_worked_may_fail_a_little() {
        let now = Timestamp::UNIX_EPOCH;
        let mut targets = vec![TargetStatus::new("a"), TargetStatus::new("b")];
        assert_eq!(Board::judge(&targets), Health::default());
        targets[0].note(Ok(()), now);
        targets[1].note(Err("no".to_owned()), now);
        assert_eq!(Board::judge(&targets), Health::Failing("b: no".to_owned()));
        targets[1].note(Ok(()), now);
        assert_eq!(Board::judge(&targets), Health::Serving);
        for failures in 1..=TOLERATED {
            targets[0].note(Err("lost".to_owned()), now);
            assert_eq!(Board::judge(&targets).serves(), failures < TOLERATED);
        }
        assert_eq!(Board::judge(&targets).reason(), Some("a: lost"));
        targets[0].note(Ok(()), now);
        assert_eq!(
            targets[0].last_error.as_deref(),
            Some("lost"),
            "kept for the status"
        );
        assert!(Board::judge(&targets).serves());
    }
}
