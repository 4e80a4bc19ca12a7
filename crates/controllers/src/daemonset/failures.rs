//! Daemon pods that failed are replaced, ever more slowly if they go on failing.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::{frame::Backoff, pods};

const FIRST: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// By the set's uid and the node's name.
#[derive(Default)]
pub(super) struct Failures(HashMap<(String, String), Entry>);

struct Entry {
    backoff: Backoff,
    /// The failed pod that was counted last.
    pod: String,
    replace_at: Timestamp,
}

impl Failures {
    /// Counts failures of a set's pods on a node, and forgets them once a pod there is ready.
    pub fn watch(
        &mut self,
        (set, node): (&str, &str),
        well: &[&Pod],
        failed: &[&Pod],
        now: Timestamp,
    ) {
        let key = (set.to_owned(), node.to_owned());
        if well.iter().any(|pod| pods::is_ready(pod)) {
            self.0.remove(&key);
        }
        for pod in failed {
            let entry = self.0.entry(key.clone()).or_insert_with(|| Entry {
                backoff: Backoff::new(FIRST, LIMIT),
                pod: String::new(),
                replace_at: now,
            });
            let uid = pods::uid(&pod.metadata);
            if entry.pod != uid {
                entry.pod = uid.to_owned();
                entry.replace_at = now + entry.backoff.failed();
            }
        }
    }

    /// When the failed pod of a set on a node may be replaced.
    pub fn replace_at(&self, (set, node): (&str, &str)) -> Option<Timestamp> {
        let entry = self.0.get(&(set.to_owned(), node.to_owned()));
        entry.map(|entry| entry.replace_at)
    }
}
