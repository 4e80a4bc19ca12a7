//! Network policy: what the cluster says, compiled, in the kernel, before a pod's first packet.
//!
//! ```text
//!  API server ──watch──▶ watch ──▶ Keeper (compiler) ──operations──▶ Tables ──▶ the datapath's maps
//!  endpoint manager ──admit──▶ Admitter ──▶ ┘ answers when the pod's policy is in force
//! ```
//! One thread owns the compiler. Until all that it needs was listed once, it changes nothing of what an agent before it
//! left in the kernel, and new pods wait.

mod admitter;
mod keeper;
mod known;
mod tables;
mod watch;

use ipnet::IpNet;
use malha_endpoint::Endpoint;
use malha_policy::model::{Namespace, Pod, Policy};

use crate::cluster::objects::Heard;
use crate::model::NodeFacts;

pub use admitter::{Admitter, Inbox, channel};
pub use keeper::{Ask, Keeper};
pub use watch::{ask, start};

/// What the keeper is told.
#[derive(Debug)]
pub(crate) enum Message {
    Namespaces(Heard<Namespace>),
    Pods(Heard<Seen>),
    Policies(Heard<Box<Policy>>),
    Nodes(Heard<NodeFacts>),
    /// The ranges that the cluster's configuration gives to pods.
    PodRanges(Vec<IpNet>),
    /// Addresses of services.
    Services(Vec<IpNet>),
    /// An endpoint that is whole, and closed until the answer comes.
    Admit(Endpoint, admitter::Reply),
    /// An endpoint that is closed for ever, by its number.
    Release(u32),
    /// The agent ends.
    Stop,
}

/// A pod, and which of those that had its name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub uid: String,
    /// None: it has ended.
    pub pod: Option<Pod>,
    pub namespace: String,
    pub name: String,
}
