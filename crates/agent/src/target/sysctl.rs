//! Settings of the host's network namespace: it forwards, and takes from the overlay what its own routes would send
//! another way.

use anyhow::{Context, Result};
use malha_kernel::sysctl;

use super::{Target, all};
use crate::model::{Desired, OVERLAY_LINK};

/// See the module.
#[derive(Debug, Default)]
pub struct SysctlTarget;

impl Target for SysctlTarget {
    fn name(&self) -> &'static str {
        "settings"
    }

    fn update(&mut self, desired: &Desired) -> Result<()> {
        let families = &desired.own.pod_ranges;
        if families.iter().any(|range| range.addr().is_ipv4()) {
            set("net/ipv4/ip_forward", "1")?;
        }
        if families.iter().any(|range| range.addr().is_ipv6()) {
            all(&desired.uplinks, |link| keep_router_advertisements(link))?;
            set("net/ipv6/conf/all/forwarding", "1")?;
        }
        Ok(())
    }

    /// Settings are left as they are: others may depend on them by now.
    fn prune(&mut self, _: &Desired) -> Result<()> {
        Ok(())
    }
}

/// A host that forwards ignores router advertisements unless told not to, and would lose its default route.
fn keep_router_advertisements(link: &str) -> Result<()> {
    let name = format!("net/ipv6/conf/{link}/accept_ra");
    if sysctl::get(&name)?.as_deref() == Some("1") {
        set(&name, "2")?;
    }
    Ok(())
}

/// Packets that other nodes' own addresses send through the overlay come from where the host's routes do not lead.
/// Loose mode, because the stricter of this and the setting for all links counts.
pub fn loosen_overlay() -> Result<()> {
    set(&format!("net/ipv4/conf/{OVERLAY_LINK}/rp_filter"), "2")
}

fn set(name: &str, value: &str) -> Result<()> {
    let remedy = || {
        format!(
            "cannot set {} to {value}: run the agent privileged, or set it on the host",
            name.replace('/', ".")
        )
    };
    sysctl::set(name, value).map(drop).with_context(remedy)
}
