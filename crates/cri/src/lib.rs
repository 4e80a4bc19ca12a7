//! A small client of the Container Runtime Interface: what Kubernetes' node agents ask containerd and CRI-O.
//!
//! Malha asks which sandboxes there are, to give back what sandboxes held whose DEL never came, and before a machine
//! joins whether its kubelet and its runtime agree about control groups; its tests and
//! measurements also start and stop them. That is eight calls of some forty, with few fields each. So the messages are
//! written by hand ([`message`]), over gRPC as HTTP/2 frames it ([`Client`]): no generated code, no compiler of it.
//!
//! Both versions of the interface are spoken, `v1` and, for containerd before 1.6, `v1alpha2`: the same messages under
//! another name.
mod client;
mod error;
mod grpc;
pub mod message;
mod wire;

pub use client::Client;
pub use error::{Error, Result};
pub use message::{CgroupDriver, PortMapping, Runtime, Sandbox, SandboxConfig, SandboxStatus};
