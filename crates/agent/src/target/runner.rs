//! One thread calls the targets: when the desired state changes, again after a failure (sooner at first), and now and
//! then anyway, because others change the kernel's state, too.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use super::Target;
use super::board::{Board, Health, TargetStatus};
use crate::model::{Desired, Thought, Waiting};

/// Pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Everything is checked this often even if nothing changed.
const RESYNC: Duration = Duration::from_secs(30);

/// What the runner works from: the newest wins, nothing queues up.
#[derive(Debug, Default)]
pub struct Mailbox {
    state: Mutex<Letter>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Letter {
    latest: Option<Thought>,
    fresh: bool,
    stop: bool,
}

impl Mailbox {
    /// What should be from now on, or why nothing can be said.
    pub fn put(&self, desired: Thought) {
        let mut letter = self.lock();
        letter.latest = Some(desired);
        letter.fresh = true;
        self.arrived.notify_all();
    }

    /// Call every target again, soon.
    pub fn nudge(&self) {
        self.lock().fresh = true;
        self.arrived.notify_all();
    }

    /// End [`Runner::run`]. What is in force stays in force.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.arrived.notify_all();
    }

    /// Wait for something new, at most so long. None: stop.
    fn wait(&self, limit: Duration) -> Option<(Option<Thought>, bool)> {
        let idle = |letter: &mut Letter| !letter.fresh && !letter.stop;
        let waited = self.arrived.wait_timeout_while(self.lock(), limit, idle);
        let (mut letter, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let fresh = std::mem::take(&mut letter.fresh);
        (!letter.stop).then(|| (letter.latest.clone(), fresh))
    }

    fn lock(&self) -> MutexGuard<'_, Letter> {
        // A letter is whole at any moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Slot {
    target: Box<dyn Target>,
    due: Instant,
}

type Last = Box<dyn FnMut(&Health) -> anyhow::Result<()> + Send>;

/// Calls the targets.
pub struct Runner {
    slots: Vec<Slot>,
    /// Called when everything else works: it opens the node to pods.
    last: Last,
    board: watch::Sender<Board>,
}

impl Runner {
    /// A runner of these targets, in this order. `last` is told the health after each round, and is itself a target
    /// named `cni`: it makes the node Ready, or takes that back.
    pub fn new(
        targets: Vec<Box<dyn Target>>,
        last: impl FnMut(&Health) -> anyhow::Result<()> + Send + 'static,
    ) -> (Self, watch::Receiver<Board>) {
        let now = Instant::now();
        let mut statuses: Vec<_> = targets
            .iter()
            .map(|target| TargetStatus::new(target.name()))
            .collect();
        statuses.push(TargetStatus::new("cni"));
        let board = Board {
            targets: statuses,
            health: Health::default(),
        };
        let (board, receiver) = watch::channel(board);
        let slots = targets
            .into_iter()
            .map(|target| Slot { target, due: now })
            .collect();
        let last = Box::new(last);
        (Self { slots, last, board }, receiver)
    }

    /// Work until the mailbox says stop.
    pub fn run(mut self, mailbox: &Mailbox) {
        let mut pause = RESYNC;
        while let Some((latest, fresh)) = mailbox.wait(pause) {
            let (health, soonest) = match latest {
                None => (Health::default(), RESYNC),
                // An agent that starts anew while the API server is away changes nothing of what it finds.
                Some(Err(Waiting::Cluster)) => {
                    (Health::Starting(Waiting::Cluster.to_string()), RESYNC)
                }
                Some(Err(waiting)) => (Health::Waiting(waiting.to_string()), RESYNC),
                Some(Ok(desired)) => (self.round(&desired, fresh), self.until_due()),
            };
            pause = self.finish(health).min(soonest);
        }
    }

    /// Call every target that is due.
    fn round(&mut self, desired: &Desired, fresh: bool) -> Health {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if !fresh && slot.due > Instant::now() {
                continue;
            }
            let outcome = slot
                .target
                .update(desired)
                .and_then(|()| slot.target.prune(desired));
            let outcome = outcome.map_err(|error| format!("{error:#}"));
            let failures = note(&self.board, index, outcome);
            slot.due = Instant::now() + pause_after(failures);
        }
        let board = self.board.borrow();
        Board::judge(&board.targets[..self.slots.len()])
    }

    /// Open the node to pods or close it, then say so. How long until that should be tried again.
    fn finish(&mut self, health: Health) -> Duration {
        let outcome = (self.last)(&health).map_err(|error| format!("{error:#}"));
        let worked = outcome.is_ok();
        let index = self.slots.len();
        let failures = note(&self.board, index, outcome);
        let health = if worked || !health.serves() {
            health
        } else {
            Board::judge(&self.board.borrow().targets)
        };
        self.board.send_if_modified(|board| {
            let changes = board.health != health;
            if changes {
                tracing::info!(?health, "the node's state changed");
                board.health = health;
            }
            changes
        });
        pause_after(failures)
    }

    fn until_due(&self) -> Duration {
        let soonest = self.slots.iter().map(|slot| slot.due).min();
        soonest.map_or(RESYNC, |due| due.saturating_duration_since(Instant::now()))
    }
}

/// Write an outcome down; the failures in a row.
fn note(board: &watch::Sender<Board>, index: usize, outcome: Result<(), String>) -> u32 {
    let mut failures = 0;
    board.send_if_modified(|board| {
        let target = &mut board.targets[index];
        if let Err(error) = &outcome
            && (target.failures == 0 || target.last_error.as_ref() != Some(error))
        {
            tracing::warn!(
                target = target.name,
                error,
                "cannot bring the desired state about"
            );
        } else if outcome.is_ok() && target.failures > 0 {
            tracing::info!(target = target.name, "works again");
        }
        let before = (target.worked, target.failures);
        target.note(outcome, Timestamp::now());
        failures = target.failures;
        before != (target.worked, target.failures)
    });
    failures
}

fn pause_after(failures: u32) -> Duration {
    match failures {
        0 => RESYNC,
        _ => FIRST_PAUSE
            .saturating_mul(1 << (failures - 1).min(10))
            .min(LONGEST_PAUSE),
    }
}
