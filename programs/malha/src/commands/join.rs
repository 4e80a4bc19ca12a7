//! `malha join`: this machine becomes a node.

use std::{
    net::IpAddr,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};
use malha_bootstrap::pin::CaPin;
use malha_join::{
    join::{self, Enrolled, Joined, Options},
    machine::Machine,
    preflight::Ignored,
};

use super::{control_plane, init::Output};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The control plane's API server.
    #[arg(value_name = "HOST:PORT")]
    endpoint: String,
    /// The token, as malha init or malha token create printed it.
    #[arg(long, value_name = "TOKEN", visible_alias = "discovery-token")]
    token: String,
    /// Accept the control plane only if its CA has this public key: sha256:HEX; may be repeated, any one will do.
    #[arg(long, value_name = "HASH", value_delimiter = ',')]
    discovery_token_ca_cert_hash: Vec<String>,
    /// Accept any CA that the token vouches for: whoever knows the token could pose as the control plane.
    #[arg(long)]
    discovery_token_unsafe_skip_ca_verification: bool,
    /// The node's name [default: the machine's name].
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// The node's addresses, at most one of each family [default: the one that leads to the API server].
    #[arg(long, value_name = "IP[,IP]", value_delimiter = ',')]
    node_ip: Vec<IpAddr>,
    /// The container runtime's socket, on machines with a kubelet [default: the only one found].
    #[arg(long, value_name = "PATH")]
    cri_socket: Option<String>,
    /// Checks whose failures are only warnings, by the name the message gives in brackets; 'all' for every check.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    ignore_preflight_errors: Vec<String>,
    /// Run the node agent in this process instead of in the background.
    #[arg(long)]
    foreground: bool,
    /// What to print at the end; progress then goes to standard error.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let machine = Machine::this(args.output.progress());
    let (output, foreground) = (args.output, args.foreground);
    let options = args.options()?;
    super::block_on(async move {
        let end = control_plane::asked_to_end()?;
        let work = async {
            let enrolled = join::enroll(&options, &machine).await?;
            if foreground {
                machine
                    .progress
                    .step("kubelet-start", "Running the node agent in this process");
                return stay(enrolled, output);
            }
            print(&enrolled.start().await?, output)
        };
        tokio::select! {
            done = work => done?,
            () = end => anyhow::bail!("interrupted; what was done has been undone"),
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Becomes the node agent.
fn stay(enrolled: Enrolled, output: Output) -> Result<()> {
    let arguments = enrolled.foreground()?;
    let joined = enrolled.keep();
    // People have been told already, and the node is not registered yet.
    if output == Output::Json {
        print(&joined, output)?;
    }
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    Err(Command::new(own).args(arguments).exec()).context("cannot start the node agent")
}

fn print(joined: &Joined, output: Output) -> Result<()> {
    match output {
        Output::Text => print!("{}", joined.text()),
        Output::Json => println!(
            "{}",
            serde_json::to_string_pretty(joined).context("cannot write JSON")?
        ),
    }
    Ok(())
}

impl Args {
    /// Parsed here and not by clap, which would repeat what it cannot read: a token with one character wrong is
    /// still a secret.
    fn options(self) -> Result<Options> {
        let pin = |text: &String| {
            text.parse::<CaPin>()
                .with_context(|| format!("--discovery-token-ca-cert-hash {text:?}"))
        };
        let pins = self.discovery_token_ca_cert_hash.iter().map(pin);
        Ok(Options {
            endpoint: self.endpoint.parse()?,
            token: self.token.parse()?,
            pins: pins.collect::<Result<_>>()?,
            skip_ca_verification: self.discovery_token_unsafe_skip_ca_verification,
            node_name: self.node_name,
            node_ips: self.node_ip,
            cri_socket: self.cri_socket,
            ignored: Ignored::new(self.ignore_preflight_errors),
        })
    }
}
