//! Targets: each brings one part of the desired state about. They know nothing of each other and nothing of time; the
//! [`runner`] calls them, in order, again after failures, and keeps their status.

mod board;
mod datapath;
mod endpoints;
mod masquerade;
mod overlay;
mod routes;
mod runner;
mod sysctl;

use anyhow::Result;

pub use board::{Board, Health, TargetStatus};
pub use datapath::DatapathTarget;
pub use endpoints::EndpointsTarget;
pub use masquerade::MasqueradeTarget;
pub use overlay::OverlayTarget;
pub use routes::RoutesTarget;
pub use runner::{Mailbox, Runner};
pub use sysctl::SysctlTarget;

use crate::model::Desired;

/// One part of the node's state. Both calls are idempotent and may be repeated at any time.
pub trait Target: Send {
    /// One word, for the status.
    fn name(&self) -> &'static str;

    /// Add what is missing, change what differs.
    ///
    /// # Errors
    /// What could not be done, with the remedy. The rest is done.
    fn update(&mut self, desired: &Desired) -> Result<()>;

    /// Remove what is ours and not wanted. Only called after an update that worked.
    ///
    /// # Errors
    /// As for [`Target::update`].
    fn prune(&mut self, desired: &Desired) -> Result<()>;
}

/// The first error, with the number of the others: every item was tried.
pub(crate) fn all<T>(
    items: impl IntoIterator<Item = T>,
    mut act: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let mut errors = items.into_iter().filter_map(|item| act(item).err());
    let Some(first) = errors.next() else {
        return Ok(());
    };
    match errors.count() {
        0 => Err(first),
        more => Err(first.context(format!("{} things failed, the first", more + 1))),
    }
}
