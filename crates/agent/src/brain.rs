//! The one owner of the index and of what is known of the host. It thinks on every change, and publishes what differs.

use std::net::IpAddr;
use std::sync::Arc;

use crate::cluster::Change;
use crate::config::Config;
use crate::model::{Host, Index, Inputs, Thought, desired};

/// See the module.
pub struct Brain<O> {
    config: Arc<Config>,
    index: Index,
    host: Host,
    observe: O,
    /// The addresses whose ways are in `host`; None: nobody has looked at it.
    watched: Option<Vec<IpAddr>>,
    published: Option<Thought>,
}

impl<O: FnMut(&[IpAddr]) -> anyhow::Result<Host>> Brain<O> {
    /// With a way to look at the host.
    pub fn new(config: Arc<Config>, observe: O) -> Self {
        Self {
            config,
            index: Index::default(),
            host: Host::default(),
            observe,
            watched: None,
            published: None,
        }
    }

    /// Take changes in, and think. What to publish, if that is new.
    pub fn absorb(&mut self, changes: impl IntoIterator<Item = Change>) -> Option<Thought> {
        let (mut changed, mut look) = (false, false);
        for change in changes {
            changed |= match change {
                Change::NodeApplied(node) => self.index.apply(node),
                Change::NodeDeleted(name) => self.index.delete(&name),
                Change::NodesReset(nodes) => self.index.reset(nodes),
                Change::ClusterRanges(ranges) => self.index.set_cluster_ranges(ranges),
                // Only policy asks.
                Change::ServiceRanges(_) => false,
                Change::Host => {
                    look = true;
                    false
                }
            };
        }
        let peers = self.index.peer_addresses(&self.config.node_name);
        // Before the first list is complete nothing follows from the host.
        look = self.index.is_complete() && (look || self.watched.as_ref() != Some(&peers));
        let seen = look && self.look(peers);
        (changed || seen || self.published.is_none()).then(|| self.think())?
    }

    /// Whether the host is not what it was.
    fn look(&mut self, peers: Vec<IpAddr>) -> bool {
        match (self.observe)(&peers) {
            Ok(host) => {
                let changed = host != self.host;
                self.host = host;
                self.watched = Some(peers);
                changed
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "cannot look at the host");
                false
            }
        }
    }

    fn think(&mut self) -> Option<Thought> {
        let inputs = Inputs {
            config: &self.config,
            index: &self.index,
            host: &self.host,
        };
        let thought = desired(&inputs).map(Arc::new);
        if self.published.as_ref() == Some(&thought) {
            return None;
        }
        match &thought {
            Ok(desired) => tracing::debug!("new desired state\n{desired}"),
            Err(waiting) => tracing::info!("{waiting}"),
        }
        self.published = Some(thought.clone());
        Some(thought)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NodeFacts, Waiting};

    fn node(name: &str, range: &str) -> NodeFacts {
        NodeFacts {
            name: name.to_owned(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            pod_ranges: vec![range.parse().unwrap()],
            ..NodeFacts::default()
        }
    }

    #[test]
    fn only_what_differs_is_published() {
        let mut looks = 0;
        let mut brain = Brain::new(Arc::new(Config::new("one")), |_: &[IpAddr]| {
            looks += 1;
            Ok(Host::default())
        });
        assert_eq!(brain.absorb([]), Some(Err(Waiting::Cluster)));
        assert_eq!(
            brain.absorb([Change::Host]),
            None,
            "nothing is known of the cluster yet"
        );
        let reset = || Change::NodesReset(vec![node("two", "10.0.0.0/24")]);
        assert_eq!(
            brain.absorb([reset()]),
            Some(Err(Waiting::Node("one".to_owned())))
        );
        assert_eq!(brain.absorb([reset(), Change::Host]), None);
        assert_eq!(
            brain.absorb([Change::NodeDeleted("two".to_owned())]),
            None,
            "the same still waits"
        );
        drop(brain);
        assert_eq!(
            looks, 3,
            "at first, when asked to, and when the peers change"
        );
    }
}
