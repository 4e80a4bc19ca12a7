//! Finding the control plane and proving that it is the right one: kubeadm's token-based discovery, and by [`file`].
//!
//! 1. `cluster-info` is fetched from whoever answers, without credentials and without checking a certificate.
//! 2. Its kubeconfig must be signed with the token (the signature proves that the server knows the secret, which
//!    is never sent), and its CA must be one that was pinned.
//! 3. It is fetched again over TLS that the CA verifies, and must be the same bytes.
//!
//! Only then is the token used. Source: kubernetes.io, "kubeadm join", token-based discovery with CA pinning.

mod cluster_info;
mod credentials;
mod failure;
mod file;

use std::time::Duration;

use malha_bootstrap::{kubeconfig::Kubeconfig, pin::CaPin, token::Token};
use tokio::time::{Instant, sleep};

pub use cluster_info::ClusterInfo;
pub use credentials::Credentials;
pub use failure::Failure;
pub use file::{ByFile, Location};

use crate::{
    client::{Answer, Limits, RequestError, Unverified, Verified},
    clock::Clock,
    endpoint::Endpoint,
    progress::Progress,
};

/// Where `cluster-info` is; kubeadm asks with this very query.
const PATH: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info?timeout=10s";
/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(250);
/// A clock that is further off makes certificates look expired or not yet valid: they start five minutes early.
const TOLERABLE_SKEW: i64 = 5 * 60;

/// What discovery is told.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// The API server, as the user gave it.
    pub endpoint: Endpoint,
    /// The token. Its secret half never leaves this machine during discovery.
    pub token: Token,
    /// Accepted CAs; any one will do. Empty only when the user wants no check.
    pub pins: Vec<CaPin>,
    /// This machine's clock.
    pub clock: Clock,
    /// How long each request may take.
    pub limits: Limits,
    /// How long to repeat what may heal: a server that is starting, a signature that is not there yet.
    pub patience: Duration,
}

/// A control plane that has been proven to be the right one.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where the cluster says its API server is.
    pub server: Endpoint,
    /// The cluster's CA.
    pub ca_pem: String,
    /// Who asks for the certificate.
    pub credentials: Credentials,
}

impl Discovery {
    /// Runs the discovery.
    ///
    /// # Errors
    /// One line with cause and remedy; see [`Failure`].
    pub async fn run(&self, progress: Progress) -> Result<Found, Failure> {
        progress.step(
            "discovery",
            format!(
                "Created cluster-info discovery client, requesting info from {:?}",
                self.endpoint.url()
            ),
        );
        let (info, answer) = self.first().await?;
        let ca_pem = self.prove(&info, &answer)?;
        if !self.pins.is_empty() {
            progress.step(
                "discovery",
                "The cluster's CA matches the pinned public key; requesting info again over verified TLS",
            );
        }
        let found = self.second(&info, &answer, ca_pem).await?;
        progress.step(
            "discovery",
            format!(
                "Cluster info signature and contents are valid; the API server is {:?}",
                found.server.url()
            ),
        );
        Ok(found)
    }

    /// The unverified fetch, repeated while it may heal.
    async fn first(&self) -> Result<(ClusterInfo, Answer), Failure> {
        let client = Unverified::new(self.endpoint.clone(), self.clock, self.limits)?;
        let deadline = Instant::now() + self.patience;
        loop {
            let outcome = match client.get(PATH).await {
                Ok(answer) => self.read(&answer).map(|info| (info, answer)),
                Err(error) => Err(error.into()),
            };
            match outcome {
                Err(failure) if failure.may_heal() && Instant::now() + PAUSE < deadline => {
                    tracing::debug!(%failure, "asking again");
                    sleep(PAUSE).await;
                }
                other => return other,
            }
        }
    }

    fn read(&self, answer: &Answer) -> Result<ClusterInfo, Failure> {
        let info = ClusterInfo::read(answer)?;
        if info.signature(&self.token.id).is_none() {
            // A wrong control plane does not know the token either: the pin tells the two cases apart.
            self.check_pins(&info.ca_pem()?)?;
            return Err(Failure::TokenUnknown(self.token.id.clone()));
        }
        Ok(info)
    }

    /// Signature, pin and validity of what was fetched. The result is the CA, as PEM.
    fn prove(&self, info: &ClusterInfo, answer: &Answer) -> Result<String, Failure> {
        let ca_pem = info.ca_pem()?;
        let signed = info.verify(&self.token);
        // Another cluster's CA explains a wrong signature, but not the other way round.
        self.check_pins(&ca_pem)?;
        signed?;
        cluster_info::check_validity(&ca_pem, self.clock.now(), answer.date)?;
        Ok(ca_pem)
    }

    fn check_pins(&self, ca_pem: &str) -> Result<(), Failure> {
        let found = CaPin::of_certificates(ca_pem)?;
        if self.pins.is_empty() || found.iter().any(|pin| self.pins.contains(pin)) {
            return Ok(());
        }
        Err(Failure::PinMismatch {
            endpoint: self.endpoint.clone(),
            found,
            pinned: self.pins.clone(),
        })
    }

    /// The verified fetch: same bytes, by a server that holds a key under the CA.
    async fn second(
        &self,
        info: &ClusterInfo,
        first: &Answer,
        ca_pem: String,
    ) -> Result<Found, Failure> {
        let client = Verified::new(self.endpoint.clone(), &ca_pem, self.clock, self.limits)?;
        let answer = match client.get(PATH).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.explain(error, first)),
        };
        if ClusterInfo::read(&answer)?.kubeconfig != info.kubeconfig {
            return Err(Failure::Changed(self.endpoint.clone()));
        }
        self.check_clock(&answer)?;
        let kubeconfig = Kubeconfig::parse(&info.kubeconfig)?;
        let server = Endpoint::from_url(&kubeconfig.single_cluster()?.server)?;
        Ok(Found {
            server,
            ca_pem,
            credentials: Credentials::token(&self.token),
        })
    }

    /// A certificate that is not valid now, when the clocks differ: then the clock is the cause.
    fn explain(&self, error: RequestError, first: &Answer) -> Failure {
        match self.check_clock(first) {
            Err(skew) if error.is_about_time() => skew,
            _ => error.into(),
        }
    }

    fn check_clock(&self, answer: &Answer) -> Result<(), Failure> {
        let Some(theirs) = answer.date else {
            return Ok(());
        };
        let ours = self.clock.now();
        if (ours.as_second() - theirs.as_second()).abs() <= TOLERABLE_SKEW {
            return Ok(());
        }
        Err(Failure::ClockSkew { ours, theirs })
    }
}
