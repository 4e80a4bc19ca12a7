//! Pods' attachments: which ranges and MTU they get, and giving back what dead containers held. containerd never calls
//! GC, and some of its versions skip DEL: so the agent looks itself, now and then.

use std::sync::Arc;

use anyhow::Result;
use malha_endpoint::Manager;
use malha_kernel::{Batch, Handle};

use super::{Target, all};
use crate::model::Desired;

/// See the module.
#[derive(Debug)]
pub struct EndpointsTarget {
    manager: Arc<Manager>,
}

impl EndpointsTarget {
    /// For a manager.
    #[must_use]
    pub fn new(manager: Arc<Manager>) -> Self {
        Self { manager }
    }
}

impl Target for EndpointsTarget {
    fn name(&self) -> &'static str {
        "endpoints"
    }

    fn update(&mut self, desired: &Desired) -> Result<()> {
        self.manager.set_prefixes(&desired.own.pod_ranges)?;
        self.manager.set_mtu(desired.mtus.pod);
        resize(&self.manager, desired.mtus.pod)
    }

    fn prune(&mut self, _: &Desired) -> Result<()> {
        Ok(self.manager.reconcile().map(drop)?)
    }
}

/// Bring links that are there to a smaller MTU. Larger ones than they were made with would only differ from what their
/// runtime was told; packets that are too large for the way are refused with ICMP, so the pods' ends follow by themselves.
fn resize(manager: &Manager, mtu: u32) -> Result<()> {
    let handle = Handle::new()?;
    all(manager.list(), |endpoint| {
        let Some(link) = handle.link(&endpoint.host_link)? else {
            return Ok(());
        };
        let wanted = mtu.min(endpoint.mtu);
        if link.mtu != wanted {
            handle.commit(Batch::new().set_mtu(link.index, wanted))?;
        }
        Ok(())
    })
}
