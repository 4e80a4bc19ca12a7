//! How a manager is made.
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::attachment::Endpoint;
use crate::error::Result;

/// Who says what an endpoint may do, before anything of it passes.
pub trait Admission: fmt::Debug + Send + Sync {
    /// It is whole and closed, and is opened when this returns.
    ///
    /// # Errors
    /// [`crate::Error::NotAdmitted`]: its ADD fails, and may be tried again.
    fn admit(&self, endpoint: &Endpoint) -> Result<()>;

    /// It is closed for ever.
    fn release(&self, endpoint: &Endpoint);
}

/// What a manager has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of the records; made if absent. Best on a filesystem that a reboot empties, such as /run.
    pub state: PathBuf,
    /// This boot (`malha_kernel::machine::boot_id`): records of another one are worthless.
    pub boot_id: String,
    /// This node's pod prefixes, at most one of each family; empty until they are known, and then ADD asks to try later.
    pub prefixes: Vec<IpNet>,
    /// MTU of pods' links, in bytes.
    pub mtu: u32,
    /// How long an address rests before another pod gets it, even if no other is left.
    pub quarantine: Duration,
    /// How long deleted attachments' links are gathered before they are deleted together.
    pub gather: Duration,
    /// Asked before an endpoint is opened; None: whatever it sends and gets passes.
    pub admission: Option<Arc<dyn Admission>>,
    /// Called at each step, for tests.
    #[doc(hidden)]
    pub hook: Option<Hook>,
}

impl Config {
    /// With everything else as usual.
    pub fn new(state: impl Into<PathBuf>, boot_id: impl Into<String>) -> Self {
        Self {
            state: state.into(),
            boot_id: boot_id.into(),
            prefixes: Vec::new(),
            mtu: 1500,
            quarantine: Duration::from_secs(30),
            gather: Duration::from_millis(250),
            admission: None,
            hook: None,
        }
    }

    pub(crate) fn at(&self, step: Step) -> Result<()> {
        self.hook.as_ref().map_or(Ok(()), |hook| (hook.0)(step))
    }
}

/// A step that changes something; the hook is called when it is done.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// ADD: the record is written.
    Recorded,
    /// ADD: the link is there, down.
    Linked,
    /// ADD: the datapath knows the endpoint, closed.
    Entered,
    /// ADD: the programs are attached.
    Attached,
    /// ADD: the node's end is up and routed to.
    Routed,
    /// ADD: the pod's end has its addresses and routes.
    PodSet,
    /// ADD: traffic passes.
    Opened,
    /// ADD: the record says so.
    Ready,
    /// DEL: the record says that it is being deleted.
    Deleting,
    /// DEL: nothing passes.
    Closed,
    /// Reaper: the links are gone.
    Unlinked,
    /// Reaper: the record says that the addresses are free.
    Freed,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 12] = [
        Self::Recorded,
        Self::Linked,
        Self::Entered,
        Self::Attached,
        Self::Routed,
        Self::PodSet,
        Self::Opened,
        Self::Ready,
        Self::Deleting,
        Self::Closed,
        Self::Unlinked,
        Self::Freed,
    ];
}

/// What a test does at a step: nothing, fail, or end the process.
#[doc(hidden)]
#[derive(Clone)]
pub struct Hook(pub Arc<dyn Fn(Step) -> Result<()> + Send + Sync>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}
