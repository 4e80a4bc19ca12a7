//! Nodes made of namespaces, each with a real agent process, around an API server that speaks only of nodes.
//!
//! An agent is this test binary once more, started with `agent_process` in the node's network namespace, so that it can
//! be killed. It reaches the API server through a unix socket, whatever its network is like.
#![allow(dead_code)]
pub mod api;
pub mod net;
pub mod node;
pub mod process;

use std::time::{Duration, Instant};

/// Poll until it holds, at most twenty seconds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    eventually_some(what, || holds().then_some(()));
}

/// Poll until there is something.
#[track_caller]
pub fn eventually_some<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = get() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
