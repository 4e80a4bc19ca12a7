//! Privileged edges of Linux that are not eBPF: netlink, network namespaces, nftables, sysctl.
//!
//! Everything blocks and nothing here needs an asynchronous runtime. A [`Handle`] is one netlink socket; a socket stays
//! in the network namespace it was made in, so a handle acts there whichever thread uses it. Changes are collected in a
//! [`Batch`] and sent as one message: the kernel works them off in order, in one system call, which is what makes a pod's
//! network cheap to build. Files under /proc/sys, by contrast, belong to the namespace of the thread that opens them:
//! use [`NetNs::run`].
//!
//! nftables goes through `nlink`, which is asynchronous; its runtime is contained in [`masquerade`] and [`ports`].
mod address;
mod batch;
mod bridge;
mod error;
mod handle;
mod link;
pub mod machine;
pub mod masquerade;
pub mod monitor;
mod neighbour;
mod netns;
pub mod ports;
mod route;
mod rule;
mod socket;
pub mod sysctl;

pub use address::Address;
pub use batch::Batch;
pub use error::{Error, Result};
pub use handle::Handle;
pub use link::{Link, Mac, Veth, Vxlan, mac_text, parse_mac};
pub use neighbour::Neighbour;
pub use netns::{NetNs, NetNsId};
pub use route::{MAIN_TABLE, PROTOCOL, Path, Route, RouteKind};
pub use rule::Rule;
