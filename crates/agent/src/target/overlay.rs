//! The overlay device: one VXLAN device for every peer and both families. The datapath tells each packet where to go.

use anyhow::{Context, Result};
use ipnet::IpNet;
use malha_kernel::{Batch, Handle, Link, Vxlan};

use super::{Target, sysctl};
use crate::model::{Desired, OVERLAY_LINK, Overlay};

/// See the module.
#[derive(Debug, Default)]
pub struct OverlayTarget;

impl Target for OverlayTarget {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn update(&mut self, desired: &Desired) -> Result<()> {
        let Some(overlay) = &desired.overlay else {
            return Ok(());
        };
        let handle = Handle::new()?;
        let link = match handle.link(OVERLAY_LINK)? {
            Some(link) if is_ours(&link, overlay) => link,
            Some(link) => {
                tracing::info!(
                    kind = link.kind,
                    "the overlay device is of another kind or port: making it anew"
                );
                handle.delete_link(link.index)?;
                create(&handle, overlay)?
            }
            None => create(&handle, overlay)?,
        };
        let mut batch = Batch::new();
        if link.mac != Some(overlay.mac) {
            batch = batch.set_mac(link.index, overlay.mac);
        }
        if link.mtu != overlay.mtu {
            batch = batch.set_mtu(link.index, overlay.mtu);
        }
        if !link.up {
            batch = batch.set_up(link.index);
        }
        batch = set_addresses(&handle, batch, link.index, overlay)?;
        if !batch.is_empty() {
            handle.commit(batch)?;
        }
        sysctl::loosen_overlay()
    }

    fn prune(&mut self, desired: &Desired) -> Result<()> {
        if desired.overlay.is_some() {
            return Ok(());
        }
        let handle = Handle::new()?;
        match handle.link(OVERLAY_LINK)? {
            Some(link) => Ok(handle.delete_link(link.index)?),
            None => Ok(()),
        }
    }
}

fn is_ours(link: &Link, overlay: &Overlay) -> bool {
    link.kind == "vxlan" && link.vxlan == Some((true, overlay.port))
}

/// Link-local ones are nobody's business.
fn set_addresses(
    handle: &Handle,
    mut batch: Batch,
    index: u32,
    overlay: &Overlay,
) -> Result<Batch> {
    let present = handle.addresses()?;
    let present: Vec<IpNet> = present
        .iter()
        .filter(|address| address.device == index && !address.local_scope)
        .map(|address| address.address)
        .collect();
    let wanted: Vec<IpNet> = overlay.addresses.iter().map(|a| IpNet::from(*a)).collect();
    for address in wanted.iter().filter(|address| !present.contains(address)) {
        batch = batch.add_address(index, *address);
    }
    for address in present.iter().filter(|address| !wanted.contains(address)) {
        batch = batch.delete_address(index, *address);
    }
    Ok(batch)
}

fn create(handle: &Handle, overlay: &Overlay) -> Result<Link> {
    let vxlan = Vxlan {
        name: OVERLAY_LINK,
        mac: overlay.mac,
        port: overlay.port,
        mtu: overlay.mtu,
    };
    let made = handle.add_vxlan(&vxlan);
    let hint = match made.as_ref().err().and_then(malha_kernel::Error::errno) {
        Some(libc_errno) if libc_errno == nix::libc::EEXIST => format!(
            "UDP port {} is another VXLAN device's (flannel's, Calico's?): remove that one, or choose --vxlan-port on every node",
            overlay.port
        ),
        Some(libc_errno) if libc_errno == nix::libc::EOPNOTSUPP => {
            "this kernel has no VXLAN with external control (CONFIG_VXLAN, Linux 4.3): load the module vxlan, or use \
             --routing=direct"
                .to_owned()
        }
        _ => format!("cannot make the overlay device {OVERLAY_LINK}"),
    };
    made.context(hint)
}
