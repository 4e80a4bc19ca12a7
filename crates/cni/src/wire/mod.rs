//! What the plugin and the node's agent say to each other over a unix socket.
//!
//! One connection carries one request and one reply, each a line of JSON. ADD and CHECK carry the pod's network
//! namespace as an open file descriptor beside the line, so that the agent, which has mounts of its own, never has
//! to find the runtime's path. Results travel in the shape of the newest version; the plugin shapes them for whoever
//! asked.
//!
//! While no agent runs, the plugin leaves DEL requests as files in a directory beside the socket ([`deferred`]); an
//! agent serves those before anything else. So pods end while the agent is away, and nothing they held is lost.

mod client;
pub mod deferred;
mod message;
mod server;

pub use client::{CallError, call};
pub use message::{Answer, PROTOCOL, Request, Verb, WireError, read_request, write_reply};
pub use server::{Server, Stopper};
