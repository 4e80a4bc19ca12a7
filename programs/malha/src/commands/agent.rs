//! `malha agent`: the network agent, one on each node. `deploy/malha.yaml` runs it.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use ipnet::IpNet;
use malha_agent::{Cluster, Config, Paths, Routing, Runtimes, cluster::servers};
use malha_core::paths;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node that this agent acts for: its Node object's name.
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    node_name: String,
    /// How packets get to other nodes: overlay (VXLAN), direct, or auto (direct within a subnet, overlay across).
    #[arg(
        long,
        env = "MALHA_ROUTING",
        value_name = "MODE",
        default_value = "auto"
    )]
    routing: Routing,
    /// VXLAN network identifier, the same on every node.
    #[arg(long, env = "MALHA_VNI", value_name = "NUMBER", default_value_t = 77)]
    vni: u32,
    /// UDP port of the overlay, the same on every node.
    #[arg(
        long,
        env = "MALHA_VXLAN_PORT",
        value_name = "PORT",
        default_value_t = 8472
    )]
    vxlan_port: u16,
    /// MTU of pods in bytes; 0: worked out from the route to every other node.
    #[arg(long, env = "MALHA_MTU", value_name = "BYTES", default_value_t = 0)]
    mtu: u32,
    /// Ranges of the whole cluster's pods. Default: from kubeadm's configuration, and the nodes' own ranges.
    #[arg(
        long,
        env = "MALHA_POD_CIDR",
        value_name = "CIDR[,CIDR6]",
        value_delimiter = ','
    )]
    pod_cidr: Vec<IpNet>,
    /// Whether pods' packets to the world outside leave with the node's address.
    #[arg(
        long,
        env = "MALHA_MASQUERADE",
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    masquerade: bool,
    /// An API server; repeat it for more. Default: the one in kubelet.conf, then the in-cluster address.
    #[arg(
        long = "api-server",
        env = "MALHA_API_SERVER",
        value_name = "URL",
        value_delimiter = ','
    )]
    api_servers: Vec<String>,
    /// The node's own kubeconfig, for the API server's address.
    #[arg(long, value_name = "FILE", default_value = paths::KUBELET_CONF)]
    kubelet_conf: PathBuf,
    /// A container runtime's socket, to compare pods' attachments with its sandboxes; repeat it for more. Default: the
    /// usual ones, as the manifest mounts them.
    #[arg(
        long = "cri-socket",
        env = "MALHA_CRI_SOCKET",
        value_name = "FILE",
        value_delimiter = ','
    )]
    cri_sockets: Vec<PathBuf>,
    /// UID of the pod that this agent runs in: a runtime that does not list it is not believed.
    #[arg(long, env = "POD_UID", value_name = "UID", default_value = "")]
    pod_uid: String,
    /// Where CNI configuration goes.
    #[arg(long, value_name = "DIR", default_value = paths::CNI_CONF_DIR)]
    cni_conf_dir: PathBuf,
    /// Where the CNI plugin goes.
    #[arg(long, value_name = "DIR", default_value = paths::CNI_BIN_DIR)]
    cni_bin_dir: PathBuf,
}

pub fn run(args: Args) -> Result<ExitCode> {
    // Tests install it themselves; a second time changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let servers = servers::find(&args.api_servers, &args.kubelet_conf)?;
    let config = config(args);
    config.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(512 * 1024)
        .build()?;
    runtime.block_on(async {
        let mut end = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = async move {
            tokio::select! { _ = end.recv() => {}, _ = interrupt.recv() => {} }
        };
        malha_agent::run(config, Cluster::Servers(servers), shutdown).await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn config(args: Args) -> Config {
    Config {
        node_name: args.node_name,
        routing: args.routing,
        vni: args.vni,
        vxlan_port: args.vxlan_port,
        mtu: args.mtu,
        pod_ranges: args.pod_cidr,
        masquerade: args.masquerade,
        api_servers: args.api_servers,
        runtimes: Runtimes {
            sockets: args.cri_sockets,
            pod_uid: args.pod_uid,
        },
        paths: Paths {
            kubelet_conf: args.kubelet_conf,
            cni_conf: args.cni_conf_dir,
            cni_bin: args.cni_bin_dir,
            ..Paths::default()
        },
    }
}
