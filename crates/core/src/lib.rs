//! Names, addresses, ranges and configuration that every part of Malha shares. Pure: no I/O, no clock.

pub mod paths;
pub mod range;

/// The version of Kubernetes that the control plane and the node agent report.
pub const KUBERNETES_VERSION: &str = "v1.31.4+malha";
