//! The loop around a controller.

use std::{collections::HashSet, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use tokio::{sync::Notify, time::Instant};

use super::{ActError, Action, Api, Backoff, Controller, retry::Retries};

/// Actions of one controller that are under way at the same time.
const PARALLEL: usize = 16;
/// A single action that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// A controller rests so many times as long as it thought: in a large cluster decisions take long, and changes that
/// come meanwhile are decided together.
const REST: u32 = 9;
/// But no longer than this.
const LONGEST_REST: Duration = Duration::from_millis(500);

/// Runs the controller that `make` makes for ever; one that panics is logged and made anew.
pub(crate) async fn drive<C: Controller>(api: Api, make: impl Fn() -> C) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        let life = AssertUnwindSafe(live(&api, make()));
        let Err(panic) = life.catch_unwind().await;
        let reason = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "unknown".to_owned());
        let wait = backoff.failed();
        tracing::error!(
            controller = C::NAME,
            reason,
            ?wait,
            "a controller failed and is started again"
        );
        tokio::time::sleep(wait).await;
    }
}

/// Decides and acts, again and again.
async fn live<C: Controller>(api: &Api, mut controller: C) -> std::convert::Infallible {
    let bell = Arc::new(Notify::new());
    for input in controller.inputs() {
        input.store.subscribe(input.interest, bell.clone());
        let mut progress = input.store.progress();
        // The store lives as long as this controller, so its sender does too.
        let _ = progress.wait_for(|progress| progress.ready).await;
    }
    tracing::debug!(controller = C::NAME, "running");
    let mut retries = Retries::default();
    loop {
        let begun = Instant::now();
        let plan = controller.decide(Timestamp::now());
        let thought = begun.elapsed();
        let keys: HashSet<String> = plan.actions.iter().map(Action::key).collect();
        retries.keep(|key| keys.contains(key));
        let attempts: Vec<_> = plan
            .actions
            .into_iter()
            .map(|action| (action.key(), action))
            .filter(|(key, _)| retries.is_due(key, begun))
            .map(|(key, action)| attempt(api.clone(), key, action))
            .collect();
        let outcomes: Vec<_> = stream::iter(attempts)
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        for (key, outcome) in outcomes {
            settle::<C>(&mut retries, key, outcome);
        }
        tokio::time::sleep((thought * REST).min(LONGEST_REST)).await;
        wait(&bell, plan.again, retries.next()).await;
    }
}

async fn attempt<A: Action>(api: Api, key: String, action: A) -> (String, Result<(), ActError>) {
    let outcome = tokio::time::timeout(PATIENCE, action.perform(&api)).await;
    (key, outcome.unwrap_or(Err(ActError::Timeout(PATIENCE))))
}

fn settle<C: Controller>(retries: &mut Retries, key: String, outcome: Result<(), ActError>) {
    let Err(error) = outcome else {
        tracing::debug!(controller = C::NAME, action = key, "done");
        return retries.succeeded(&key);
    };
    let again = retries.failed(key.clone(), &error, Instant::now());
    if error.is_ordinary() {
        tracing::debug!(controller = C::NAME, action = key, %error, ?again, "not done yet");
    } else {
        tracing::warn!(controller = C::NAME, action = key, %error, ?again, "an action failed");
    }
}

/// Until something changes, the plan's time has come, or a failed action may be tried again.
async fn wait(bell: &Notify, again: Option<Timestamp>, retry: Option<Instant>) {
    let planned = again.map(|when| {
        let left = when.duration_since(Timestamp::now());
        Instant::now() + Duration::try_from(left).unwrap_or_default()
    });
    let mut rung = pin!(bell.notified());
    match planned.into_iter().chain(retry).min() {
        None => rung.await,
        Some(when) => {
            let _ = tokio::time::timeout_at(when, rung.as_mut()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use k8s_openapi::api::core::v1::Pod;
    use kube::client::Body;
    use tokio::sync::mpsc;

    use super::*;
    use crate::frame::{Input, Plan, Recorder, Store};

    /// Its first life ends in a panic; in the second its action fails once.
    struct Clumsy {
        pods: Store<Pod>,
        life: usize,
        done: mpsc::UnboundedSender<&'static str>,
        tries: Arc<AtomicUsize>,
    }

    struct Try(mpsc::UnboundedSender<&'static str>, Arc<AtomicUsize>);

    impl Action for Try {
        fn key(&self) -> String {
            "try".into()
        }

        async fn perform(&self, _api: &Api) -> Result<(), ActError> {
            let first = self.1.fetch_add(1, Ordering::SeqCst) == 0;
            let _ = self.0.send(if first { "failed" } else { "done" });
            match first {
                true => Err(ActError::Impossible("the first time".into())),
                false => Ok(()),
            }
        }
    }

    impl Controller for Clumsy {
        type Action = Try;
        const NAME: &'static str = "clumsy";

        fn inputs(&self) -> Vec<Input> {
            vec![self.pods.input()]
        }

        fn decide(&mut self, _now: Timestamp) -> Plan<Try> {
            assert_ne!(self.life, 0, "the first life is short");
            let mut plan = Plan::new();
            plan.push(Try(self.done.clone(), self.tries.clone()));
            plan
        }
    }

    #[tokio::test]
    async fn a_controller_that_fails_is_started_again_and_an_action_is_tried_again() {
        let answer = tower::service_fn(|_: http::Request<Body>| async {
            Ok::<_, Infallible>(http::Response::new(Body::empty()))
        });
        let client = kube::Client::new(answer, "default");
        let api = Api::new(client, Vec::new(), Recorder::new().0);
        let (done, mut seen) = mpsc::unbounded_channel();
        let pods = Store::new(&());
        pods.replace([]);
        let (lives, tries) = (AtomicUsize::new(0), Arc::default());
        let make = move || Clumsy {
            pods: pods.clone(),
            life: lives.fetch_add(1, Ordering::SeqCst),
            done: done.clone(),
            tries: Arc::clone(&tries),
        };
        let running = tokio::spawn(drive(api, make));
        assert_eq!(seen.recv().await, Some("failed"));
        assert_eq!(seen.recv().await, Some("done"));
        running.abort();
    }
}
