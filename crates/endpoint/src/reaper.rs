//! Deleting links, many at once, and letting addresses rest.
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::config::Step;
use crate::error::Result;
use crate::manager::Shared;
use crate::record::Phase;
use crate::state::Slot;

/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(1);

impl Shared {
    /// The reaper's life.
    pub fn reap_until_stopped(&self) {
        while self.wait_for_work() {
            // More will come, and the death of a network namespace may do the work.
            if self.wait(self.config.gather) {
                break;
            }
            self.forget_rested();
            if let Err(error) = self.reap() {
                tracing::warn!(%error, "links could not be deleted; trying again");
                if self.wait(RETRY) {
                    break;
                }
            }
        }
        if let Err(error) = self.reap() {
            tracing::warn!(%error, "links are left for the next start");
        }
    }

    /// Delete the links of all doomed endpoints and free their addresses.
    pub fn reap(&self) -> Result<()> {
        let _one = self.reaping.lock().unwrap_or_else(PoisonError::into_inner);
        let slots: Vec<Slot> = {
            let mut state = self.state();
            let doomed = std::mem::take(&mut state.doomed);
            doomed
                .iter()
                .filter_map(|id| state.slots.get(id).cloned())
                .collect()
        };
        let result = self.delete(&slots);
        if result.is_err() {
            // Those that are freed have no slot any more, and are skipped next time.
            self.state()
                .doomed
                .extend(slots.iter().map(|slot| slot.endpoint.id));
        }
        result
    }

    fn delete(&self, slots: &[Slot]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let mut indexes = Vec::with_capacity(slots.len());
        for slot in slots {
            // Closed already, unless that failed.
            self.close(&slot.endpoint)?;
            // Not by name: the attachment may have a new endpoint, whose link has the same.
            indexes.extend(slot.ifindex);
        }
        self.handle.delete_links(&indexes)?;
        self.config.at(Step::Unlinked)?;
        for slot in slots {
            self.free(slot)?;
        }
        tracing::debug!(links = indexes.len(), "links deleted");
        Ok(())
    }

    fn free(&self, slot: &Slot) -> Result<()> {
        let id = slot.endpoint.id;
        let freed = self.records.advance(id, slot.stored, Phase::Freed);
        if let Err(error) = freed {
            tracing::warn!(id, %error, "forgetting an endpoint at once");
            self.records.remove(id, slot.stored)?;
        }
        self.state().release(id);
        self.config.at(Step::Freed)
    }

    /// Remove the records of endpoints whose addresses have rested long enough.
    fn forget_rested(&self) {
        loop {
            let id = {
                let mut state = self.state();
                let rested = |since: Instant| since.elapsed() >= self.config.quarantine;
                match state.freed.front() {
                    Some(freed) if rested(freed.since) => {
                        state.freed.pop_front().and_then(|freed| freed.id)
                    }
                    _ => return,
                }
            };
            let Some(id) = id else {
                continue;
            };
            if let Err(error) = self.records.remove(id, Phase::Freed) {
                tracing::warn!(id, %error, "a record of a freed endpoint is left");
            }
        }
    }

    /// Until something is doomed or has rested; false: stop.
    fn wait_for_work(&self) -> bool {
        let mut state = self.state();
        loop {
            if state.stopping {
                return false;
            }
            let next = state
                .freed
                .front()
                .map(|freed| self.config.quarantine.saturating_sub(freed.since.elapsed()));
            if !state.doomed.is_empty() || next == Some(Duration::ZERO) {
                return true;
            }
            state = match next {
                Some(next) => {
                    self.work
                        .wait_timeout(state, next)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// For this long, unless it is time to stop; whether it is.
    fn wait(&self, time: Duration) -> bool {
        let waited = self
            .work
            .wait_timeout_while(self.state(), time, |state| !state.stopping);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }
}
