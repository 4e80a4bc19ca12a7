//! What pods ask of a node and what a node has left.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec};

use super::quantity::{Amounts, add, amounts, raise};
use crate::{matching::Labels, pods};

/// For scoring, a container that asks for nothing counts as this much: 100 thousandths of a CPU, 200 MB.
const USUAL_CPU: i128 = 100;
const USUAL_MEMORY: i128 = 200 * 1024 * 1024 * 1000;

/// A port that a pod takes on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPort {
    address: String,
    protocol: String,
    port: i32,
}

/// A node and what runs on it.
pub(super) struct Usage {
    pub node: Arc<Node>,
    pub pods: Vec<Arc<Pod>>,
    pub allocatable: Amounts,
    pub used: Amounts,
    /// CPU and memory with [`USUAL_CPU`] and [`USUAL_MEMORY`] for those that ask for nothing.
    pub weight: (i128, i128),
    pub ports: Vec<HostPort>,
}

/// What one pod asks for.
pub(super) struct Demand {
    pub amounts: Amounts,
    pub weight: (i128, i128),
    pub ports: Vec<HostPort>,
}

impl Usage {
    pub fn new(node: Arc<Node>) -> Self {
        let status = node.status.as_ref();
        let has =
            status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        Self {
            allocatable: amounts(has),
            node,
            pods: Vec::new(),
            used: Amounts::new(),
            weight: (0, 0),
            ports: Vec::new(),
        }
    }

    pub fn name(&self) -> &str {
        pods::name(&self.node.metadata)
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        let labels: Option<&Labels> = self.node.metadata.labels.as_ref();
        labels?.get(key).map(String::as_str)
    }

    pub fn add(&mut self, pod: Arc<Pod>) {
        let demand = demand(&pod);
        add(&mut self.used, &demand.amounts);
        self.weight.0 += demand.weight.0;
        self.weight.1 += demand.weight.1;
        self.ports.extend(demand.ports);
        self.pods.push(pod);
    }

    /// The resources that `demand` does not find here.
    pub fn lacks(&self, demand: &Demand) -> Vec<String> {
        let allocatable = |name: &str| self.allocatable.get(name).copied().unwrap_or(0);
        let mut lacking = Vec::new();
        let places = allocatable("pods");
        if self.allocatable.contains_key("pods") && (self.pods.len() as i128 + 1) * 1000 > places {
            lacking.push("Too many pods".to_owned());
        }
        for (name, amount) in &demand.amounts {
            let used = self.used.get(name).copied().unwrap_or(0);
            if *amount > 0 && used + amount > allocatable(name) {
                lacking.push(format!("Insufficient {name}"));
            }
        }
        lacking
    }

    pub fn ports_are_free(&self, wanted: &[HostPort]) -> bool {
        !wanted
            .iter()
            .any(|port| self.ports.iter().any(|taken| taken.clashes(port)))
    }
}

impl HostPort {
    fn clashes(&self, other: &Self) -> bool {
        let any = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
        let same = self.address == other.address || any(&self.address) || any(&other.address);
        same && self.port == other.port && self.protocol == other.protocol
    }
}

/// What a pod asks for: its containers together, or its largest init container, whichever is more.
pub(super) fn demand(pod: &Pod) -> Demand {
    let Some(spec) = pods::spec(pod) else {
        return Demand {
            amounts: Amounts::new(),
            weight: (0, 0),
            ports: Vec::new(),
        };
    };
    let mut amounts = requests(spec);
    add(
        &mut amounts,
        &super::quantity::amounts(spec.overhead.as_ref()),
    );
    let usual = |name: &str, usual: i128| {
        let containers = spec.containers.iter().map(|container| {
            let asked = request(container).get(name).copied().unwrap_or(0);
            if asked == 0 { usual } else { asked }
        });
        containers.sum()
    };
    Demand {
        weight: (usual("cpu", USUAL_CPU), usual("memory", USUAL_MEMORY)),
        ports: ports(spec),
        amounts,
    }
}

fn requests(spec: &PodSpec) -> Amounts {
    // Init containers that keep running (sidecars) add to everything that starts after them.
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let mut now = request(container);
        add(&mut now, &sidecars);
        raise(&mut peak, &now);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &request(container));
        }
    }
    let mut sum = sidecars;
    for container in &spec.containers {
        add(&mut sum, &request(container));
    }
    raise(&mut sum, &peak);
    sum
}

/// A limit without a request is a request.
fn request(container: &Container) -> Amounts {
    let resources = container.resources.as_ref();
    let mut request = amounts(resources.and_then(|r| r.limits.as_ref()));
    request.extend(amounts(resources.and_then(|r| r.requests.as_ref())));
    request
}

fn ports(spec: &PodSpec) -> Vec<HostPort> {
    let host_network = spec.host_network == Some(true);
    let ports = spec
        .containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let own = host_network.then_some(port.container_port);
            Some(HostPort {
                address: port.host_ip.clone().unwrap_or_default(),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                port: port.host_port.filter(|p| *p != 0).or(own)?,
            })
        })
        .collect()
}
