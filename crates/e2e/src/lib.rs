//! Drives a Kubernetes that nobody here wrote, for the tests in `tests/tier4_*.rs`.
//!
//! The cluster is given by a [`Description`]: how to call kubectl, and how to run a command on each of its hosts.
//! `make e2e-kubernetes` writes one for a cluster on this machine, and says what to write for another.
//!
//! Tests change one cluster, so they run one at a time, and each brings about what it needs: [`Cluster::with_network`],
//! [`Cluster::probes`].
mod cluster;
mod command;
mod containerd;
mod description;
mod podman;
mod probe;
mod stream;
mod traces;

pub use cluster::Cluster;
pub use command::{PATIENCE, run, succeeds, text, until, within};
pub use containerd::Containerd;
pub use description::{Description, Engines, Host, KubeProxy, Outside};
pub use podman::Podman;
pub use probe::{ECHO, HTTP, Probe, hostport_pod, socket};
pub use stream::Stream;
pub use traces::{must_become, traces};
