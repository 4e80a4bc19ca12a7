//! What runtimes and plugins tell each other.
//!
//! One model of each thing serves every version of the specification; versions differ only where JSON is read or
//! written. Unknown keys are accepted everywhere: runtimes and operators add their own.

mod args;
mod capabilities;
mod conf;
mod error;
mod json;
mod list;
mod names;
mod success;
mod version;

pub use args::{Args, MalformedArgs, PodRef};
pub use capabilities::{Bandwidth, CapabilityArgs, PortMapping, Protocol};
pub use conf::{AttachmentId, PluginConf};
pub use error::{CniError, code};
pub use list::{ListError, NetworkList, PluginEntry};
pub use names::{check_container_id, check_ifname, check_network_name};
pub use success::{Dns, Interface, IpConfig, Route, Success};
pub use version::{SUPPORTED, UnknownVersion, Version, negotiate};
