//! A control plane made by real kubeadm, and hosts to join to it: what `malha join` has to live up to.
//!
//! Each [`Host`] is PID 1 of its own pid, mount, network, uts, ipc and cgroup namespaces over an overlay of this
//! machine's root: nothing has a name outside, and ending that process ends all that runs there. [`ControlPlane`] runs
//! etcd, kube-apiserver and kube-controller-manager as kubeadm's manifests say. There is no scheduler: nodes register
//! without.
//!
//! The programs (kubeadm, kubelet, kube-apiserver, kube-controller-manager) are looked for in `MALHA_KUBERNETES_BIN`,
//! else in `~/.cache/realk8s/bin`; etcd, containerd and kubectl in `PATH`.

mod control_plane;
pub mod faults;
mod host;
mod janitor;
mod network;
mod tree;

use std::{env, path::PathBuf};

use anyhow::{Result, bail};

pub use control_plane::{ControlPlane, TOKEN};
pub use host::{Host, Joiner};
pub use network::{NETWORK, Switch};
pub use tree::{Entry, Tree};

/// Where the programs of Kubernetes are.
///
/// # Errors
/// When they are not there; says how to get them.
pub fn binaries() -> Result<PathBuf> {
    let given = env::var_os("MALHA_KUBERNETES_BIN").map(PathBuf::from);
    let usual = || Some(PathBuf::from(env::var_os("HOME")?).join(".cache/realk8s/bin"));
    let directory = given.or_else(usual).unwrap_or_default();
    for program in [
        "kubeadm",
        "kubelet",
        "kube-apiserver",
        "kube-controller-manager",
    ] {
        if !directory.join(program).is_file() {
            bail!(
                "{} has no {program}: build Kubernetes 1.20 from Debian's source package, or name a directory with its \
                 programs in MALHA_KUBERNETES_BIN",
                directory.display()
            );
        }
    }
    Ok(directory)
}
