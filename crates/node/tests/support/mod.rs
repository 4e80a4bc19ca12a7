//! A machine for containers: a directory, and a runtime in it. What is left when it is cleared fails the test.

#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use malha_node::{
    launch::spec::{Log, Privileges, Root, Spec, Stdio, User},
    mounts::MountTable,
    runtime::{
        ContainerRecord, Network, Options, PodNetwork, Runtime, SandboxRecord, SandboxRequest,
    },
};

/// The program that starts containers.
pub fn launcher() -> PathBuf {
    env!("CARGO_BIN_EXE_malha-node-launcher").into()
}

/// `sh -c SCRIPT`
pub fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

pub struct Machine {
    directory: tempfile::TempDir,
    node: String,
    pub runtime: Runtime,
}

impl Machine {
    pub fn new() -> Self {
        let root = nix::unistd::geteuid().is_root();
        assert!(root, "this test starts containers: run it as root");
        let directory = tempfile::tempdir().unwrap();
        let node = format!(
            "test-{}-{}",
            std::process::id(),
            directory.path().file_name().unwrap().display()
        );
        let runtime = runtime(directory.path(), &node);
        Self {
            directory,
            node,
            runtime,
        }
    }

    /// A runtime as after the agent's restart.
    pub fn again(&self) -> Runtime {
        runtime(self.directory.path(), &self.node)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn host_request(&self) -> SandboxRequest {
        let pod = PodNetwork {
            namespace: "default".into(),
            name: "pod".into(),
            uid: "uid".into(),
            ..PodNetwork::default()
        };
        SandboxRequest {
            pod,
            host_network: true,
            hostname: "pod".into(),
            ..SandboxRequest::default()
        }
    }

    pub fn host_sandbox(&self) -> SandboxRecord {
        self.runtime.create_sandbox(&self.host_request()).unwrap()
    }

    pub fn container(&self, sandbox: &SandboxRecord, name: &str) -> ContainerRecord {
        let id = malha_node::runtime::new_id();
        self.runtime.new_container(ContainerRecord {
            log_path: self.path("logs").join(&id),
            id,
            sandbox_id: sandbox.id.clone(),
            pod_uid: sandbox.pod_uid.clone(),
            name: name.to_owned(),
            attempt: 0,
            created_at: Timestamp::now(),
            message_path: None,
            cgroup: String::new(),
            bundle: PathBuf::new(),
        })
    }

    pub fn spec(&self, container: &ContainerRecord, args: Vec<String>) -> Spec {
        let inventory = self.runtime.inventory().unwrap();
        let sandbox = inventory
            .sandboxes
            .iter()
            .find(|s| s.id == container.sandbox_id)
            .unwrap();
        Spec {
            args,
            env: vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())],
            cwd: "/".into(),
            root: Root::Host {
                hidden: vec!["/root".into(), "/etc/kubernetes".into()],
            },
            read_only_root: false,
            mounts: Vec::new(),
            namespaces: sandbox.shared_with(false),
            user: User::default(),
            privileges: Privileges {
                capabilities: malha_node::launch::capability::resolve(&[], &[]).unwrap(),
                ..Privileges::default()
            },
            cgroups: Vec::new(),
            shim_cgroups: Vec::new(),
            oom_score_adj: 0,
            stdio: Stdio::default(),
            log: Log {
                path: container.log_path.clone(),
                max_bytes: 1 << 20,
                max_files: 2,
            },
        }
    }

    /// What a container wrote, line by line.
    pub fn output(&self, container: &ContainerRecord) -> Vec<String> {
        let text = fs::read_to_string(&container.log_path).unwrap_or_default();
        let entries = text
            .lines()
            .filter_map(|l| malha_node::logs::parse(l.as_bytes()));
        entries
            .map(|e| String::from_utf8_lossy(e.text).into_owned())
            .collect()
    }

    pub async fn until_output(&self, container: &ContainerRecord, line: &str) {
        let what = format!("the container to write {line:?}");
        until(&what, || self.output(container).iter().any(|l| l == line)).await;
    }

    /// Removes everything and looks whether that is so.
    pub fn clear(self) {
        self.remove_all();
        self.assert_nothing_left();
    }

    fn remove_all(&self) {
        let inventory = self.runtime.inventory().unwrap();
        for container in &inventory.containers {
            self.runtime.remove(container).unwrap();
        }
        for sandbox in &inventory.sandboxes {
            self.runtime.remove_sandbox(sandbox).unwrap();
        }
        let cgroups = self.runtime.cgroups();
        cgroups.remove(cgroups.node()).unwrap();
        cgroups.remove_base();
    }

    fn assert_nothing_left(&self) {
        let mounts = MountTable::read().unwrap();
        let left: Vec<_> = mounts.below(self.directory.path()).collect();
        assert!(left.is_empty(), "mounts are left: {left:?}");
        let cgroups = self.runtime.cgroups();
        let left: Vec<_> = cgroups
            .directories(cgroups.node())
            .into_iter()
            .filter(|d| d.exists())
            .collect();
        assert!(left.is_empty(), "cgroups are left: {left:?}");
        let left = processes_naming(self.directory.path());
        assert!(left.is_empty(), "processes are left: {left:?}");
        for kind in ["sandboxes", "containers"] {
            let left = fs::read_dir(self.path("run").join(kind)).unwrap().count();
            assert_eq!(left, 0, "{kind} are left");
        }
    }
}

/// A test that failed leaves nothing either.
impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.remove_all();
        }
    }
}

/// Processes with a path on their command line, but for this one.
fn processes_naming(path: &Path) -> Vec<String> {
    let text = path.to_string_lossy();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|e| fs::read_to_string(e.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(text.as_ref())).collect()
}

fn runtime(directory: &Path, node: &str) -> Runtime {
    let run_dir = directory.join("run");
    let network = Network::new(
        directory.join("cni"),
        "/usr/lib/cni".into(),
        run_dir.join("network"),
    );
    let options = Options {
        netns_dir: directory.join("netns"),
        run_dir,
        launcher: launcher(),
        node_name: node.to_owned(),
    };
    Runtime::new(options, network).unwrap()
}

/// Waits until something is so.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
