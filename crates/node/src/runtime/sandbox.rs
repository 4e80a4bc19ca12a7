//! What the containers of a pod share.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use super::{
    NetworkError, PodNetwork, Runtime, SandboxRecord,
    record::{self, RECORD},
};
use crate::launch::{
    process,
    spec::{self, Namespaces, PidNamespace, ProcessId},
    sys,
};

/// Which namespaces of the host a pod uses, and the rest that its sandbox needs.
#[derive(Clone, Debug, Default)]
pub struct SandboxRequest {
    /// The pod, and what its network is told.
    pub pod: PodNetwork,
    /// How many sandboxes it had before.
    pub attempt: u32,
    /// The host's network.
    pub host_network: bool,
    /// The host's IPC.
    pub host_ipc: bool,
    /// One pid namespace for all containers.
    pub shared_pid: bool,
    /// The host name.
    pub hostname: String,
    /// Settings of the kernel in the pod's namespaces, by dotted name.
    pub sysctls: BTreeMap<String, String>,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The network.
    #[error("failed to setup network for sandbox {id:?}: {source}")]
    Network {
        /// The sandbox.
        id: String,
        /// Why.
        source: Box<NetworkError>,
    },
    /// Giving the network back.
    #[error("failed to destroy network for sandbox {id:?}: {source}")]
    Detach {
        /// The sandbox.
        id: String,
        /// Why.
        source: Box<NetworkError>,
    },
    /// Namespaces, files.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl SandboxError {
    fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System {
            what: what.into(),
            source,
        }
    }
}

const NAMESPACES: [(&str, CloneFlags); 3] = [
    ("net", CloneFlags::CLONE_NEWNET),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
];
const PID: &str = "pid";

/// What other runtimes set in every pod: ping and low ports do not need a capability in a network of one's own.
const DEFAULT_SYSCTLS: [(&str, &str); 2] = [
    ("net.ipv4.ip_unprivileged_port_start", "0"),
    ("net.ipv4.ping_group_range", "0 2147483647"),
];

impl SandboxRecord {
    /// Where the pod's network namespace is a file; `None` with the host's network.
    pub fn netns(&self) -> Option<PathBuf> {
        self.namespace("net")
    }

    /// What containers are to join.
    pub fn shared_with(&self, host_pid: bool) -> Namespaces {
        let pid = match self.namespace(PID) {
            _ if host_pid => PidNamespace::Host,
            Some(path) => PidNamespace::Shared(path),
            None => PidNamespace::Own,
        };
        Namespaces {
            net: self.namespace("net"),
            ipc: self.namespace("ipc"),
            uts: self.namespace("uts"),
            pid,
        }
    }

    fn namespace(&self, name: &str) -> Option<PathBuf> {
        self.namespaces.get(name).cloned()
    }

    /// Whether it is complete and its namespaces are still kept.
    pub fn is_intact(&self) -> bool {
        /// The magic number of the filesystem of namespaces.
        const NSFS: i128 = 0x6e73_6673;
        let kept =
            |path: &PathBuf| rustix::fs::statfs(path).is_ok_and(|s| i128::from(s.f_type) == NSFS);
        self.ready && self.namespaces.values().all(kept)
    }

    fn write(&self) -> Result<(), SandboxError> {
        spec::write_json(&self.directory.join(RECORD), self)
            .map_err(SandboxError::system("cannot write down the sandbox"))
    }
}

impl Runtime {
    /// Makes a sandbox. When that fails, what was made of it is removed again.
    ///
    /// # Errors
    /// What failed.
    pub fn create_sandbox(&self, request: &SandboxRequest) -> Result<SandboxRecord, SandboxError> {
        let id = super::new_id();
        let directory = record::sandboxes(self.run_dir()).join(&id);
        let network = match request.host_network {
            true => None,
            false => Some(self.network.plan(&id, &request.pod).map_err(|source| {
                SandboxError::Network {
                    id: id.clone(),
                    source: source.into(),
                }
            })?),
        };
        let mut sandbox = SandboxRecord {
            namespaces: self.namespace_files(request, &id, &directory),
            id,
            pod_uid: request.pod.uid.clone(),
            pod_namespace: request.pod.namespace.clone(),
            pod_name: request.pod.name.clone(),
            attempt: request.attempt,
            created_at: Timestamp::now(),
            ready: false,
            directory,
            network,
            pause: None,
        };
        match self.build(&mut sandbox, request) {
            Ok(()) => Ok(sandbox),
            Err(error) => {
                if let Err(cleanup) = self.remove_sandbox(&sandbox) {
                    tracing::warn!(sandbox = %sandbox.id, %cleanup, "an incomplete sandbox is left for later");
                }
                Err(error)
            }
        }
    }

    /// The namespaces that a pod does not share with the host.
    fn namespace_files(
        &self,
        request: &SandboxRequest,
        id: &str,
        directory: &Path,
    ) -> BTreeMap<String, PathBuf> {
        let own = |name: &str| match name {
            "ipc" => !request.host_ipc,
            PID => request.shared_pid,
            _ => !request.host_network,
        };
        let file = |name: &str| match name {
            // As long as containerd's names for them.
            "net" => self
                .options
                .netns_dir
                .join(format!("cni-{}", id.get(..32).unwrap_or(id))),
            _ => directory.join(name),
        };
        let names = NAMESPACES.map(|(name, _)| name).into_iter().chain([PID]);
        names
            .filter(|name| own(name))
            .map(|name| (name.to_owned(), file(name)))
            .collect()
    }

    fn build(
        &self,
        sandbox: &mut SandboxRecord,
        request: &SandboxRequest,
    ) -> Result<(), SandboxError> {
        fs::create_dir_all(&sandbox.directory)
            .map_err(SandboxError::system("cannot make the sandbox's directory"))?;
        sandbox.write()?;
        make_namespaces(sandbox, request)?;
        if request.shared_pid {
            sandbox.pause = Some(self.start_pause()?);
            sandbox.write()?;
            keep_pid_namespace(sandbox)?;
        }
        if let (Some(netns), Some(network)) = (sandbox.netns(), &mut sandbox.network) {
            network.ips = self
                .network
                .attach(&sandbox.id, &netns, network)
                .map_err(|source| SandboxError::Network {
                    id: sandbox.id.clone(),
                    source: source.into(),
                })?;
        }
        sandbox.ready = true;
        sandbox.write()
    }

    fn start_pause(&self) -> Result<ProcessId, SandboxError> {
        let failed =
            || SandboxError::system("cannot start the first process of the pod's pid namespace");
        let output = self.launcher(&["pause"]).output().map_err(failed())?;
        if !output.status.success() {
            return Err(failed()(io::Error::other(
                String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            )));
        }
        serde_json::from_slice(&output.stdout).map_err(|e| failed()(e.into()))
    }

    /// Gives a sandbox's network back and removes it. Its containers have been removed. Twice is fine.
    ///
    /// # Errors
    /// What could not be removed; calling again is in order.
    pub fn remove_sandbox(&self, sandbox: &SandboxRecord) -> Result<(), SandboxError> {
        if let Some(network) = &sandbox.network {
            let netns = sandbox.netns().filter(|path| path.exists());
            self.network
                .detach(&sandbox.id, netns.as_deref(), network)
                .map_err(|source| SandboxError::Detach {
                    id: sandbox.id.clone(),
                    source: source.into(),
                })?;
        }
        self.forget_sandbox(sandbox)
    }

    /// Removes a sandbox without giving its network back: the last resort when its plugin is gone.
    ///
    /// # Errors
    /// What could not be removed; calling again is in order.
    pub fn forget_sandbox(&self, sandbox: &SandboxRecord) -> Result<(), SandboxError> {
        if let Some(pause) = sandbox.pause {
            process::signal(pause, rustix::process::Signal::KILL)
                .map_err(SandboxError::system("cannot end the pod's pid namespace"))?;
        }
        for path in sandbox.namespaces.values() {
            let failed =
                |e: io::Error| SandboxError::system(format!("cannot remove {}", path.display()))(e);
            match umount2(path, MntFlags::MNT_DETACH) {
                // Not mounted, or not there.
                Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
                Err(error) => return Err(failed(error.into())),
            }
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        match fs::remove_dir_all(&sandbox.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SandboxError::system(
                format!("cannot remove {}", sandbox.directory.display()),
            )(error)),
            _ => Ok(()),
        }
    }
}

/// Makes the namespaces in a thread that ends with it, and keeps them by bind mounts.
fn make_namespaces(sandbox: &SandboxRecord, request: &SandboxRequest) -> Result<(), SandboxError> {
    let wanted = NAMESPACES
        .into_iter()
        .filter(|(name, _)| sandbox.namespace(name).is_some());
    let (names, flags): (Vec<&str>, Vec<CloneFlags>) = wanted.unzip();
    let flags = flags
        .into_iter()
        .fold(CloneFlags::empty(), |all, flag| all | flag);
    let work = || -> Result<(), SandboxError> {
        unshare(flags).map_err(|e| SandboxError::system("cannot make namespaces")(e.into()))?;
        if names.contains(&"uts") {
            nix::unistd::sethostname(&request.hostname)
                .map_err(|e| SandboxError::system("cannot set the host name")(e.into()))?;
        }
        if names.contains(&"net") {
            sys::loopback_up().map_err(SandboxError::system("cannot set lo up"))?;
            for (name, value) in DEFAULT_SYSCTLS {
                // Not every kernel has them.
                let _ = fs::write(sysctl_path(name), value);
            }
        }
        for (name, value) in &request.sysctls {
            fs::write(sysctl_path(name), value).map_err(SandboxError::system(format!(
                "cannot set the sysctl {name} to {value:?}"
            )))?;
        }
        names
            .iter()
            .try_for_each(|name| match sandbox.namespaces.get(*name) {
                Some(file) => keep(&Path::new("/proc/thread-self/ns").join(name), file),
                None => Ok(()),
            })
    };
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(_) => Err(SandboxError::system("cannot make namespaces")(
            io::Error::other("the thread panicked"),
        )),
    })
}

fn sysctl_path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

fn keep_pid_namespace(sandbox: &SandboxRecord) -> Result<(), SandboxError> {
    match (sandbox.pause, sandbox.namespaces.get(PID)) {
        (Some(pause), Some(file)) => keep(Path::new(&format!("/proc/{}/ns/pid", pause.pid)), file),
        _ => Ok(()),
    }
}

fn keep(namespace: &Path, at: &Path) -> Result<(), SandboxError> {
    let failed = |e: io::Error| {
        SandboxError::system(format!("cannot keep a namespace at {}", at.display()))(e)
    };
    File::create(at).map_err(failed)?;
    mount(
        Some(namespace),
        at,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(|e| failed(e.into()))
}
