//! The CNI side: the plugin's requests, answered from the endpoint manager. [`convert`] is the only place where one
//! crate's words become the other's.

mod convert;
mod handler;
mod install;

pub use handler::Handler;
pub use install::Installer;
