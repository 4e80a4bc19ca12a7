//! What can go wrong, said so that the reader knows what to do, with CNI's number for it.
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::attachment::Key;

/// An error of an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This node has no pod prefix yet.
    #[error("this node has no pod range yet: the control plane gives it one (Node.spec.podCIDRs)")]
    NoPrefix,
    /// All addresses are taken.
    #[error("no address is free in this node's pod range {prefix}: {}; delete pods, or give nodes larger ranges", full(*.capacity, *.resting, *.rest))]
    Full {
        /// The range.
        prefix: IpNet,
        /// How many pods it takes.
        capacity: u128,
        /// How many of its addresses are in use no more, but have not rested yet.
        resting: usize,
        /// How long they rest.
        rest: Duration,
    },
    /// A prefix that no pod fits into.
    #[error(
        "the pod range {0} is too small: it needs room for the network's address, the node's, and a pod's"
    )]
    TooSmall(IpNet),
    /// Two prefixes of one family.
    #[error(
        "this node has two pod ranges of one family, {0} and {1}: give at most one IPv4 and one IPv6 range"
    )]
    SameFamily(IpNet, IpNet),
    /// Something else has the interface's name in the container.
    #[error("the container {} has an interface {} already, which is not ours", .0.container_id, .0.ifname)]
    InterfaceExists(Key),
    /// Two attachments hash to one link name.
    #[error("link {link} is that of attachment {other} already: delete one of the two pods")]
    LinkTaken {
        /// The name.
        link: String,
        /// The attachment that is there.
        other: Key,
    },
    /// Another attachment has the host port.
    #[error(
        "host port {port} is taken: attachment {other} has {held}; delete one of the two pods, or choose another port"
    )]
    PortTaken {
        /// What was asked for.
        port: String,
        /// What stands in the way.
        held: String,
        /// Whose it is.
        other: Key,
    },
    /// Nobody could say yet what the endpoint may do.
    #[error("the pod's policy is not known yet: {0}")]
    NotAdmitted(String),
    /// A record could not be written, renamed or read.
    #[error(
        "cannot {what} the endpoint record {path}: {source}; the disk may be full or read-only"
    )]
    Record {
        /// What was attempted.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// No thread could be started.
    #[error("cannot start the thread that deletes links: {source}")]
    Thread {
        /// The answer.
        source: io::Error,
    },
    /// There is no such attachment.
    #[error("attachment {0} is not known on this node")]
    Unknown(Key),
    /// CHECK found differences.
    #[error("attachment {key} is not as it was made: {}", .differences.join("; "))]
    Check {
        /// The attachment.
        key: Key,
        /// Each of them.
        differences: Vec<String>,
    },
    /// GC without a single valid attachment, while there are some whose containers live.
    #[error(
        "refusing to remove all {alive} attachments whose containers still have their network namespaces, because the \
         list of valid attachments is empty: the containers may be another runtime's"
    )]
    EmptyList {
        /// How many.
        alive: usize,
    },
    /// Several attachments could not be removed; the others were.
    #[error("not every attachment could be removed: {}", .0.join("; "))]
    Removal(Vec<String>),
    /// Several attachments could not be given another MTU; the others were.
    #[error("not every attachment could be given another MTU: {}", .0.join("; "))]
    Resize(Vec<String>),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] malha_kernel::Error),
    /// The datapath refused.
    #[error(transparent)]
    Datapath(#[from] malha_datapath::Error),
    /// A test's hook.
    #[doc(hidden)]
    #[error("injected fault at step {0}")]
    Injected(String),
}

/// Result of an endpoint.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// CNI's number: 3 unknown container, 4 wrong environment, 5 input/output, 7 invalid configuration, 11 try again
    /// later, 999 anything else.
    #[must_use]
    pub fn cni_code(&self) -> u32 {
        match self {
            Self::NoPrefix
            | Self::Full { .. }
            | Self::PortTaken { .. }
            | Self::NotAdmitted(_)
            | Self::Datapath(malha_datapath::Error::Full { .. }) => 11,
            Self::TooSmall(_) | Self::SameFamily(..) => 7,
            Self::InterfaceExists(_) => 4,
            Self::Unknown(_) => 3,
            Self::Record { .. } => 5,
            _ => 999,
        }
    }
}

fn full(capacity: u128, resting: usize, rest: Duration) -> String {
    match resting {
        0 => format!("all {capacity} are in use"),
        _ => format!(
            "of {capacity}, {} are in use, and {resting} of pods that are gone rest for {} s each",
            capacity - resting as u128,
            rest.as_secs()
        ),
    }
}
