//! `malha init`: this machine becomes a control plane.

use std::{net::IpAddr, process::ExitCode};

use anyhow::{Context, Result};
use clap::ValueEnum;
use ipnet::IpNet;
use malha_bootstrap::{duration::GoDuration, token::Token};
use malha_join::{
    init::{self, Facts, Initialised, Options, Plan},
    machine::Machine,
    preflight::Ignored,
    progress::Progress,
};
use tokio::time::{Instant, sleep};

use super::control_plane;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    api_server: ApiServer,
    #[command(flatten)]
    networks: Networks,
    #[command(flatten)]
    tokens: Tokens,
    /// Checks whose failures are only warnings, by the name the message gives in brackets; 'all' for every check.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    ignore_preflight_errors: Vec<String>,
    /// Only check, and print the configuration that would be used.
    #[arg(long)]
    dry_run: bool,
    /// Run the control plane in this process instead of in the background.
    #[arg(long, conflicts_with = "dry_run")]
    foreground: bool,
    /// What to print at the end; progress then goes to standard error.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct ApiServer {
    /// The address nodes reach the API server at [default: the one of the default route].
    #[arg(long, value_name = "IP")]
    apiserver_advertise_address: Option<IpAddr>,
    /// The port the API server listens on.
    #[arg(long, value_name = "PORT", default_value_t = 6443, value_parser = clap::value_parser!(u16).range(1..))]
    apiserver_bind_port: u16,
    /// The address the API server listens on [default: all].
    #[arg(long, value_name = "IP")]
    apiserver_bind_address: Option<IpAddr>,
    /// More names and addresses for the API server's certificate.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    apiserver_cert_extra_sans: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Networks {
    /// Ranges of pod addresses, at most one of each family [default: 10.244.0.0/16, and where there is IPv6,
    /// fd00:10:244::/56].
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',')]
    pod_network_cidr: Vec<IpNet>,
    /// Prefix length of each node's part of the pod range, in a cluster of one family [default: 24, or 64 for IPv6].
    #[arg(long, value_name = "LENGTH")]
    node_cidr_mask_size: Option<u8>,
    /// The same for IPv4, in a cluster of both families.
    #[arg(long, value_name = "LENGTH")]
    node_cidr_mask_size_ipv4: Option<u8>,
    /// The same for IPv6, in a cluster of both families.
    #[arg(long, value_name = "LENGTH")]
    node_cidr_mask_size_ipv6: Option<u8>,
    /// Ranges of service addresses, at most one of each family [default: 10.96.0.0/12 and fd00:10:96::/112, of the
    /// families that pods have].
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',')]
    service_cidr: Vec<IpNet>,
    /// Domain of service names.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    service_dns_domain: String,
}

#[derive(Debug, clap::Args)]
struct Tokens {
    /// The token that nodes join with, as malha token generate makes it [default: a random one].
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// How long the token works, for example 1h30m; 0 for ever.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "24h0m0s",
        allow_hyphen_values = true
    )]
    token_ttl: GoDuration,
    /// Do not print the token.
    #[arg(long)]
    skip_token_print: bool,
}

/// What a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

impl Output {
    /// Where progress goes, so that what is printed stays clean.
    pub fn progress(self) -> Progress {
        match self {
            Output::Text => Progress::Out,
            Output::Json => Progress::Err,
        }
    }
}

pub fn run(args: Args) -> Result<ExitCode> {
    let machine = Machine::this(args.output.progress());
    let (output, hide) = (args.output, args.tokens.skip_token_print);
    let (dry_run, foreground) = (args.dry_run, args.foreground);
    let options = args.options()?;
    if dry_run {
        let plan = Plan::new(&options, &machine, &Facts::gather())?;
        print!("{}", plan.config.to_json()?);
        return Ok(ExitCode::SUCCESS);
    }
    super::block_on(async move {
        let end = control_plane::asked_to_end()?;
        if foreground {
            stay(&options, &machine, |done| print(done, output, hide), end).await?;
            return Ok(ExitCode::SUCCESS);
        }
        let done = tokio::select! {
            done = init::run(&options, &machine) => done?,
            () = end => anyhow::bail!("interrupted; what was done has been undone"),
        };
        print(done, output, hide)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs the control plane in this process; prints when it is ready.
async fn stay(
    options: &Options,
    machine: &Machine,
    print: impl FnOnce(Initialised) -> Result<()>,
    end: impl Future<Output = ()>,
) -> Result<()> {
    let prepared = Plan::new(options, machine, &Facts::gather())?.prepare(machine)?;
    let config = prepared.config.clone();
    let fill = async {
        let deadline = Instant::now() + init::LIMIT;
        while let Err(why) = prepared.ready().await {
            anyhow::ensure!(
                Instant::now() < deadline,
                "the control plane is not ready: {why}"
            );
            sleep(std::time::Duration::from_millis(30)).await;
        }
        prepared.finish().await
    };
    let serve = control_plane::serve(&config, end);
    tokio::pin!(serve);
    let done = tokio::select! {
        done = fill => done?,
        ended = &mut serve => {
            ended?;
            anyhow::bail!("interrupted; what was done has been undone");
        }
    };
    print(done)?;
    serve.await
}

fn print(mut done: Initialised, output: Output, hide: bool) -> Result<()> {
    if hide {
        done.hide_token();
    }
    match output {
        Output::Text => print!("{}", done.text()),
        Output::Json => println!(
            "{}",
            serde_json::to_string_pretty(&done).context("cannot write JSON")?
        ),
    }
    Ok(())
}

impl Args {
    fn options(self) -> Result<Options> {
        let given = |ranges: Vec<IpNet>| (!ranges.is_empty()).then_some(ranges);
        // Not by clap, which would repeat what it cannot read.
        let token = self
            .tokens
            .token
            .map(|text| text.parse::<Token>())
            .transpose()?;
        Ok(Options {
            advertise_address: self.api_server.apiserver_advertise_address,
            bind_address: self.api_server.apiserver_bind_address,
            bind_port: self.api_server.apiserver_bind_port,
            cert_extra_sans: self.api_server.apiserver_cert_extra_sans,
            pod_network: given(self.networks.pod_network_cidr),
            node_mask: self.networks.node_cidr_mask_size,
            node_mask_ipv4: self.networks.node_cidr_mask_size_ipv4,
            node_mask_ipv6: self.networks.node_cidr_mask_size_ipv6,
            service_ranges: given(self.networks.service_cidr),
            dns_domain: self.networks.service_dns_domain,
            token,
            token_ttl: self.tokens.token_ttl.as_seconds(),
            ignored: Ignored::new(self.ignore_preflight_errors),
        })
    }
}
