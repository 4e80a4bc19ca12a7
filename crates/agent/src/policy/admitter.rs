//! Between the threads of ADD and the keeper's.

use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Duration;

use malha_endpoint::{Admission, Endpoint, Error};

use super::Message;
use crate::cluster::Change;
use crate::cluster::objects::Heard;
use crate::model::NodeFacts;

/// How long an ADD waits for the keeper's answer, which itself gives up before.
const LIMIT: Duration = Duration::from_secs(10);

/// Where an ADD waits: done, or why not.
pub(crate) type Reply = SyncSender<Result<(), String>>;

/// What the keeper reads from.
pub struct Inbox(pub(super) Receiver<Message>);

/// Tells the keeper.
#[derive(Clone, Debug)]
pub struct Admitter(pub(super) Sender<Message>);

/// Both ends.
#[must_use]
pub fn channel() -> (Admitter, Inbox) {
    let (sender, receiver) = mpsc::channel();
    (Admitter(sender), Inbox(receiver))
}

impl Admitter {
    /// What is watched for others as well.
    pub fn note(&self, change: &Change) {
        let message = match change {
            Change::NodeApplied(node) => Message::Nodes(Heard::Applied(node.clone())),
            Change::NodesReset(nodes) => Message::Nodes(Heard::All(nodes.clone())),
            Change::NodeDeleted(name) => Message::Nodes(Heard::Deleted(NodeFacts {
                name: name.clone(),
                ..NodeFacts::default()
            })),
            Change::ServiceRanges(ranges) => Message::Services(ranges.clone()),
            Change::ClusterRanges(ranges) => Message::PodRanges(ranges.clone()),
            Change::Host => return,
        };
        self.tell(message);
    }

    /// End the keeper. What is in force stays in force.
    pub fn stop(&self) {
        self.tell(Message::Stop);
    }

    /// Whether somebody listens.
    pub(super) fn tell(&self, message: Message) -> bool {
        self.0.send(message).is_ok()
    }
}

impl Admission for Admitter {
    fn admit(&self, endpoint: &Endpoint) -> Result<(), Error> {
        // Only Kubernetes' pods have policies.
        if endpoint.pod.is_none() {
            return Ok(());
        }
        let (reply, answer) = mpsc::sync_channel(1);
        let ended = || Error::NotAdmitted("the agent is ending".to_owned());
        if !self.tell(Message::Admit(endpoint.clone(), reply)) {
            return Err(ended());
        }
        let answer = answer.recv_timeout(LIMIT).map_err(|_| ended())?;
        answer.map_err(Error::NotAdmitted)
    }

    fn release(&self, endpoint: &Endpoint) {
        self.tell(Message::Release(endpoint.id));
    }
}
