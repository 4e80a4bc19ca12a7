//! What runs a node: the machine's kubelet, or Malha's node agent.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{Options, cluster::ClusterDns};
use crate::{
    daemon::{self, Daemon, Invocation},
    endpoint::Endpoint,
    files::{PUBLIC, Written},
    machine::Machine,
    preflight::Checks,
};

/// The daemon's name.
pub const AGENT: &str = "node";
const KUBELET: &str = "kubelet";
/// How long the node agent may take to register the node.
const AGENT_LIMIT: Duration = Duration::from_secs(10);
/// A kubelet first asks its container runtime a lot; kubeadm waits as long.
const KUBELET_LIMIT: Duration = Duration::from_secs(40);
/// Where container runtimes listen, kubeadm's list.
const SOCKETS: [&str; 3] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
];

/// What runs a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    /// The machine's kubelet.
    Kubelet {
        /// Its program.
        program: PathBuf,
        /// The container runtime, as `unix://…`.
        cri_socket: String,
        /// The node's addresses.
        node_ips: Vec<IpAddr>,
        /// Whether the node's name differs from the machine's.
        renamed: bool,
    },
    /// `malha node`.
    Agent {
        /// The node's addresses.
        node_ips: Vec<IpAddr>,
        /// What the cluster wants of its kubelets.
        dns: ClusterDns,
    },
}

impl Runner {
    /// A kubelet if the machine has one, else the node agent. What a kubelet lacks goes into `checks`.
    pub(super) fn choose(
        options: &Options,
        machine: &Machine,
        node_name: &str,
        checks: &mut Checks,
    ) -> Self {
        let node_ips = options.node_ips.clone();
        let Some(program) = daemon::find_program(&machine.paths, KUBELET) else {
            let dns = ClusterDns::default();
            return Runner::Agent { node_ips, dns };
        };
        let hostname = nix::unistd::gethostname().unwrap_or_default();
        Runner::Kubelet {
            program,
            cri_socket: cri_socket(options, machine, checks),
            node_ips,
            renamed: !hostname.to_string_lossy().eq_ignore_ascii_case(node_name),
        }
    }

    /// The node's address, unless the user gave one: the one this machine speaks to the API server from.
    pub(super) fn settle(&mut self, server: &Endpoint) -> Result<()> {
        let (Runner::Kubelet { node_ips, .. } | Runner::Agent { node_ips, .. }) = self;
        if node_ips.is_empty() {
            let own = own_address(server).with_context(|| {
                format!("cannot tell which address this machine reaches {server} from; give it with --node-ip")
            })?;
            node_ips.push(own);
        }
        Ok(())
    }

    /// Takes over what the cluster's configuration of kubelets says; a kubelet reads that itself.
    pub(super) fn follow(&mut self, cluster: ClusterDns) {
        if let Runner::Agent { dns, .. } = self {
            *dns = cluster;
        }
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Runner::Kubelet { .. } => KUBELET,
            Runner::Agent { .. } => "malha node",
        }
    }

    pub(super) fn cri_socket(&self) -> Option<&str> {
        match self {
            Runner::Kubelet { cri_socket, .. } => Some(cri_socket),
            Runner::Agent { .. } => None,
        }
    }

    /// kubeadm's `KUBELET_KUBEADM_ARGS`.
    pub(super) fn kubelet_arguments(&self, node_name: &str) -> Vec<String> {
        let (node_ips, mut arguments) = match self {
            Runner::Agent { node_ips, .. } => (node_ips, Vec::new()),
            Runner::Kubelet {
                cri_socket,
                node_ips,
                renamed,
                ..
            } => {
                let mut arguments = vec![format!("--container-runtime-endpoint={cri_socket}")];
                if *renamed {
                    arguments.push(format!("--hostname-override={node_name}"));
                }
                (node_ips, arguments)
            }
        };
        if !node_ips.is_empty() {
            arguments.push(format!("--node-ip={}", list(node_ips)));
        }
        arguments
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
        let Runner::Agent { node_ips, dns } = self else {
            return arguments;
        };
        let mut add = |flag: &str, value: String| {
            if !value.is_empty() {
                arguments.extend([flag.to_owned(), value]);
            }
        };
        add("--node-ip", list(node_ips));
        add("--cluster-dns", list(&dns.servers));
        add("--cluster-domain", dns.domain.clone());
        arguments
    }

    /// Starts it and waits until `registered`.
    pub(super) async fn start(
        &self,
        machine: &Machine,
        node_name: &str,
        registered: impl AsyncFnMut() -> Result<(), String>,
    ) -> Result<()> {
        machine
            .progress
            .step("kubelet-start", format!("Starting {}", self.name()));
        let (mut started, limit) = match self {
            Runner::Agent { .. } => {
                let arguments = self.agent_arguments(machine, node_name);
                let invocation = Invocation::own("Malha node agent", &arguments)?;
                (
                    Daemon::new(AGENT, &machine.paths).start(&invocation)?,
                    AGENT_LIMIT,
                )
            }
            Runner::Kubelet { program, .. } => (
                self.start_kubelet(machine, program, node_name)?,
                KUBELET_LIMIT,
            ),
        };
        machine.progress.step(
            "kubelet-start",
            "Waiting for the node to register itself...",
        );
        started.wait(limit, registered).await?;
        started.keep();
        Ok(())
    }

    fn start_kubelet(
        &self,
        machine: &Machine,
        program: &std::path::Path,
        node_name: &str,
    ) -> Result<daemon::Started> {
        let kubelet = Daemon::foreign(KUBELET, &machine.paths);
        if machine.paths.has_systemd() {
            let drop_ins = machine.paths.kubelet_drop_ins();
            let kubeadms = machine
                .paths
                .at("/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf");
            if !kubeadms.exists() && !drop_ins.join("10-kubeadm.conf").exists() {
                let mut written = Written::new();
                written.file(&drop_ins.join("10-malha.conf"), PUBLIC, drop_in(program))?;
                written.keep();
            }
        }
        let mut arguments = kubeconfig_arguments(machine);
        arguments.extend(self.kubelet_arguments(node_name));
        kubelet.start(&Invocation::foreign(
            KUBELET,
            program.to_owned(),
            &arguments,
        ))
    }
}

/// Stops a kubelet that a join started, if there is one.
///
/// # Errors
/// When it does not stop.
pub fn stop_kubelet(machine: &Machine) -> Result<bool> {
    if daemon::find_program(&machine.paths, KUBELET).is_none() {
        return Ok(false);
    }
    Daemon::foreign(KUBELET, &machine.paths)
        .stop()
        .context("cannot stop the kubelet")
}

/// Connecting a UDP socket sends nothing, but asks the routing table.
fn own_address(server: &Endpoint) -> std::io::Result<IpAddr> {
    let mut outcome = Err(std::io::ErrorKind::NotFound.into());
    for target in (server.host.to_string(), server.port).to_socket_addrs()? {
        let any: IpAddr = match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        outcome = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect(target)?;
            Ok(socket.local_addr()?.ip())
        });
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn kubeconfig_arguments(machine: &Machine) -> Vec<String> {
    let paths = &machine.paths;
    vec![
        format!("--kubeconfig={}", paths.kubelet_conf().display()),
        format!("--config={}", paths.kubelet("config.yaml").display()),
    ]
}

/// kubeadm's drop-in, for a kubelet that was installed without kubeadm.
fn drop_in(program: &std::path::Path) -> String {
    format!(
        "[Service]\nEnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env\nEnvironmentFile=-/etc/default/kubelet\n\
         ExecStart=\nExecStart={} --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
         --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS \
         $KUBELET_EXTRA_ARGS\n",
        program.display()
    )
}

fn cri_socket(options: &Options, machine: &Machine, checks: &mut Checks) -> String {
    let with_scheme = |path: &str| match path.contains("://") {
        true => path.to_owned(),
        false => format!("unix://{path}"),
    };
    if let Some(given) = &options.cri_socket {
        return with_scheme(given);
    }
    let found: Vec<_> = SOCKETS
        .iter()
        .filter(|socket| machine.paths.at(socket).exists())
        .collect();
    match found.as_slice() {
        [socket] => return with_scheme(socket),
        [] => checks.fail(
            "CRI",
            "no container runtime's socket was found; start containerd or CRI-O, or name its socket with --cri-socket",
        ),
        [..] => checks.fail(
            "CRI",
            format!("several container runtimes listen ({found:?}); choose one with --cri-socket"),
        ),
    }
    with_scheme(SOCKETS[0])
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    texts.join(",")
}
