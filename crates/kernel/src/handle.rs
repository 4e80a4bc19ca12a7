//! One netlink socket in one network namespace.
use std::sync::{Mutex, MutexGuard, PoisonError};

use netlink_packet_route::RouteNetlinkMessage;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::netns::NetNs;
use crate::socket::{Request, Socket};

/// A netlink socket, which acts in the network namespace it was made in. May be shared between threads; each exchange
/// holds it for its length.
#[derive(Debug)]
pub struct Handle {
    socket: Mutex<Socket>,
}

impl Handle {
    /// In the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn new() -> Result<Self> {
        let socket = Socket::open()
            .map_err(|source| Error::netlink("open a netlink socket", source, None))?;
        Ok(Self {
            socket: Mutex::new(socket),
        })
    }

    /// In another one, whichever thread uses it.
    ///
    /// # Errors
    /// [`Error::Privilege`], [`Error::Netlink`].
    pub fn inside(netns: &NetNs) -> Result<Self> {
        netns.run(Self::new)?
    }

    /// Send a batch. The kernel tries every change, in order, also after one that it refused.
    ///
    /// # Errors
    /// The first that it refused: [`Error::Netlink`], [`Error::Privilege`].
    pub fn commit(&self, batch: Batch) -> Result<()> {
        self.exchange(batch).map(drop)
    }

    /// As [`Handle::commit`], for a batch with questions in it: the messages that answer them, in order.
    pub(crate) fn exchange(&self, batch: Batch) -> Result<Vec<RouteNetlinkMessage>> {
        let (labels, requests): (Vec<_>, Vec<_>) = batch.into_parts();
        let sent = self.socket().transact(requests);
        let answers =
            sent.map_err(|source| Error::netlink("exchange netlink messages", source, None))?;
        let mut messages = Vec::new();
        for (label, answer) in labels.iter().zip(answers) {
            let Some(refusal) = answer.error else {
                messages.extend(answer.messages);
                continue;
            };
            if !label.tolerates(&refusal.source) {
                return Err(Error::netlink(label.text(), refusal.source, refusal.detail));
            }
        }
        Ok(messages)
    }

    /// One request and the messages that answer it.
    pub(crate) fn get(
        &self,
        what: &dyn Fn() -> String,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        let request = Request { message, flags: 0 };
        let sent = self.socket().transact(vec![request]);
        let answers = sent.map_err(|source| Error::netlink(what(), source, None))?;
        let answer = answers.into_iter().next().unwrap_or_default();
        match answer.error {
            Some(refusal) => Err(Error::netlink(what(), refusal.source, refusal.detail)),
            None => Ok(answer.messages),
        }
    }

    pub(crate) fn dump(
        &self,
        what: &'static str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        let listed = self.socket().dump(message);
        listed.map_err(|source| Error::netlink(what, source, None))
    }

    fn socket(&self) -> MutexGuard<'_, Socket> {
        // Answers carry sequence numbers, so an exchange that panicked half-way disturbs no later one.
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
