//! A lab to measure in: brought up by the program under test itself.

use std::{
    fs,
    net::IpAddr,
    path::{Path as FilePath, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use malha_kernel::{Handle, NetNs};
use malha_lab::{State, cluster::Cluster, pods, state};

use crate::traffic::Path;

/// A lab, until it is dropped.
pub struct Lab {
    state: State,
    /// Addresses of the test pods: one on each node, and a second on the first.
    pods: Vec<IpAddr>,
}

/// The program under test, beside this one.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(
        path.exists(),
        "{} is missing; build it with: make build",
        path.display()
    );
    Ok(path)
}

impl Lab {
    /// Brings one up, with a test pod on every node and one more on the first.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn up(nodes: u8, routing: &str) -> Result<Self> {
        // Refuses where there is one: it may be somebody's.
        malha(&[
            "lab",
            "up",
            "--nodes",
            &nodes.to_string(),
            "--routing",
            routing,
            // Room for 500 pods.
            "--node-cidr-mask-size-ipv4",
            "22",
        ])?;
        let mut lab = Self {
            state: State::load()?,
            pods: Vec::new(),
        };
        lab.pods = tokio::runtime::Runtime::new()?.block_on(test_pods(&lab.state))?;
        Ok(lab)
    }

    /// From the first node to the second.
    ///
    /// # Errors
    /// When a node has ended.
    pub fn between_nodes(&self) -> Result<Path> {
        let [one, two, ..] = self.state.plan.nodes.as_slice() else {
            bail!("a lab of two nodes is needed");
        };
        Ok(Path {
            name: "node to node".to_owned(),
            client: self.node(&one.name)?,
            server: self.node(&two.name)?,
            address: two.addresses[0],
        })
    }

    /// From the first node's test pod to the second's.
    ///
    /// # Errors
    /// When a pod is not found.
    pub fn between_pods(&self) -> Result<Path> {
        path("pods on different nodes", self.pods[0], self.pods[1])
    }

    /// Between the first node's two test pods.
    ///
    /// # Errors
    /// When a pod is not found.
    pub fn same_node_pods(&self) -> Result<Path> {
        path("pods on one node", self.pods[0], self.pods[2])
    }

    /// Runs this program inside a node, which has the node's files, and returns what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn run_inside(&self, node: &str, arguments: &[&str]) -> Result<String> {
        let target = "usr/local/bin/malha-bench";
        let root = format!("/proc/{}/root", self.state.holder(node)?.pid);
        fs::copy(std::env::current_exe()?, FilePath::new(&root).join(target))
            .context("cannot copy this program into the node")?;
        let inside = format!("/{target}");
        let command: Vec<&str> = ["lab", "exec", node, "--", &inside]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        malha(&command)
    }

    fn node(&self, name: &str) -> Result<Arc<NetNs>> {
        let process = self.state.holder(name)?;
        Ok(Arc::new(NetNs::open(FilePath::new(&format!(
            "/proc/{}/ns/net",
            process.pid
        )))?))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = malha(&["lab", "down"]) {
            eprintln!("the lab does not end: {error:#}");
        }
    }
}

/// Runs the program under test; its standard error is this one's.
pub fn malha(arguments: &[&str]) -> Result<String> {
    let output = Command::new(program("malha")?)
        .args(arguments)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run malha")?;
    ensure!(
        output.status.success(),
        "malha {} failed",
        arguments.join(" ")
    );
    Ok(String::from_utf8(output.stdout)?)
}

async fn test_pods(state: &State) -> Result<Vec<IpAddr>> {
    let cluster = Cluster::open(&state::kubeconfig()).await?;
    let first = &state.plan.nodes[0].name;
    cluster
        .apply(&pods::probe("probe-second", first).to_string())
        .await?;
    let wanted = state.plan.nodes.len() + 1;
    let ready = cluster
        .pods_ready(pods::LABEL, wanted, std::time::Duration::from_secs(60))
        .await?;
    let address = |name: &str| {
        let pod = ready
            .iter()
            .find(|pod| pod.metadata.name.as_deref() == Some(name));
        let ip = pod.and_then(|pod| pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok());
        ip.with_context(|| format!("{name} has no address"))
    };
    let mut addresses = Vec::new();
    for node in &state.plan.nodes {
        addresses.push(address(&format!("probe-{}", node.name))?);
    }
    addresses.push(address("probe-second")?);
    Ok(addresses)
}

fn path(name: &str, client: IpAddr, server: IpAddr) -> Result<Path> {
    Ok(Path {
        name: name.to_owned(),
        client: Arc::new(pod_network(client)?),
        server: Arc::new(pod_network(server)?),
        address: server,
    })
}

/// The network namespace that has an address: some process of the pod lives in it.
fn pod_network(address: IpAddr) -> Result<NetNs> {
    let mut seen = Vec::new();
    for entry in fs::read_dir("/proc")?.filter_map(Result::ok) {
        // Processes end while one looks.
        let Ok(namespace) = NetNs::open(&entry.path().join("ns/net")) else {
            continue;
        };
        if seen.contains(&namespace.id()) {
            continue;
        }
        seen.push(namespace.id());
        let addresses = Handle::inside(&namespace).and_then(|handle| handle.addresses())?;
        if addresses.iter().any(|entry| {
            entry.address.addr() == address
                && entry.address.prefix_len() == entry.address.max_prefix_len()
        }) {
            return Ok(namespace);
        }
    }
    bail!("no network namespace has the address {address}")
}
