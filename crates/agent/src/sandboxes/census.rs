//! Which attachments have no sandbox any more: a pure function of what was seen, over time.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use malha_endpoint::Key;

/// A sandbox is on the list only when it has been started, and its network is attached before that. The kubelet gives a
/// start four minutes (twice its `runtimeRequestTimeout`).
const START: Duration = Duration::from_secs(300);
/// In how many lists in a row a sandbox that was listed must be missing.
const MISSING: u32 = 2;

/// What a runtime lists.
#[derive(Clone, Debug)]
pub struct List {
    /// Which runtime.
    pub socket: PathBuf,
    /// Its sandboxes, running and stopped.
    pub ids: HashSet<String>,
    /// Whether what is not on it is dead.
    pub believed: bool,
}

/// What is remembered.
#[derive(Debug, Default)]
pub struct Census(HashMap<Key, Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// The runtime that listed it.
    listed: Option<PathBuf>,
    /// In how many lists of that runtime it has been missing since.
    missing: u32,
    /// Since when no runtime has listed it, with all of them answering.
    unlisted: Option<Instant>,
}

impl Census {
    /// Take what attachments there are, and what each runtime lists (None: it does not answer); the attachments that
    /// are dead. They are said again until they are gone.
    pub fn take(
        &mut self,
        now: Instant,
        attachments: &HashSet<Key>,
        lists: &[Option<List>],
    ) -> Vec<Key> {
        self.0.retain(|key, _| attachments.contains(key));
        let complete = !lists.is_empty() && lists.iter().all(Option::is_some);
        let lists: Vec<&List> = lists.iter().flatten().collect();
        let conclusive = complete && lists.iter().any(|list| list.believed);
        let mut dead = Vec::new();
        for key in attachments {
            let memory = self.0.entry(key.clone()).or_default();
            if let Some(list) = lists
                .iter()
                .find(|list| list.ids.contains(&key.container_id))
            {
                *memory = Memory {
                    listed: Some(list.socket.clone()),
                    ..Memory::default()
                };
            } else if memory.is_dead(now, &lists, conclusive) {
                dead.push(key.clone());
            }
        }
        dead.sort();
        dead
    }
}

impl Memory {
    /// Of an attachment that is on none of these lists.
    fn is_dead(&mut self, now: Instant, lists: &[&List], conclusive: bool) -> bool {
        if let Some(socket) = &self.listed {
            let believed = |list: &&&List| list.socket == *socket && list.believed;
            if lists.iter().any(|list| believed(&list)) {
                self.missing += 1;
            }
            return self.missing >= MISSING;
        }
        if !conclusive {
            return false;
        }
        let since = *self.unlisted.get_or_insert(now);
        now.duration_since(since) >= START
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Node {
        census: Census,
        attachments: HashSet<Key>,
        now: Instant,
    }

    impl Node {
        fn new(ids: &[&str]) -> Self {
            Self {
                census: Census::default(),
                attachments: ids.iter().map(|id| Key::new(*id, "eth0")).collect(),
                now: Instant::now(),
            }
        }

        fn look(&mut self, lists: &[Option<List>]) -> Vec<String> {
            self.now += Duration::from_secs(20);
            let dead = self.census.take(self.now, &self.attachments, lists);
            dead.into_iter().map(|key| key.container_id).collect()
        }
    }

    fn list(socket: &str, ids: &[&str]) -> Option<List> {
        Some(List {
            socket: socket.into(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            believed: true,
        })
    }

    fn doubtful(socket: &str, ids: &[&str]) -> Option<List> {
        list(socket, ids).map(|list| List {
            believed: false,
            ..list
        })
    }

    const NONE: [String; 0] = [];

    #[test]
    fn what_was_listed_and_is_missing_twice_is_dead() {
        let mut node = Node::new(&["a", "b"]);
        assert_eq!(node.look(&[list("c", &["a", "b"])]), NONE);
        assert_eq!(node.look(&[list("c", &["b"])]), NONE);
        assert_eq!(node.look(&[list("c", &["b"])]), ["a"]);
        assert_eq!(node.look(&[list("c", &["b"])]), ["a"], "until it is gone");
        // Back on the list, it begins anew.
        assert_eq!(node.look(&[list("c", &["a", "b"])]), NONE);
        assert_eq!(node.look(&[list("c", &["b"])]), NONE);
    }

    #[test]
    fn what_was_never_listed_has_the_time_of_a_start() {
        let mut node = Node::new(&["a"]);
        let begun = node.now;
        while node.look(&[list("c", &["other"])]).is_empty() {}
        let took = node.now - begun;
        assert!(
            took >= START && took < START + Duration::from_secs(60),
            "{took:?}"
        );
    }

    #[test]
    fn a_runtime_that_is_silent_or_doubtful_kills_nobody() {
        let mut node = Node::new(&["a", "b"]);
        assert_eq!(node.look(&[list("c", &["a"])]), NONE);
        for _ in 0..100 {
            assert_eq!(node.look(&[None]), NONE);
            assert_eq!(node.look(&[doubtful("c", &[])]), NONE);
            assert_eq!(node.look(&[]), NONE);
        }
        // Two runtimes: what one of them lists is alive, and while one is silent, what none has listed may be its.
        let mut node = Node::new(&["a", "b", "c"]);
        for _ in 0..100 {
            assert_eq!(
                node.look(&[list("one", &["a"]), doubtful("two", &["b", "c"])]),
                NONE
            );
            assert_eq!(node.look(&[list("one", &["a"]), None]), NONE);
        }
        assert_eq!(node.look(&[list("one", &[]), None]), NONE);
        assert_eq!(
            node.look(&[list("one", &[]), None]),
            ["a"],
            "its own runtime has answered"
        );
    }
}
