//! The API server itself: from a TLS connection to an object in the store and back.
//!
//! A request passes, in this order: authentication ([`crate::auth`]), routing, authorization, the verb with admission
//! ([`crate::admission`]) and object logic ([`crate::api`]), and the [`crate::store`]. Clients in the same process take
//! the same way from routing on, through [`Server::client_service`].

mod body;
mod bootstrap;
mod call;
mod client;
mod config;
mod expire;
mod handle;
mod listener;
mod objects;
mod params;
mod paths;
mod respond;
mod reviews;
mod route;
mod services;
mod subresources;
mod tls;
mod verbs;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use secrecy::ExposeSecret;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

pub use client::ClientService;
pub use config::{Config, StartError};

use self::{objects::StoredObjects, services::ServiceAddresses};
use crate::{
    attributes::UserInfo,
    auth::{AuthConfig, DEFAULT_ISSUER, ServiceAccountKeys},
    proxy::{BoxError, NodeClient},
    store::{FileStore, Store},
};

/// A response body; a watch's goes on until somebody ends it.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Requests worked on at a time, beside those that last by nature; one more is told to come again (429).
const MAX_IN_FLIGHT: usize = 400;
/// Watches at a time.
const MAX_WATCHES: usize = 10_000;

/// A running API server.
pub struct Server {
    address: SocketAddr,
    inner: Arc<Inner>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// What every request needs.
pub(crate) struct Inner {
    store: Arc<dyn Store>,
    objects: StoredObjects,
    auth: AuthConfig,
    nodes: NodeClient,
    services: ServiceAddresses,
    in_flight: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    /// `host:port` for clients.
    address: String,
}

impl Server {
    /// Opens the database, creates what every cluster starts with, and listens.
    ///
    /// # Errors
    /// When the port or the data directory is in use, or a certificate or key cannot be read.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let tls = tls::server_config(&config)?;
        let auth = authentication(&config)?;
        let nodes = NodeClient::new(
            &config.kubelet_client_cert,
            config.kubelet_client_key.expose_secret(),
            &config.client_ca,
        )
        .map_err(|e| StartError::Credential {
            what: "the certificate for nodes (apiserver-kubelet-client.crt)",
            why: e.to_string(),
        })?;
        let services = ServiceAddresses::new(&config.service_ranges)?;
        let listener = listener::bind(config.listen).await?;
        let address = listener.local_addr().unwrap_or(config.listen);
        let store: Arc<dyn Store> = Arc::new(FileStore::open(&config.data_dir)?);
        let endpoint = SocketAddr::new(config.advertise, address.port());
        let inner = Arc::new(Inner {
            objects: StoredObjects(store.clone()),
            store,
            auth,
            nodes,
            services,
            in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            watches: Arc::new(Semaphore::new(MAX_WATCHES)),
            address: endpoint.to_string(),
        });
        bootstrap::run(&inner, (endpoint.ip(), endpoint.port())).await?;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(expire::run(inner.clone(), stopped.clone()));
        tasks.spawn(listener::run(listener, tls, inner.clone(), stopped));
        tracing::info!(%address, "API server listens");
        Ok(Self {
            address,
            inner,
            stop,
            tasks,
        })
    }

    /// Where the server listens; the port is the real one also when the configuration left it to the system.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// A client in this process that acts as `user`: no TLS and no authentication, but authorization and admission.
    ///
    /// `kube::Client::new(server.client_service(malha_apiserver::auth::superuser("system:…")), "default")`
    pub fn client_service(&self, user: UserInfo) -> ClientService {
        ClientService::new(self.inner.clone(), user)
    }

    /// Stops listening, ends watches, lets running requests finish (a few seconds at most) and closes the database.
    ///
    /// Stop the users of [`Server::client_service`] before: their watches end at once, and again whenever they try.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        self.inner.store.end_watches();
        while self.tasks.join_next().await.is_some() {}
        let store = self.inner.store.clone();
        // Waits for the writer's thread.
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        if let Err(error) = closed {
            tracing::error!(%error, "cannot close the database");
        }
    }
}

fn authentication(config: &Config) -> Result<AuthConfig, StartError> {
    let public: Vec<_> = config
        .service_account_public_keys
        .iter()
        .map(String::as_str)
        .collect();
    let private = config.service_account_key.expose_secret();
    let keys = ServiceAccountKeys::new(DEFAULT_ISSUER, private, &public).map_err(|e| {
        StartError::Credential {
            what: "a service account key (sa.key, sa.pub)",
            why: e.to_string(),
        }
    })?;
    AuthConfig::new(&config.client_ca, keys).map_err(|e| StartError::Credential {
        what: "the client CA (ca.crt)",
        why: e.to_string(),
    })
}

#[cfg(test)]
mod tests;
