//! Where the files of a control plane or a node lie. kubeadm's places, so that tools and habits keep working.

use std::path::{Path, PathBuf};

use malha_core::paths;

/// All files, below a root: `/` on a machine, a directory of its own in a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self::under("/")
    }
}

impl Paths {
    /// The files below `root`.
    pub fn under(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// An absolute path, below the root.
    pub fn at(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.root
            .join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    /// `/etc/kubernetes`.
    pub fn kubernetes(&self) -> PathBuf {
        self.at(paths::KUBERNETES)
    }

    /// A file in `/etc/kubernetes/pki`, or with an empty name that directory.
    pub fn pki(&self, file: &str) -> PathBuf {
        below(self.kubernetes().join("pki"), file)
    }

    /// The administrator's kubeconfig.
    pub fn admin_conf(&self) -> PathBuf {
        self.at(paths::ADMIN_CONF)
    }

    /// The node's kubeconfig.
    pub fn kubelet_conf(&self) -> PathBuf {
        self.at(paths::KUBELET_CONF)
    }

    /// The kubeconfig with which a kubelet asks for its certificate. Malha asks itself and never writes it.
    pub fn bootstrap_kubelet_conf(&self) -> PathBuf {
        self.kubernetes().join("bootstrap-kubelet.conf")
    }

    /// A file in `/var/lib/kubelet`, or with an empty name that directory.
    pub fn kubelet(&self, file: &str) -> PathBuf {
        below(self.at("/var/lib/kubelet"), file)
    }

    /// The control plane's directory.
    pub fn control_plane(&self) -> PathBuf {
        self.at(paths::CONTROL_PLANE)
    }

    /// The control plane's configuration.
    pub fn control_plane_config(&self) -> PathBuf {
        self.control_plane().join("config.json")
    }

    /// The control plane's database directory.
    pub fn database(&self) -> PathBuf {
        self.control_plane().join("data")
    }

    /// Pid files of background processes.
    pub fn run(&self) -> PathBuf {
        self.at(paths::RUN)
    }

    /// Logs of background processes.
    pub fn logs(&self) -> PathBuf {
        self.at("/var/log/malha")
    }

    /// systemd's directory of units that an administrator adds.
    pub fn systemd_units(&self) -> PathBuf {
        self.at("/etc/systemd/system")
    }

    /// An administrator's additions to the kubelet's unit.
    pub fn kubelet_drop_ins(&self) -> PathBuf {
        self.systemd_units().join("kubelet.service.d")
    }

    /// Whether systemd manages this machine (`sd_booted(3)`).
    pub fn has_systemd(&self) -> bool {
        self.at("/run/systemd/system").is_dir()
    }
}

fn below(directory: PathBuf, file: &str) -> PathBuf {
    match file {
        "" => directory,
        file => directory.join(file),
    }
}
