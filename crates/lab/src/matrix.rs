//! Every test pod knocks at every other, and at itself: ICMP, TCP and UDP, in each family that both have.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use nix::sched::{CloneFlags, setns};

use crate::{
    enter::network,
    fetch,
    pods::{ECHO_PORT, HTTP_PORT},
    serve::Outcome,
    state::State,
    table::align,
};

const PROTOCOLS: [&str; 3] = ["icmp", "tcp", "udp"];
/// Attempts for each figure.
const COUNT: u32 = 5;

/// Who is asked, and whom it reaches.
struct Place {
    name: String,
    node: String,
    addresses: Vec<IpAddr>,
}

/// The whole matrix.
pub struct Matrix {
    rows: Vec<Row>,
}

struct Row {
    from: String,
    to: String,
    /// By family, then protocol; none where a pod has no address of the family.
    outcomes: Vec<Option<Outcome>>,
}

impl Matrix {
    /// Measures one pair after the other, so that they do not disturb each other.
    pub fn measure(state: &State, pods: &[Pod]) -> Result<Self> {
        let places: Vec<Place> = pods.iter().filter_map(place).collect();
        let mut rows = Vec::new();
        for from in &places {
            let namespace = network(state.holder(&from.node)?)?;
            for to in &places {
                let outcomes = in_network(&namespace, || outcomes(from, to))?;
                rows.push(Row {
                    from: from.name.clone(),
                    to: to.name.clone(),
                    outcomes,
                });
            }
        }
        Ok(Self { rows })
    }

    /// Pairs times protocols times families, those that worked and all.
    pub fn score(&self) -> (usize, usize) {
        let all = self
            .rows
            .iter()
            .flat_map(|row| row.outcomes.iter().flatten());
        let good = all.clone().filter(|outcome| outcome.ok == outcome.of);
        (good.count(), all.count())
    }

    /// A line for each pair; medians in milliseconds.
    pub fn render(&self) -> String {
        let families = ["IPv4", "IPv6"];
        let heads = families
            .iter()
            .flat_map(|f| PROTOCOLS.iter().map(move |p| format!("{p} {f}")));
        let head = ["from", "to"].into_iter().map(str::to_owned).chain(heads);
        let row = |row: &Row| {
            let cells = row.outcomes.iter().map(cell);
            [row.from.clone(), row.to.clone()]
                .into_iter()
                .chain(cells)
                .collect()
        };
        align(
            std::iter::once(head.collect())
                .chain(self.rows.iter().map(row))
                .collect(),
        )
    }
}

fn cell(outcome: &Option<Outcome>) -> String {
    match outcome {
        None => "-".to_owned(),
        Some(o) if o.ok == o.of => format!("{:.2} ms", o.median_us as f64 / 1000.0),
        Some(o) => format!("{}/{} {}", o.ok, o.of, o.error),
    }
}

fn place(pod: &Pod) -> Option<Place> {
    let status = pod.status.as_ref()?;
    let ips = status.pod_ips.as_deref().unwrap_or_default();
    Some(Place {
        name: pod.metadata.name.clone()?,
        node: pod.spec.as_ref()?.node_name.clone()?,
        addresses: ips.iter().filter_map(|ip| ip.ip.parse().ok()).collect(),
    })
}

/// Runs on a thread of its own inside a network namespace.
fn in_network<T: Send>(
    namespace: &(impl AsFd + Sync),
    act: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    std::thread::scope(|scope| {
        let inside = || {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter a node's network")?;
            act()
        };
        scope
            .spawn(inside)
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn outcomes(from: &Place, to: &Place) -> Result<Vec<Option<Outcome>>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let mut all = Vec::new();
    for four in [true, false] {
        let server = from.addresses.first().copied();
        let target = to.addresses.iter().copied().find(|a| a.is_ipv4() == four);
        for protocol in PROTOCOLS {
            all.push(match server.zip(target) {
                Some((server, target)) => Some(runtime.block_on(ask(server, protocol, target))?),
                None => None,
            });
        }
    }
    Ok(all)
}

/// Has the test server at `server` knock at `target`.
async fn ask(server: IpAddr, protocol: &str, target: IpAddr) -> Result<Outcome> {
    let path = format!("/dial?protocol={protocol}&host={target}&port={ECHO_PORT}&count={COUNT}");
    let body = fetch::get(SocketAddr::new(server, HTTP_PORT), &path)
        .await
        .context("cannot ask a test pod from its node")?;
    serde_json::from_slice(&body).with_context(|| {
        format!(
            "the test server answered {:?}",
            String::from_utf8_lossy(&body)
        )
    })
}
