//! The cleaner: requests that nobody waits for any more are deleted.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::condition;
use crate::{
    frame::{Controller, Input, Plan, Precondition, Store, Target, Write},
    world::World,
};

/// A decided request is kept this long.
const DECIDED: SignedDuration = SignedDuration::from_hours(1);
/// An undecided one.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

pub(crate) struct CsrCleaner {
    requests: Store<CertificateSigningRequest>,
}

impl CsrCleaner {
    pub fn new(world: &World) -> Self {
        Self {
            requests: world.requests.clone(),
        }
    }
}

impl Controller for CsrCleaner {
    type Action = Write;
    const NAME: &'static str = "csr-cleaner";

    fn inputs(&self) -> Vec<Input> {
        vec![self.requests.input()]
    }

    fn decide(&mut self, now: Timestamp) -> Plan<Write> {
        clean(&self.requests.list(), now)
    }
}

fn clean(requests: &[Arc<CertificateSigningRequest>], now: Timestamp) -> Plan<Write> {
    let mut plan = Plan::new();
    for request in requests {
        let Some(end) = end(request) else { continue };
        if end > now {
            plan.wake(end);
        } else {
            let same = Precondition::same(&**request);
            plan.push(Write::delete(Target::of(&**request), &same));
        }
    }
    plan
}

/// When a request has served its time.
fn end(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let created = request.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let decided = ["Approved", "Denied", "Failed"]
        .iter()
        .find_map(|kind| condition(request, kind));
    let (start, kept) = match decided {
        None => (created, PENDING),
        Some(decision) => {
            let times = [&decision.last_update_time, &decision.last_transition_time];
            let decided = times.into_iter().flatten().next().map(|t| t.0);
            (decided.or(created), DECIDED)
        }
    };
    start?.checked_add(kept).ok()
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};
    use crate::testing::at;

    #[test]
    fn decided_requests_go_after_an_hour_others_after_a_day() {
        // Created at 9:00, decided at 10:00.
        let decided = || request("w1", "x/y", &[], &["Approved"]);
        let pending = || request("w1", "x/y", &[], &[]);
        let cases = [
            (
                decided(),
                "2026-11-25T10:59:59Z",
                0,
                Some("2026-11-25T11:00:00Z"),
            ),
            (decided(), "2026-11-25T11:00:00Z", 1, None),
            (
                pending(),
                "2026-11-25T11:00:00Z",
                0,
                Some("2026-11-26T09:00:00Z"),
            ),
            (pending(), "2026-11-26T09:00:00Z", 1, None),
        ];
        for (request, now, deleted, again) in cases {
            let plan = clean(&[request], at(now));
            assert_eq!(
                (plan.actions.len(), plan.again),
                (deleted, again.map(at)),
                "{now}"
            );
        }
    }
}
