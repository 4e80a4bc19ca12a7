//! The one shape of every controller: watch, decide, act.
//!
//! ```text
//!   watches ──▶ Store (one per kind, shared) ──bell──▶ decide(now) ──▶ actions ──▶ the API
//!                  ▲                                       │ again at      │
//!                  └──────────── what was written ◀────────┴───────────────┘
//! ```
//!
//! A controller looks at everything it cares about and says what should be done now and when to look again: a pure
//! function of the stores and the time. It keeps no queue, so nothing can be forgotten. The loop around it
//! ([`drive`]) is the only place that waits, retries and counts failures. It decides again only after the stores have
//! seen what was written, so that a decision never repeats itself on old knowledge.

mod events;
mod retry;
mod run;
mod store;
mod write;

use std::future::Future;

use jiff::Timestamp;

pub(crate) use events::{Note, Recorder, Severity, write_events};
pub(crate) use retry::{ActError, Backoff};
pub(crate) use run::drive;
pub(crate) use store::{Input, Interest, Store, Watched, follow};
pub(crate) use write::{Api, Precondition, Target, Write, versioned};

/// Something that watches the cluster and brings one aspect of it in order.
pub(crate) trait Controller: Send + 'static {
    /// What it does to the cluster.
    type Action: Action;
    /// Its name in logs and in events.
    const NAME: &'static str;

    /// The stores whose changes matter; none of them is looked at before it is complete.
    fn inputs(&self) -> Vec<Input>;

    /// What is to be done now, and when to look again even if nothing changes.
    fn decide(&mut self, now: Timestamp) -> Plan<Self::Action>;
}

/// One thing to do. Doing it twice does no harm.
pub(crate) trait Action: Send + Sync + 'static {
    /// Names the action among those of its controller: failures are counted by it.
    fn key(&self) -> String;

    /// Does it. Returns once the shared stores know about it.
    fn perform(&self, api: &Api) -> impl Future<Output = Result<(), ActError>> + Send;
}

/// A decision.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan<A> {
    /// To be done now, in no particular order.
    pub actions: Vec<A>,
    /// When time alone changes the decision.
    pub again: Option<Timestamp>,
}

impl<A> Plan<A> {
    pub fn new() -> Self {
        Self {
            actions: Vec::new(),
            again: None,
        }
    }

    pub fn push(&mut self, action: A) {
        self.actions.push(action);
    }

    /// Asks for a look at `when` at the latest.
    pub fn wake(&mut self, when: Timestamp) {
        self.again = Some(self.again.map_or(when, |other| other.min(when)));
    }
}

impl<A> Extend<A> for Plan<A> {
    fn extend<T: IntoIterator<Item = A>>(&mut self, actions: T) {
        self.actions.extend(actions);
    }
}
