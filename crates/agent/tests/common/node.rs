//! A node, its agent, its pods.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use malha_agent::api::{AgentStatus, DropLine, client};
use malha_cni::runtime::{self, Attachment, Options, Runtime, RuntimeError};
use malha_cni::types::{Args, AttachmentId, Success};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use super::api::FakeApi;
use super::net::{Fabric, Namespace};
use super::process::{Agent, Settings, plugin};
use super::{eventually, eventually_some};

/// A cluster: fabric, API server, nodes.
pub struct World {
    pub fabric: Fabric,
    pub api: FakeApi,
    directory: TempDir,
}

impl World {
    /// With mounts of its own for the whole process: nothing that a test mounts is left.
    pub fn new() -> Self {
        static MOUNTS: OnceLock<()> = OnceLock::new();
        assert!(
            MOUNTS.set(()).is_ok(),
            "one world for a process: run these tests with cargo nextest"
        );
        unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .unwrap();
        let directory = tempfile::Builder::new()
            .prefix("malha-agent")
            .tempdir()
            .unwrap();
        let tmpfs = Some("tmpfs");
        mount(
            tmpfs,
            directory.path(),
            tmpfs,
            MsFlags::empty(),
            Some("mode=0700"),
        )
        .unwrap();
        Self {
            fabric: Fabric::new(),
            api: FakeApi::start(directory.path()),
            directory,
        }
    }

    /// A node in a subnet, known to the API server, without an agent.
    pub fn node(&self, subnet: u8, number: u8) -> Node {
        let name = format!("node{number}");
        let directory = self.directory.path().join(&name);
        std::fs::create_dir_all(directory.join("bpf")).unwrap();
        mount(
            Some("bpf"),
            &directory.join("bpf"),
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        let node = Node {
            namespace: Namespace::new(),
            addresses: vec![
                format!("172.31.{subnet}.{number}"),
                format!("fd00:31:{subnet}::{number:x}"),
            ],
            ranges: vec![
                format!("10.244.{number}.0/24"),
                format!("fd00:244:0:{number:x}::/64"),
            ],
            settings: Settings {
                node: name,
                api: self.api.socket.clone(),
                plugin: plugin(),
                routing: "auto".to_owned(),
                mtu: 0,
                masquerade: true,
                directory,
            },
            api: self.api.clone(),
        };
        self.fabric.connect(&node.namespace, subnet, number);
        node.register();
        node
    }
}

/// The directory is under a mount, which would keep it from being removed.
impl Drop for World {
    fn drop(&mut self) {
        let _ = umount2(self.directory.path(), MntFlags::MNT_DETACH);
    }
}

pub struct Node {
    pub namespace: Namespace,
    pub addresses: Vec<String>,
    pub ranges: Vec<String>,
    pub settings: Settings,
    api: FakeApi,
}

impl Node {
    /// Tell the API server of it.
    pub fn register(&self) {
        self.api
            .set_node(&self.settings.node, &self.addresses, &self.ranges);
    }

    pub fn start(&self) -> Agent {
        Agent::start(&self.namespace, &self.settings)
    }

    /// Start an agent, and wait until the node would be Ready.
    pub fn serve(&self) -> Agent {
        let agent = self.start();
        self.wait_ready();
        agent
    }

    pub fn wait_ready(&self) {
        eventually(&format!("{} serves", self.settings.node), || {
            self.is_ready()
        });
    }

    pub fn is_ready(&self) -> bool {
        self.conflist().exists() && self.status().is_some_and(|status| status.health.serving)
    }

    pub fn conflist(&self) -> PathBuf {
        self.settings.directory.join("net.d/10-malha.conflist")
    }

    pub fn status(&self) -> Option<AgentStatus> {
        let socket = self.settings.paths().api_socket;
        block_on(async { client::status(&socket).await.ok() })
    }

    /// A page of the API.
    pub fn get(&self, path: &str) -> String {
        let socket = self.settings.paths().api_socket;
        let (_, body) = block_on(client::get(&socket, path)).expect("an answer");
        String::from_utf8_lossy(&body).into_owned()
    }

    /// The first drop that the API tells while something is done.
    pub fn first_drop(&self, act: impl FnOnce() + Send + 'static) -> DropLine {
        use http_body_util::BodyExt;
        let socket = self.settings.paths().api_socket;
        block_on(async {
            let mut response = client::send(&socket, "/drops").await.expect("a stream");
            let acting = tokio::task::spawn_blocking(act);
            let frame = response.frame().await.expect("a drop").expect("a drop");
            acting.await.expect("done");
            serde_json::from_slice(frame.data_ref().expect("a line")).expect("JSON")
        })
    }

    /// Wait until the node knows that many others without complaint.
    pub fn wait_peers(&self, count: usize) {
        eventually(
            &format!("{} knows {count} peers", self.settings.node),
            || {
                self.status().is_some_and(|status| {
                    status
                        .peers
                        .iter()
                        .filter(|peer| !peer.ways.is_empty())
                        .count()
                        == count
                        && status.health.serving
                })
            },
        );
    }

    pub fn ips(&self) -> Vec<IpAddr> {
        self.addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect()
    }

    pub fn runtime(&self) -> Runtime {
        Runtime::new(Options {
            bin_dirs: vec![self.settings.directory.join("bin")],
            cache_dir: self.settings.directory.join("cache"),
            limit: Duration::from_secs(30),
        })
    }

    /// Attach a pod as a runtime does it.
    pub fn try_pod(&self, name: &str) -> Result<Pod, RuntimeError> {
        self.api.set_pod(name, &self.settings.node);
        self.try_sandbox(name)
    }

    /// The same without a pod that the API server knows.
    pub fn try_sandbox(&self, name: &str) -> Result<Pod, RuntimeError> {
        let namespace = Namespace::new();
        let list =
            runtime::load(&self.settings.directory.join("net.d")).expect("a configuration list");
        let attachment = attachment(&namespace, name);
        let result = self.runtime().add(&list, &attachment)?;
        Ok(Pod {
            namespace,
            result,
            attachment,
        })
    }

    #[track_caller]
    pub fn pod(&self, name: &str) -> Pod {
        self.try_pod(name).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn del(&self, pod: &Pod) -> Result<(), RuntimeError> {
        let list =
            runtime::load(&self.settings.directory.join("net.d")).expect("a configuration list");
        self.runtime().del(&list, &pod.attachment)
    }

    /// What is there of ours: links, routes, neighbours, and records.
    pub fn inventory(&self) -> String {
        let kernel = self
            .namespace
            .sh("ip -o link | cut -d: -f2 | cut -d@ -f1 | sort
             ip route show table all proto 77 | sed 's/ metric.*//' | sort
             ip -6 route show table all proto 77 | sed 's/ metric.*//' | sort
             ip neigh show nud permanent | sort");
        let records = |directory: &Path| {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            // What rests is given back, and remembered for a while.
            let mut names: Vec<_> = names.filter(|name| !name.ends_with(".freed")).collect();
            names.sort();
            names.join("\n")
        };
        format!("{kernel}{}", records(&self.settings.paths().state))
    }
}

#[derive(Debug)]
pub struct Pod {
    pub namespace: Namespace,
    pub result: Success,
    pub attachment: Attachment,
}

impl Pod {
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.result.ips.iter().map(|ip| ip.address.addr()).collect()
    }

    /// Whether it reaches all of these.
    #[track_caller]
    pub fn reaches(&self, targets: &[IpAddr]) {
        for target in targets {
            assert!(
                self.namespace.pings(*target),
                "{:?} does not reach {target}",
                self.addresses()
            );
        }
    }
}

fn attachment(namespace: &Namespace, name: &str) -> Attachment {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Attachment {
        id: AttachmentId {
            container_id: format!("container-{name}"),
            ifname: "eth0".to_owned(),
        },
        netns: Some(namespace.path().into()),
        args: Args::new([
            pair("IgnoreUnknown", "1"),
            pair("K8S_POD_NAMESPACE", "default"),
            pair("K8S_POD_NAME", name),
            pair("K8S_POD_UID", &format!("uid-{name}")),
        ]),
        capabilities: serde_json::Map::new(),
    }
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// Links and routes may come a moment after the node serves.
pub fn wait_pings(from: &Namespace, to: IpAddr) {
    eventually_some(&format!("an answer from {to}"), || {
        from.pings(to).then_some(())
    });
}
