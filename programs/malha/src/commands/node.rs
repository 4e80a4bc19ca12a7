//! `malha node`: the node agent for machines without a kubelet.

use std::{net::IpAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Subcommand;
use malha_node::Config;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// The node's credentials and the API server's address.
    #[arg(long, value_name = "FILE", default_value = malha_core::paths::KUBELET_CONF)]
    kubeconfig: PathBuf,
    /// The node's name.
    #[arg(long, value_name = "NAME", required = true)]
    node_name: Option<String>,
    /// The node's address, or one of each family.
    #[arg(long, value_name = "IP[,IP6]", required = true, value_delimiter = ',')]
    node_ip: Vec<IpAddr>,
    #[command(flatten)]
    places: Places,
    /// The port for logs, exec and port-forward.
    #[arg(long, default_value_t = malha_node::config::DEFAULT_PORT)]
    port: u16,
    /// The cluster's name servers, for pods with `dnsPolicy: ClusterFirst`.
    #[arg(long, value_name = "IP[,IP6]", value_delimiter = ',')]
    cluster_dns: Vec<IpAddr>,
    /// The domain of services.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
}

/// Where the agent's files are.
#[derive(Debug, clap::Args)]
struct Places {
    /// Where CNI configuration is looked for.
    #[arg(long, value_name = "DIR", default_value = malha_core::paths::CNI_CONF_DIR)]
    cni_conf_dir: PathBuf,
    /// Where CNI plugins are looked for.
    #[arg(long, value_name = "DIR", default_value = malha_core::paths::CNI_BIN_DIR)]
    cni_bin_dir: PathBuf,
    /// Where pods' volumes are kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/malha/node")]
    root_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Stop this machine's pods and remove all that the node agent made here.
    Teardown {
        /// The node's name.
        #[arg(long, value_name = "NAME")]
        node_name: String,
        #[command(flatten)]
        places: Places,
    },
    /// The launcher's own commands.
    #[command(external_subcommand)]
    Launcher(Vec<String>),
}

pub fn run(args: Args) -> Result<ExitCode> {
    match args.action {
        Some(Action::Launcher(arguments)) => Ok(malha_node::launch::main(&arguments)),
        Some(Action::Teardown { node_name, places }) => {
            let done = malha_node::teardown(&config(&node_name, Vec::new(), places)?)?;
            println!(
                "{} pods and {} containers removed",
                done.pods, done.containers
            );
            Ok(ExitCode::SUCCESS)
        }
        None => start(args),
    }
}

fn start(args: Args) -> Result<ExitCode> {
    let name = args.node_name.unwrap_or_default();
    let config = Config {
        kubeconfig: args.kubeconfig,
        port: args.port,
        cluster_dns: args.cluster_dns,
        cluster_domain: args.cluster_domain,
        ..config(&name, args.node_ip, args.places)?
    };
    super::block_on(async {
        let mut end = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = async move {
            tokio::select! { _ = end.recv() => {}, _ = interrupt.recv() => {} }
        };
        malha_node::run(config, shutdown).await?;
        // A plugin that hangs must not keep the agent from ending; whatever it was about is written down.
        std::process::exit(0)
    })
}

fn config(name: &str, ips: Vec<IpAddr>, places: Places) -> Result<Config> {
    let usual = Config::new(name, ips).context("cannot find this program's own file")?;
    Ok(Config {
        cni_conf_dir: places.cni_conf_dir,
        cni_bin_dir: places.cni_bin_dir,
        root_dir: places.root_dir,
        ..usual
    })
}
