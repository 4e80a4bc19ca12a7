//! What runs a node: the machine's kubelet, or Malha's node agent.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::time::Instant;

use super::{
    Options, health,
    kubelet::{KUBELET, Kubelet},
    node_config::NodeConfig,
};
use crate::{
    daemon::{Daemon, Invocation},
    endpoint::Endpoint,
    files::Written,
    machine::Machine,
    preflight::Checks,
};

/// The daemon's name.
pub const AGENT: &str = "node";
/// What the node agent gets at least to register the node, however little time is left.
const AGENT_LEAST: Duration = Duration::from_secs(1);
/// How often the API server is asked at least whether a kubelet has registered, whatever the kubelet says of itself.
const ASK: Duration = Duration::from_secs(1);

/// What runs a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    /// The machine's kubelet.
    Kubelet(Box<Kubelet>),
    /// `malha node`.
    Agent {
        /// The node's addresses.
        node_ips: Vec<IpAddr>,
        /// Addresses of the cluster's DNS service.
        dns_servers: Vec<IpAddr>,
        /// Domain of service names.
        dns_domain: String,
    },
}

impl Runner {
    /// A kubelet if the machine has one, else the node agent. What is not clear goes into `checks`.
    pub(super) fn choose(
        options: &Options,
        machine: &Machine,
        node_name: &str,
        checks: &mut Checks,
    ) -> Self {
        if let Some(kubelet) = Kubelet::find(options, machine, node_name, checks) {
            return Runner::Kubelet(Box::new(kubelet));
        }
        if !options.taints.is_empty() || !options.kubelet_extra_args.is_empty() {
            checks.warn(
                "KubeletVersion",
                "this machine has no kubelet, so its taints and flags have no effect; install one to use them",
            );
        }
        Runner::Agent {
            node_ips: options.node_ips.clone(),
            dns_servers: Vec::new(),
            dns_domain: String::new(),
        }
    }

    /// The kubelet.
    pub(super) fn kubelet(&mut self) -> Option<&mut Kubelet> {
        match self {
            Runner::Kubelet(kubelet) => Some(kubelet),
            Runner::Agent { .. } => None,
        }
    }

    /// The node's address, unless the user gave one: the one this machine speaks to the API server from. A kubelet is
    /// told only if it would choose another one, that of the default route.
    pub(super) fn settle(&mut self, server: &Endpoint) -> Result<()> {
        let own = || {
            own_address(server).with_context(|| {
                format!("cannot tell which address this machine reaches {server} from; give it with --node-ip")
            })
        };
        match self {
            Runner::Agent { node_ips, .. } if node_ips.is_empty() => node_ips.push(own()?),
            Runner::Kubelet(kubelet) if kubelet.node_ips.is_empty() => {
                let own = own()?;
                if default_address(own) != Some(own) {
                    kubelet.node_ips.push(own);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes over what the cluster's configuration of kubelets says; a kubelet reads that itself.
    pub(super) fn follow(&mut self, config: &NodeConfig) {
        if let Runner::Agent {
            dns_servers,
            dns_domain,
            ..
        } = self
        {
            *dns_servers = config.cluster_dns.clone().unwrap_or_default();
            *dns_domain = config.cluster_domain.clone().unwrap_or_default();
        }
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Runner::Kubelet(_) => KUBELET,
            Runner::Agent { .. } => "malha node",
        }
    }

    pub(super) fn cri_socket(&self) -> Option<String> {
        match self {
            Runner::Kubelet(kubelet) => Some(kubelet.cri_socket()),
            Runner::Agent { .. } => None,
        }
    }

    /// kubeadm's `KUBELET_KUBEADM_ARGS`.
    pub(super) fn kubelet_arguments(&self, node_name: &str) -> Vec<String> {
        match self {
            Runner::Kubelet(kubelet) => kubelet.arguments(node_name),
            Runner::Agent { node_ips, .. } => vec![format!("--node-ip={}", list(node_ips))],
        }
    }

    /// `malha`'s arguments that run the node agent.
    pub(super) fn agent_arguments(&self, machine: &Machine, node_name: &str) -> Vec<String> {
        let kubeconfig = machine.paths.kubelet_conf().display().to_string();
        let mut arguments = [
            "node",
            "--kubeconfig",
            &kubeconfig,
            "--node-name",
            node_name,
        ]
        .map(str::to_owned)
        .to_vec();
        let Runner::Agent {
            node_ips,
            dns_servers,
            dns_domain,
        } = self
        else {
            return arguments;
        };
        let mut add = |flag: &str, value: String| {
            if !value.is_empty() {
                arguments.extend([flag.to_owned(), value]);
            }
        };
        add("--node-ip", list(node_ips));
        add("--cluster-dns", list(dns_servers));
        add("--cluster-domain", dns_domain.clone());
        arguments
    }

    /// Starts it and waits until `registered`; a kubelet that ends is not waited for. Its unit goes into
    /// `units`, if the machine lacks one.
    pub(super) async fn start(
        &self,
        machine: &Machine,
        start: Start<'_>,
        units: &mut Written,
        mut registered: impl AsyncFnMut() -> Result<(), String>,
    ) -> Result<()> {
        let node_name = start.node_name;
        machine
            .progress
            .step("kubelet-start", format!("Starting {}", self.name()));
        let (mut started, limit) = match self {
            Runner::Agent { .. } => {
                let arguments = self.agent_arguments(machine, node_name);
                let invocation = Invocation::own("Malha node agent", &arguments)?;
                let left = start.until.saturating_duration_since(Instant::now());
                (
                    Daemon::new(AGENT, &machine.paths).start(&invocation)?,
                    left.max(AGENT_LEAST),
                )
            }
            Runner::Kubelet(kubelet) => (
                kubelet.start(machine, node_name, units).await?,
                start.kubelet_limit,
            ),
        };
        machine.progress.step(
            "kubelet-start",
            "Waiting for the node to register itself...",
        );
        match (self, start.healthz) {
            (Runner::Kubelet(_), Some(at)) => {
                let mut asked = Instant::now();
                // A kubelet takes some seconds to get to work: until it says that it is well, it is asked, and rarely
                // the API server.
                let there = async || {
                    let well = health::look(at).await;
                    if well.is_err() && asked.elapsed() < ASK {
                        return well;
                    }
                    asked = Instant::now();
                    let there = registered().await;
                    there.map_err(|why| well.err().unwrap_or(why))
                };
                started.wait(limit, there).await?;
            }
            _ => started.wait(limit, registered).await?,
        }
        started.keep();
        Ok(())
    }
}

/// What starting needs to know.
pub(super) struct Start<'a> {
    /// What the node is called.
    pub(super) node_name: &'a str,
    /// By when the node agent has to have registered the node.
    pub(super) until: Instant,
    /// How long a kubelet that runs may take for that.
    pub(super) kubelet_limit: Duration,
    /// Where it says so.
    pub(super) healthz: Option<(IpAddr, u16)>,
}

/// Connecting a UDP socket sends nothing, but asks the routing table.
fn own_address(server: &Endpoint) -> std::io::Result<IpAddr> {
    let mut outcome = Err(std::io::ErrorKind::NotFound.into());
    for target in (server.host.to_string(), server.port).to_socket_addrs()? {
        outcome = towards(target);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// The address of the default route, of the same family: where a kubelet looks, as far as routes decide.
fn default_address(like: IpAddr) -> Option<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849), which no other route leads to.
    let anywhere: IpAddr = match like {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    towards(SocketAddr::new(anywhere, 9)).ok()
}

fn towards(target: SocketAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    texts.join(",")
}
