//! A numbered stream between two pods, through whatever happens meanwhile.

use std::process::{Child, Stdio};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::probe::Probe;

/// A stream that runs.
#[derive(Debug)]
pub struct Stream {
    child: Child,
    what: String,
}

impl Stream {
    /// Every two milliseconds a datagram, to another pod's echo (`ADDRESS:PORT`), and back.
    ///
    /// # Panics
    /// When kubectl cannot be started.
    #[must_use]
    pub fn begin(cluster: &Cluster, from: &Probe, target: &str, seconds: u32) -> Self {
        let count = (seconds * 500).to_string();
        let words = ["stream", target, "--count", &count, "--interval-ms", "2"];
        let child = cluster
            .lab_in(&from.name, &words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl");
        Self {
            child,
            what: format!("{} to {target}", from.name),
        }
    }

    /// Whether it has not ended yet.
    ///
    /// # Panics
    /// When that cannot be found out.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Wait for its end: not one datagram may be lost.
    ///
    /// # Panics
    /// When one is.
    #[track_caller]
    pub fn must_be_whole(self) {
        let output = self.child.wait_with_output().expect("kubectl ends");
        let outcome: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}: {output:?}", self.what));
        assert_eq!(outcome["lost"], 0, "{}: {outcome}", self.what);
    }
}
