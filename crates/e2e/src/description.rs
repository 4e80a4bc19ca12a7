//! What tests have to know of a cluster.

use std::path::PathBuf;

use serde::Deserialize;

/// The environment variable that names the file.
pub const VARIABLE: &str = "MALHA_E2E";

/// A cluster and its hosts, as JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// How to call kubectl as an administrator: the program and its first arguments.
    pub kubectl: Vec<String>,
    /// The image that is on every host (`make image`).
    pub image: String,
    /// Another image of Malha on every host, to upgrade to.
    pub next_image: String,
    /// Path of the program `malha` on every host and on the machine outside.
    pub malha: String,
    /// URL of the API server, as nodes reach it.
    pub api_server: String,
    /// Every node of the cluster.
    pub hosts: Vec<Host>,
    /// A machine that nodes reach and that is none.
    pub outside: Outside,
    /// How to run kube-proxy on every host; absent: the cluster always has it.
    pub kube_proxy: Option<KubeProxy>,
    /// Container engines to run beside the hosts' own; absent: their tests fail and say so.
    pub engines: Option<Engines>,
}

/// Programs of container engines, unpacked aside. Their host has to share this machine's file system.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engines {
    /// The node on whose host they run.
    pub host: String,
    /// Directories with containerd, its shim and ctr, by version.
    pub containerd: std::collections::BTreeMap<String, String>,
    /// Archive of the image of sandboxes.
    pub pause_archive: String,
    /// Its name.
    pub pause_image: String,
    /// Archive of the image of Malha.
    pub archive: String,
    /// Control group that they may make theirs in.
    pub cgroup: String,
    /// Directory with `podman` and `conmon`.
    pub podman: String,
    /// Where podman finds its libraries.
    pub podman_libraries: String,
}

/// A node's host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The Node object's name.
    pub name: String,
    /// The address at which other hosts reach it.
    pub address: String,
    /// Another, of the other family, where the cluster has two.
    pub second_address: Option<String>,
    /// What to put before a command that is to run there as root: `["ssh", "root@10.0.0.1"]`.
    pub run: Vec<String>,
}

/// A machine outside.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outside {
    /// Its address.
    pub address: String,
    /// Another, of the other family, where the cluster has two.
    pub second_address: Option<String>,
    /// What to put before a command that is to run there.
    pub run: Vec<String>,
}

/// Commands that start kube-proxy everywhere, and end it with all its rules.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubeProxy {
    /// Returns when it has been started.
    pub start: Vec<String>,
    /// Returns when its rules are gone.
    pub stop: Vec<String>,
}

impl Host {
    /// One of each family at most.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.address)
            .chain(&self.second_address)
            .map(String::as_str)
    }
}

impl Outside {
    /// One of each family at most.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.address)
            .chain(&self.second_address)
            .map(String::as_str)
    }
}

impl Description {
    /// The one that `MALHA_E2E` names.
    ///
    /// # Panics
    /// When there is none, or it cannot be understood.
    #[must_use]
    pub fn load() -> Self {
        let path = std::env::var_os(VARIABLE)
            .map(PathBuf::from)
            .unwrap_or_else(|| {
                panic!("{VARIABLE} has to name a cluster's description: run make e2e-kubernetes")
            });
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}
