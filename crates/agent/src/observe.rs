//! Looking at the host: links, addresses, and the ways to the other nodes.

use std::net::IpAddr;

use malha_kernel::{Handle, Result};

use crate::model::{Host, HostAddress, Link, OVERLAY_LINK, Path};

/// How the names of pods' links begin.
pub const POD_LINK_PREFIX: &str = "mlh";

/// The host as it is, with the ways to these addresses.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn host(peers: &[IpAddr]) -> Result<Host> {
    let handle = Handle::new()?;
    let mut host = Host::default();
    for link in handle.links()? {
        if link.loopback || link.name == OVERLAY_LINK || link.name.starts_with(POD_LINK_PREFIX) {
            continue;
        }
        let ethernet = link.mac.is_some();
        let described = Link {
            index: link.index,
            name: link.name,
            mtu: link.mtu,
            ethernet,
        };
        host.links.insert(link.index, described);
    }
    let known = handle
        .addresses()?
        .into_iter()
        .filter(|address| host.links.contains_key(&address.device));
    host.addresses = known
        .filter(|address| !address.local_scope)
        .map(|address| HostAddress {
            index: address.device,
            net: address.address,
        })
        .collect();
    host.addresses
        .sort_by_key(|address| (address.index, address.net));
    for peer in peers {
        if let Some(path) = handle.path_to(*peer)?.filter(|path| !path.local) {
            let path = Path {
                index: path.device,
                gateway: path.gateway,
                source: path.source,
                mtu: path.mtu,
            };
            host.paths.insert(*peer, path);
        }
    }
    Ok(host)
}
