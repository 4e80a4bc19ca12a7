//! `malha join`: this machine becomes a node.

use std::{
    fs,
    net::IpAddr,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use malha_bootstrap::duration::GoDuration;
use malha_join::{
    configuration::{self, ByToken, JoinConfiguration},
    join::{self, Enrolled, Joined, Options},
    machine::Machine,
};

use super::{control_plane, init::Output};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The control plane's API server.
    #[arg(value_name = "HOST:PORT")]
    endpoint: Option<String>,
    #[command(flatten)]
    discovery: Discovery,
    /// kubeadm's JoinConfiguration (v1beta2 to v1beta4) instead of flags.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    /// Parts to leave out; only preflight can be.
    #[arg(long, value_name = "PHASES", value_delimiter = ',')]
    skip_phases: Vec<String>,
    /// Check and discover, print what would be written, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// How long a join that does not succeed may take [default: 10s].
    #[arg(long, value_name = "DURATION")]
    timeout: Option<GoDuration>,
    /// Run the node agent in this process instead of in the background.
    #[arg(long)]
    foreground: bool,
    /// What to print at the end; progress then goes to standard error.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
    #[command(flatten)]
    others: OfKubeadm,
}

/// kubeadm's flags that mean nothing here, so that its command lines can be taken over.
#[derive(Debug, Default, clap::Args)]
struct OfKubeadm {
    /// Not for workers.
    #[arg(long, hide = true)]
    control_plane: bool,
    /// Not for workers.
    #[arg(long, hide = true)]
    certificate_key: Option<String>,
    /// Not for workers.
    #[arg(long, hide = true)]
    apiserver_advertise_address: Option<String>,
    /// Not for workers.
    #[arg(long, hide = true)]
    apiserver_bind_port: Option<String>,
    /// Has no effect: what is told is told anyway, and --log tells more.
    #[arg(short, long, hide = true)]
    v: Option<String>,
}

impl OfKubeadm {
    fn is_for_control_planes(&self) -> bool {
        let given = [
            &self.certificate_key,
            &self.apiserver_advertise_address,
            &self.apiserver_bind_port,
        ];
        self.control_plane || given.into_iter().any(Option::is_some)
    }
}

/// How the control plane is found and proven.
#[derive(Debug, Default, clap::Args)]
struct Discovery {
    /// The token, as malha init or malha token create printed it.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// The token for discovery only.
    #[arg(long, value_name = "TOKEN")]
    discovery_token: Option<String>,
    /// The token for the certificate request only.
    #[arg(long, value_name = "TOKEN")]
    tls_bootstrap_token: Option<String>,
    /// Accept the control plane only if its CA has this public key: sha256:HEX; may be repeated, any one will do.
    #[arg(long, value_name = "HASH", value_delimiter = ',')]
    discovery_token_ca_cert_hash: Vec<String>,
    /// Accept any CA that the token vouches for: whoever knows the token could pose as the control plane.
    #[arg(long)]
    discovery_token_unsafe_skip_ca_verification: bool,
    /// A kubeconfig with the cluster's server and CA, to trust instead of a token: a file or an https URL.
    #[arg(long, value_name = "FILE|URL")]
    discovery_file: Option<String>,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let machine = Machine::this(args.output.progress());
    let (output, foreground) = (args.output, args.foreground);
    let (options, dry_run) = args.options(&machine)?;
    super::block_on(async move {
        let end = control_plane::asked_to_end()?;
        let work = async {
            if dry_run {
                print!("{}", join::rehearse(&options, &machine).await?);
                return Ok(());
            }
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
            () = end => bail!("interrupted; what was done has been undone"),
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
    /// What flags and file say. Understood in the library and not by clap, which would repeat what it cannot read: a
    /// token with one character wrong is still a secret.
    fn options(mut self, machine: &Machine) -> Result<(Options, bool)> {
        if self.others.is_for_control_planes() {
            bail!(
                "malha join makes workers only; for another control plane of a kubeadm cluster use kubeadm join --control-plane"
            );
        }
        let mut given = match self.config.take() {
            Some(file) => self.read(file, machine)?,
            None => std::mem::take(&mut self.discovery).configuration(self.endpoint.take()),
        };
        // As for kubeadm, these go together with a file.
        given.node_name = self.node_name.or(given.node_name);
        given.cri_socket = self.cri_socket.or(given.cri_socket);
        given
            .ignore_preflight_errors
            .extend(self.ignore_preflight_errors);
        given.skip_phases.extend(self.skip_phases);
        let dry_run = self.dry_run || given.dry_run;
        let mut options = Options::new(given)?;
        options.node_ips = self.node_ip;
        if let Some(timeout) = self.timeout {
            let seconds = u64::try_from(timeout.as_seconds())
                .ok()
                .filter(|seconds| *seconds > 0);
            options.limit =
                Duration::from_secs(seconds.context("--timeout has to be a second or more")?);
        }
        Ok((options, dry_run))
    }

    fn read(&self, file: PathBuf, machine: &Machine) -> Result<JoinConfiguration> {
        let mixed = self.discovery.given(self.endpoint.is_some());
        if !mixed.is_empty() {
            bail!(
                "--config does not go together with {}: write that into {}, or leave --config out",
                mixed.join(", "),
                file.display()
            );
        }
        let text = fs::read_to_string(&file).with_context(|| {
            format!(
                "cannot read {}; give --config a file with a JoinConfiguration",
                file.display()
            )
        })?;
        let parsed = configuration::parse(&text)
            .with_context(|| format!("cannot use {}", file.display()))?;
        for warning in parsed.warnings {
            machine
                .progress
                .warning("config", format!("{}: {warning}", file.display()));
        }
        Ok(parsed.configuration)
    }
}

impl Discovery {
    fn configuration(self, endpoint: Option<String>) -> JoinConfiguration {
        let by_token = endpoint.map(|endpoint| ByToken {
            endpoint,
            token: self.discovery_token.or_else(|| self.token.clone()),
            ca_cert_hashes: self.discovery_token_ca_cert_hash,
            unsafe_skip_ca_verification: self.discovery_token_unsafe_skip_ca_verification,
        });
        JoinConfiguration {
            by_token,
            discovery_file: self.discovery_file,
            tls_bootstrap_token: self.tls_bootstrap_token.or(self.token),
            ..JoinConfiguration::default()
        }
    }

    /// The flags that were given.
    fn given(&self, endpoint: bool) -> Vec<&'static str> {
        let all = [
            (endpoint, "HOST:PORT"),
            (self.token.is_some(), "--token"),
            (self.discovery_token.is_some(), "--discovery-token"),
            (self.tls_bootstrap_token.is_some(), "--tls-bootstrap-token"),
            (
                !self.discovery_token_ca_cert_hash.is_empty(),
                "--discovery-token-ca-cert-hash",
            ),
            (
                self.discovery_token_unsafe_skip_ca_verification,
                "--discovery-token-unsafe-skip-ca-verification",
            ),
            (self.discovery_file.is_some(), "--discovery-file"),
        ];
        all.into_iter()
            .filter(|(given, _)| *given)
            .map(|(_, name)| name)
            .collect()
    }
}
