//! The Container Network Interface, versions 0.1.0 to 1.1.0: its types, a plugin and a runtime.
//!
//! * [`types`]: configurations, results, errors, arguments. Pure.
//! * [`plugin`]: what `malha-cni` runs: checks what the runtime gave it and sends one request to the node's agent.
//! * [`wire`]: that request and its reply, and the agent's side of the socket.
//! * [`runtime`]: what a container runtime does with plugins (libcni's part): chains, cache, locks, deadlines.
//! * [`conflist`]: the configuration list and the plugin binary, put where container runtimes look for them.
//! * [`loopback`]: `lo` of a new network namespace.
//!
//! Everything blocks: the plugin has no runtime for asynchronous code, and the agent serves with threads.
//!
//! Source: containernetworking/cni `SPEC.md`, `CONVENTIONS.md`, `libcni`, `pkg/skel`.

pub mod conflist;
mod files;
pub mod loopback;
pub mod plugin;
pub mod runtime;
pub mod types;
pub mod wire;
