//! The server's side of SPDY/3.1, which `kubectl` before 1.30 speaks for exec, attach and port-forward.

pub mod frame;
pub mod headers;
mod session;

pub use session::{Event, Handle, Session};
