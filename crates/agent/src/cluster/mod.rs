//! The cluster's side: which API server to ask ([`servers`], [`connection`]), what it says ([`nodes`], [`ranges`]), and
//! what it is told ([`condition`], [`events`]).
//!
//! The server's address is, in this order: `--api-server`; the `server:` of the host's kubelet.conf, which works before
//! there is any service network; the in-cluster environment. The credentials are the pod's service account.

pub mod condition;
pub mod connection;
pub mod events;
pub mod nodes;
pub mod objects;
pub mod ranges;
pub mod servers;

use ipnet::IpNet;

use crate::model::NodeFacts;

/// What changes the index. One channel carries all of them to its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node is as it is now.
    NodeApplied(NodeFacts),
    /// A node is gone.
    NodeDeleted(String),
    /// These nodes, and no others.
    NodesReset(Vec<NodeFacts>),
    /// What the cluster's configuration says of pod ranges.
    ClusterRanges(Vec<IpNet>),
    /// The same of services' addresses.
    ServiceRanges(Vec<IpNet>),
    /// Links, addresses or routes of the host are not what they were.
    Host,
}
