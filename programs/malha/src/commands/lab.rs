//! `malha lab …`: a whole cluster on this machine, and the tools to try it.

use std::{
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Subcommand;
use malha_lab::{
    Options,
    connect::{self, Door, Protocol},
    enter, fetch, hold,
    serve::{self, Ports},
    status, story, stream,
};

use super::block_on;

const MANIFEST: &str = include_str!("../../../../deploy/malha.yaml");

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring a cluster up: control plane, nodes, network, test pods; show that every pod reaches every pod.
    Up(Up),
    /// End the lab and everything in it; nothing is left.
    Down,
    /// Show the lab's machines and how to reach its API server.
    Status,
    /// Run a command on a machine of the lab (`control`, `node1`, …; `fabric` is the switch between them).
    Exec {
        /// The machine.
        machine: String,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Serve HTTP, TCP and UDP for tests: what the lab's test pods run.
    Serve {
        /// Port of the HTTP server.
        #[arg(long, default_value_t = 8080)]
        http: u16,
        /// Port of the TCP echo server.
        #[arg(long, default_value_t = 7070)]
        tcp: u16,
        /// Port of the UDP echo server.
        #[arg(long, default_value_t = 7070)]
        udp: u16,
    },
    /// Try one connection; prints nothing and exits 0 if it works, else prints TIMEOUT, REFUSED or OTHER and exits 1.
    Connect {
        /// ADDRESS:PORT, or an address for icmp.
        to: String,
        /// tcp, udp (to an echo server) or icmp.
        #[arg(long, default_value = "tcp")]
        protocol: Protocol,
        /// Seconds to wait.
        #[arg(long, default_value_t = 2.0)]
        timeout: f64,
    },
    /// Try many connections at once; prints for each the target and OK, TIMEOUT, REFUSED or OTHER.
    Reach {
        /// PROTOCOL:ADDRESS:PORT, for example tcp:10.244.1.2:80
        #[arg(required = true)]
        targets: Vec<Door>,
        /// Seconds to wait.
        #[arg(long, default_value_t = 2.0)]
        timeout: f64,
    },
    /// Send numbered datagrams to an echo server at a steady pace; tell as JSON which did not come back.
    Stream {
        /// ADDRESS:PORT of the echo server.
        to: SocketAddr,
        /// How many datagrams.
        #[arg(long, default_value_t = 1000)]
        count: u32,
        /// Milliseconds between two.
        #[arg(long, default_value_t = 1)]
        interval_ms: u64,
    },
    /// Print what a test server answers.
    Fetch {
        /// ADDRESS:PORT
        server: SocketAddr,
        /// For example /clientip
        path: String,
    },
    /// Hold a part of the lab up (started by the lab itself).
    #[command(hide = true)]
    Hold {
        #[command(subcommand)]
        part: Part,
    },
}

#[derive(Debug, clap::Args)]
struct Up {
    /// How many nodes join.
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// Pod ranges of the cluster, one of each family at most.
    #[arg(
        long,
        default_value = "10.244.0.0/16,fd00:10:244::/56",
        value_name = "CIDRS"
    )]
    pod_network_cidr: String,
    /// Prefix length of each node's IPv4 pod range.
    #[arg(long, default_value_t = 24, value_name = "LENGTH")]
    node_cidr_mask_size_ipv4: u8,
    /// Port on 127.0.0.1 at which this host reaches the API server.
    #[arg(long, default_value_t = 16443)]
    api_port: u16,
    /// How packets travel between nodes.
    #[arg(long, default_value = "auto", value_parser = ["auto", "overlay", "direct"])]
    routing: String,
    /// Stop before the network is applied: the nodes stay NotReady.
    #[arg(long)]
    without_network: bool,
}

#[derive(Debug, Subcommand)]
enum Part {
    Fabric { port: u16, api_server: SocketAddr },
    Machine { name: String },
    Init { name: String },
}

pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Up(up) => {
            block_on(async move { story::up(&up.options()).await.map(|()| ExitCode::SUCCESS) })
        }
        Command::Down => {
            let was = malha_lab::down()?;
            println!(
                "{}",
                if was {
                    "The lab has ended."
                } else {
                    "There is no lab on this machine."
                }
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Status => {
            print!("{}", status::render()?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Exec { machine, command } => enter::exec(&machine, &command),
        Command::Serve { http, tcp, udp } => block_on(async move {
            serve::run(Ports { http, tcp, udp })
                .await
                .map(|()| ExitCode::SUCCESS)
        }),
        Command::Connect {
            to,
            protocol,
            timeout,
        } => knock(&to, protocol, timeout),
        Command::Reach { targets, timeout } => {
            for (door, word) in targets
                .iter()
                .zip(connect::all(&targets, seconds(timeout)?))
            {
                println!("{} {word}", door.text);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Stream {
            to,
            count,
            interval_ms,
        } => {
            let outcome = stream::run(to, count, Duration::from_millis(interval_ms))?;
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(if outcome.lost == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Fetch { server, path } => block_on(async move {
            print!(
                "{}",
                String::from_utf8_lossy(&fetch::get(server, &path).await?)
            );
            Ok(ExitCode::SUCCESS)
        }),
        Command::Hold { part } => match part {
            Part::Fabric { port, api_server } => hold::fabric(port, api_server),
            Part::Machine { name } => hold::machine(&name),
            Part::Init { name } => hold::init(&name),
        }
        .map(|()| ExitCode::SUCCESS),
    }
}

impl Up {
    fn options(self) -> Options {
        Options {
            nodes: self.nodes,
            pod_network: self.pod_network_cidr,
            node_mask: self.node_cidr_mask_size_ipv4,
            api_port: self.api_port,
            routing: self.routing,
            without_network: self.without_network,
            manifest: MANIFEST,
        }
    }
}

fn seconds(timeout: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(timeout).context("--timeout has to be seconds, more than 0")
}

fn knock(to: &str, protocol: Protocol, timeout: f64) -> Result<ExitCode> {
    let address = match to.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, 0),
        Err(_) => to
            .parse()
            .with_context(|| format!("{to:?} is not ADDRESS:PORT"))?,
    };
    match connect::attempt(address, protocol, seconds(timeout)?) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            println!("{}", connect::word(&error));
            eprintln!("malha: {protocol:?} to {address}: {error}");
            Ok(ExitCode::FAILURE)
        }
    }
}
