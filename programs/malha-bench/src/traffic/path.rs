//! A path between two network namespaces.

use std::{net::IpAddr, sync::Arc};

use malha_kernel::NetNs;

/// From where to where.
#[derive(Clone)]
pub struct Path {
    /// For people.
    pub name: String,
    /// Where the client runs.
    pub client: Arc<NetNs>,
    /// Where the server runs.
    pub server: Arc<NetNs>,
    /// The server's address, as the client sees it.
    pub address: IpAddr,
}
