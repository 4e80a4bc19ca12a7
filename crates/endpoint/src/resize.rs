//! Another MTU for pods that live.
use malha_kernel::{Batch, Handle, NetNs};

use crate::attachment::Endpoint;
use crate::error::{Error, Result};
use crate::manager::Shared;
use crate::record::Phase;
use crate::state::Slot;

impl Shared {
    /// See [`crate::Manager::resize`].
    pub fn resize(&self, mtu: u32) -> Result<usize> {
        self.state().mtu = mtu;
        let mut resized = 0;
        let mut failures = Vec::new();
        for slot in self.ready() {
            let key = &slot.endpoint.key;
            let _turn = self.turn(key);
            let known = self.state().find(key).cloned();
            let same =
                known.filter(|now| now.endpoint.id == slot.endpoint.id && now.endpoint.mtu != mtu);
            match same.map(|slot| self.resize_one(&slot, mtu)) {
                None => {}
                Some(Ok(done)) => resized += usize::from(done),
                Some(Err(error)) => failures.push(format!("{key}: {error}")),
            }
        }
        if failures.is_empty() {
            Ok(resized)
        } else {
            Err(Error::Resize(failures))
        }
    }

    /// The pod's end is never larger than the node's: between them, what is too large is lost without a word.
    fn resize_one(&self, slot: &Slot, mtu: u32) -> Result<bool> {
        let endpoint = &slot.endpoint;
        let (Some(netns), Some(index)) = (find_netns(endpoint), slot.ifindex) else {
            tracing::info!(key = %endpoint.key, mtu, "leaving a pod its MTU: its network namespace cannot be opened from here");
            return Ok(false);
        };
        let node = || Ok(self.handle.commit(Batch::new().set_mtu(index, mtu))?);
        let pod = || resize_pod(endpoint, &netns, mtu);
        if mtu > endpoint.mtu {
            node().and_then(|()| pod())?;
        } else {
            pod().and_then(|()| node())?;
        }
        let resized = Endpoint {
            mtu,
            ..endpoint.clone()
        };
        self.records.write(&resized, Phase::Ready)?;
        if let Some(slot) = self.state().slots.get_mut(&endpoint.id) {
            slot.endpoint.mtu = mtu;
        }
        Ok(true)
    }
}

/// An MTU that somebody in the pod has made smaller than ours was, stays as long as it is small enough.
fn resize_pod(endpoint: &Endpoint, netns: &NetNs, mtu: u32) -> Result<()> {
    let handle = Handle::inside(netns)?;
    let link = handle.require_link(&endpoint.key.ifname)?;
    if link.mtu == endpoint.mtu || link.mtu > mtu {
        handle.commit(Batch::new().set_mtu(link.index, mtu))?;
    }
    Ok(())
}

fn find_netns(endpoint: &Endpoint) -> Option<NetNs> {
    let named = NetNs::open(endpoint.sandbox.as_ref()).ok();
    named
        .filter(|netns| netns.id() == endpoint.netns())
        .or_else(|| NetNs::of_some_process(endpoint.netns()))
}
