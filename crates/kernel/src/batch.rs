//! Changes that are sent together.
use std::io;

use netlink_packet_route::RouteNetlinkMessage;

use crate::socket::Request;

/// Changes in order, for [`crate::Handle::commit`]. Its methods are beside what they change: links, addresses, routes,
/// neighbours, rules.
#[derive(Debug, Default)]
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch {
    changes: Vec<(Label, Request)>,
}

/// What a change is called in an error, and which answers are no error.
#[derive(Debug)]
pub(crate) struct Label {
    what: &'static str,
    object: String,
    tolerated: &'static [i32],
}

impl Label {
    pub(crate) fn new(what: &'static str, object: String) -> Self {
        Self {
            what,
            object,
            tolerated: &[],
        }
    }

    pub(crate) fn tolerating(self, tolerated: &'static [i32]) -> Self {
        Self { tolerated, ..self }
    }

    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.what, self.object)
    }

    pub(crate) fn tolerates(&self, error: &io::Error) -> bool {
        error
            .raw_os_error()
            .is_some_and(|errno| self.tolerated.contains(&errno))
    }
}

impl Batch {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(crate) fn push(mut self, label: Label, message: RouteNetlinkMessage, flags: u16) -> Self {
        self.changes.push((label, Request { message, flags }));
        self
    }

    pub(crate) fn into_parts(self) -> (Vec<Label>, Vec<Request>) {
        self.changes.into_iter().unzip()
    }
}
