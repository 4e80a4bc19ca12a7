//! Memory of an agent that knows many pods: those of its own node, which run, and those of other nodes, which exist in
//! the API only. Their nodes do not exist either, but the agent cannot know that.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use malha_lab::{cluster::Cluster, pods, state};
use serde_json::{Value, json};

use crate::lab::{Lab, malha};

/// How many pods.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// On the agent's node.
    pub local: u32,
    /// On other nodes.
    pub elsewhere: u32,
}

/// As many as a node has by default.
const PODS_ON_A_NODE: u32 = 100;
/// What pods of 5,000 have to do with each other: so many applications.
const APPLICATIONS: u32 = 50;
/// How many objects are made at a time.
const WORKERS: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(180);
/// Memory that has not changed for so long will not.
const CALM: Duration = Duration::from_secs(5);

/// Measures in a fresh lab; a table in Markdown.
///
/// # Errors
/// When the lab fails.
pub fn run(effort: Effort) -> Result<String> {
    let _lab = Lab::up(1, "auto")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let cluster = runtime.block_on(Cluster::open(&state::kubeconfig()))?;
    let mut rows = vec![("2 pods, 1 node".to_owned(), settled()?)];
    runtime.block_on(local(&cluster, effort.local))?;
    rows.push((format!("{} pods, 1 node", effort.local + 2), settled()?));
    let nodes = effort.elsewhere.div_ceil(PODS_ON_A_NODE);
    runtime.block_on(elsewhere(&cluster, nodes, effort.elsewhere))?;
    knows_peers(nodes)?;
    rows.push((
        format!(
            "{} pods there, {} on {nodes} other nodes",
            effort.local + 2,
            effort.elsewhere
        ),
        settled()?,
    ));
    let mut text =
        "### Memory of an agent\n\n| what it knows | resident | more |\n| --- | ---: | ---: |\n"
            .to_owned();
    let first = rows[0].1;
    for (what, resident) in rows {
        text.push_str(&format!(
            "| {what} | {resident:.1} MiB | {:.1} MiB |\n",
            resident - first
        ));
    }
    Ok(text)
}

async fn local(cluster: &Cluster, count: u32) -> Result<()> {
    for number in 0..count {
        let pod = pods::probe(&format!("local-{number}"), "node1");
        cluster.apply(&pod.to_string()).await?;
    }
    // With the lab's own two.
    let wanted = count as usize + 2;
    cluster
        .pods_ready(pods::LABEL, wanted, PATIENCE)
        .await
        .map(drop)
}

async fn elsewhere(cluster: &Cluster, nodes: u32, count: u32) -> Result<()> {
    for number in 0..nodes {
        let name = node_name(number);
        cluster.apply(&node(number).to_string()).await?;
        let status = json!({"status": {"addresses": [
            {"type": "InternalIP", "address": Ipv4Addr::from(0xac14_4000 + number).to_string()},
        ]}});
        let path = format!("/api/v1/nodes/{name}/status");
        cluster.merge(&path, &status).await?;
    }
    let mut workers = Vec::new();
    for worker in 0..WORKERS {
        let cluster = cluster.clone();
        workers.push(tokio::spawn(async move {
            for number in (worker..count).step_by(WORKERS as usize) {
                pod_elsewhere(&cluster, number).await?;
            }
            anyhow::Ok(())
        }));
    }
    for worker in workers {
        worker.await.context("a worker ended")??;
    }
    Ok(())
}

async fn pod_elsewhere(cluster: &Cluster, number: u32) -> Result<()> {
    let name = format!("elsewhere-{number}");
    let node = number / PODS_ON_A_NODE;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default",
            "labels": {"app": format!("app-{}", number % APPLICATIONS), "pod-template-hash": format!("{:08x}", number % APPLICATIONS)},
        },
        "spec": {"nodeName": node_name(node), "containers": [{"name": "c", "image": "malha", "ports": [{"containerPort": 8080}]}]},
    });
    cluster.apply(&pod.to_string()).await?;
    let host = 2 + number % PODS_ON_A_NODE;
    let (four, six) = (
        Ipv4Addr::from(range4(node) + host),
        Ipv6Addr::from(range6(node) + u128::from(host)),
    );
    let status = json!({"status": {
        "phase": "Running", "hostIP": "172.20.64.1", "podIP": four.to_string(),
        "podIPs": [{"ip": four.to_string()}, {"ip": six.to_string()}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }});
    let path = format!("/api/v1/namespaces/default/pods/{name}/status");
    cluster.merge(&path, &status).await
}

fn node_name(number: u32) -> String {
    format!("far-{number}")
}

/// Ranges of their own, which no lab gives its nodes.
fn range4(node: u32) -> u32 {
    u32::from(Ipv4Addr::new(10, 200, 0, 0)) + (node << 8)
}

fn range6(node: u32) -> u128 {
    u128::from(Ipv6Addr::new(0xfd00, 0x200, 0, 0, 0, 0, 0, 0)) + (u128::from(node) << 64)
}

/// Without the label of Linux nodes no DaemonSet's pods come to it.
fn node(number: u32) -> Value {
    let (four, six) = (range4(number), range6(number));
    let ranges = [
        format!("{}/24", Ipv4Addr::from(four)),
        format!("{}/64", Ipv6Addr::from(six)),
    ];
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": node_name(number)},
        "spec": {"podCIDR": ranges[0], "podCIDRs": ranges},
    })
}

fn status() -> Result<Value> {
    let status = malha(&[
        "lab", "exec", "node1", "--", "malha", "status", "-o", "json",
    ])?;
    serde_json::from_str(&status).context("cannot read the agent's status")
}

fn knows_peers(nodes: u32) -> Result<()> {
    let begun = Instant::now();
    loop {
        let known = status()?["peers"].as_array().map_or(0, Vec::len);
        if known >= nodes as usize {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            bail!("the agent knows {known} of {nodes} nodes");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The agent's resident memory in MiB, once it keeps to one figure.
fn settled() -> Result<f64> {
    let (begun, mut since, mut last) = (Instant::now(), Instant::now(), 0.0);
    loop {
        let bytes = status()?["residentBytes"]
            .as_f64()
            .context("the agent does not tell its memory")?;
        let now = bytes / 1024.0 / 1024.0;
        if (now - last).abs() > 0.2 {
            (since, last) = (Instant::now(), now);
        }
        if since.elapsed() > CALM || begun.elapsed() > PATIENCE {
            return Ok(now);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}
