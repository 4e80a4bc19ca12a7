//! Settings of the host's network namespace: it forwards, and takes from the overlay what its own routes would send
//! another way.

use anyhow::{Context, Result};
use malha_kernel::sysctl;

use super::{Target, all};
use crate::before::Before;
use crate::model::{Desired, OVERLAY_LINK};

/// See the module.
#[derive(Debug)]
pub struct SysctlTarget {
    before: Before,
}

impl SysctlTarget {
    /// One that writes down what it changes.
    #[must_use]
    pub fn new(before: Before) -> Self {
        Self { before }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        self.before
            .set(name, value)
            .with_context(|| remedy(name, value))
    }

    /// A host that forwards ignores router advertisements unless told not to, and would lose its default route.
    fn keep_router_advertisements(&mut self, link: &str) -> Result<()> {
        let name = format!("net/ipv6/conf/{link}/accept_ra");
        if sysctl::get(&name)?.as_deref() == Some("1") {
            self.set(&name, "2")?;
        }
        Ok(())
    }
}

impl Target for SysctlTarget {
    fn name(&self) -> &'static str {
        "settings"
    }

    fn update(&mut self, desired: &Desired) -> Result<()> {
        let families = &desired.own.pod_ranges;
        if families.iter().any(|range| range.addr().is_ipv4()) {
            self.set("net/ipv4/ip_forward", "1")?;
        }
        if families.iter().any(|range| range.addr().is_ipv6()) {
            all(&desired.uplinks, |link| {
                self.keep_router_advertisements(link)
            })?;
            self.set("net/ipv6/conf/all/forwarding", "1")?;
        }
        Ok(())
    }

    /// Settings are left as they are: others may depend on them by now.
    fn prune(&mut self, _: &Desired) -> Result<()> {
        Ok(())
    }
}

/// Packets that other nodes' own addresses send through the overlay come from where the host's routes do not lead.
/// Loose mode, because the stricter of this and the setting for all links counts.
pub fn loosen_overlay() -> Result<()> {
    let name = format!("net/ipv4/conf/{OVERLAY_LINK}/rp_filter");
    sysctl::set(&name, "2")
        .map(drop)
        .with_context(|| remedy(&name, "2"))
}

fn remedy(name: &str, value: &str) -> String {
    format!(
        "cannot set {} to {value}: run the agent privileged, or set it on the host",
        name.replace('/', ".")
    )
}
