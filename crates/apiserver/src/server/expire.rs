//! Events are for looking at what happened lately: after an hour they go.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::sync::watch;

use super::{Inner, listener::stopped};
use crate::{
    auth::fields::text,
    store::{Action, Change, Collection, CommitError, Expect, Key},
};

const LIFETIME: SignedDuration = SignedDuration::from_hours(1);
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Removes old Events until told to stop.
pub(super) async fn run(inner: Arc<Inner>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Err(error) = remove_old(&inner, Timestamp::now()).await {
            tracing::warn!(%error, "cannot remove old events");
        }
    }
}

/// Removes the Events whose last sighting is an hour ago.
pub(super) async fn remove_old(inner: &Inner, now: Timestamp) -> Result<(), CommitError> {
    let collection = Collection::new("", "events");
    for event in inner.store.list(&collection, "").objects {
        let fresh = last_seen(&event.value).is_none_or(|seen| now.duration_since(seen) < LIFETIME);
        if fresh {
            continue;
        }
        let place = |field| text(&event.value, field);
        let key = Key::new(
            collection.clone(),
            place("/metadata/namespace"),
            place("/metadata/name"),
        );
        let change = Change {
            key,
            expect: Expect::Revision(event.revision),
            action: Action::Delete(Value::clone(&event.value)),
        };
        match inner.store.commit(change).await {
            // Seen again, or removed by somebody else, meanwhile.
            Ok(_) | Err(CommitError::Conflict(_) | CommitError::Exists) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn last_seen(event: &Value) -> Option<Timestamp> {
    [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/eventTime",
        "/metadata/creationTimestamp",
    ]
    .into_iter()
    .filter_map(|field| text(event, field).parse().ok())
    .max()
}
