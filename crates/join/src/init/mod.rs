//! `malha init`: this machine becomes a control plane.
//!
//! Three steps: [`plan`](Plan::new) decides and checks everything without touching anything; [`Plan::prepare`] writes
//! kubeadm's files and the control plane's configuration; once the control plane answers, [`Prepared::finish`] puts
//! `cluster-info`, kubeadm's ConfigMaps and the first token into it. Whatever fails, what was written goes away again.

mod facts;
mod layout;
mod plan;
mod upload;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use malha_bootstrap::{
    pin::CaPin,
    token::{Expiry, Token},
};
use serde::Serialize;

pub use facts::Facts;
pub use plan::{Options, Plan};

use crate::{
    client::Verified,
    control_plane::Config,
    daemon::{Daemon, Invocation},
    files::{self, Written},
    machine::Machine,
    token::join_command,
};

/// The daemon's name.
pub const DAEMON: &str = "control-plane";
/// How long the control plane may take to answer.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A control plane's files, written but not yet to stay.
pub struct Prepared {
    /// What the control plane is started with.
    pub config: Config,
    machine: Machine,
    ca_pem: String,
    admin_conf: String,
    token: Token,
    token_ttl: i64,
    client: Verified,
    written: Written,
}

/// A control plane that works.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Initialised {
    /// The API server's URL.
    pub server: String,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The whole command for machines that join.
    pub join_command: String,
    /// `sha256:…`, one of each CA certificate.
    pub ca_cert_hashes: Vec<String>,
    /// When the token stops working, in RFC 3339; absent if never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_expires: Option<String>,
}

/// Checks, writes, starts the control plane as a daemon and fills it.
///
/// # Errors
/// One line with cause and remedy; then nothing stays of what was written or started.
pub async fn run(options: &Options, machine: &Machine) -> Result<Initialised> {
    let plan = Plan::new(options, machine, &Facts::gather())?;
    let prepared = plan.prepare(machine)?;
    let config = machine.paths.control_plane_config();
    let arguments = [
        "control-plane".to_owned(),
        "--config".to_owned(),
        config.display().to_string(),
    ];
    let invocation = Invocation::own("Malha control plane", &arguments)?;
    machine
        .progress
        .step("wait-control-plane", "Starting the control plane");
    // Declared after the files: dropped, and so stopped, before they are removed.
    let mut started = Daemon::new(DAEMON, &machine.paths).start(&invocation)?;
    started.wait(LIMIT, async || prepared.ready().await).await?;
    let initialised = prepared.finish().await?;
    started.keep();
    Ok(initialised)
}

/// A client of a control plane's API server, as nobody in particular.
///
/// # Errors
/// When the CA's file cannot be read or used.
pub fn client_of(config: &Config, machine: &Machine) -> Result<Verified> {
    let ca_pem = files::read(&config.certificates.ca)?;
    let client = Verified::new(config.endpoint(), &ca_pem, machine.clock, machine.limits);
    client.context("cannot use the CA")
}

/// Whether an API server is ready; the error says why not.
///
/// # Errors
/// As long as it is not.
pub async fn ready(client: &Verified) -> Result<(), String> {
    match client.get("/readyz").await {
        Ok(answer) if answer.status.is_success() => Ok(()),
        Ok(answer) => Err(format!("/readyz says {}", answer.message())),
        Err(error) => Err(error.to_string()),
    }
}

impl Plan {
    /// Writes certificates, kubeconfig and configuration.
    ///
    /// # Errors
    /// When something cannot be made or written; then nothing stays.
    pub fn prepare(self, machine: &Machine) -> Result<Prepared> {
        let mut written = Written::new();
        let made = layout::write(&self, machine, &mut written)?;
        let client = client_of(&self.config, machine)?;
        Ok(Prepared {
            config: self.config,
            machine: machine.clone(),
            ca_pem: made.ca_pem,
            admin_conf: made.admin_conf,
            token: self.token,
            token_ttl: self.token_ttl,
            client,
            written,
        })
    }
}

impl Prepared {
    /// Whether the control plane answers; the error says why not.
    ///
    /// # Errors
    /// As long as it does not.
    pub async fn ready(&self) -> Result<(), String> {
        ready(&self.client).await
    }

    /// Fills the running control plane; from now on the files stay.
    ///
    /// # Errors
    /// When the API server refuses something; then the files are removed.
    pub async fn finish(self) -> Result<Initialised> {
        let expiry = Expiry::after(self.machine.clock.now(), self.token_ttl);
        let content = upload::Content {
            config: &self.config,
            ca_pem: &self.ca_pem,
            token: &self.token,
            expiry: &expiry,
        };
        content
            .upload(&self.admin_conf, self.machine.progress)
            .await?;
        let hashes = CaPin::of_certificates(&self.ca_pem).context("cannot read the new CA")?;
        let endpoint = self.config.endpoint();
        self.written.keep();
        Ok(Initialised {
            server: endpoint.url(),
            kubeconfig: self.machine.paths.admin_conf(),
            join_command: join_command(&endpoint, Some(&self.token), &hashes),
            ca_cert_hashes: hashes.iter().map(CaPin::to_string).collect(),
            token_expires: match expiry {
                Expiry::At(at) => Some(malha_bootstrap::token::rfc3339(at)),
                Expiry::Never | Expiry::Unreadable(_) => None,
            },
        })
    }
}

impl Initialised {
    /// Replaces the token in the join command, for terminals that others see.
    pub fn hide_token(&mut self) {
        let words = self.join_command.split(' ').collect::<Vec<_>>();
        let hidden = words.iter().enumerate().map(|(index, word)| {
            match index > 0 && words[index - 1] == "--token" {
                true => "<value withheld>",
                false => *word,
            }
        });
        self.join_command = hidden.collect::<Vec<_>>().join(" ");
    }

    /// What kubeadm says at the end, for people.
    pub fn text(&self) -> String {
        let conf = self.kubeconfig.display();
        format!(
            "\nYour Kubernetes control-plane has initialized successfully!\n\n\
             To start using your cluster, you need to run the following as a regular user:\n\n  \
             mkdir -p $HOME/.kube\n  \
             sudo cp -i {conf} $HOME/.kube/config\n  \
             sudo chown $(id -u):$(id -g) $HOME/.kube/config\n\n\
             Alternatively, if you are the root user, you can run:\n\n  \
             export KUBECONFIG={conf}\n\n\
             You should now deploy a pod network to the cluster:\n\n  \
             kubectl apply -f deploy/malha.yaml\n\n\
             Then you can join any number of worker nodes by running the following on each as root:\n\n\
             {}\n",
            self.join_command
        )
    }
}
