//! Pods' attachments: which ranges and MTU they get, and giving back what dead containers held. containerd never calls
//! GC, and some of its versions skip DEL: so the agent looks itself, now and then.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use malha_endpoint::{Endpoint, Manager};
use malha_kernel::{Batch, Handle, Link, NetNs};

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

/// Bring links that are there to another MTU, but never above what they were made with: that is what their runtimes were
/// told. A pod whose namespace cannot be found keeps its MTU: too large packets are answered with ICMP.
fn resize(manager: &Manager, mtu: u32) -> Result<()> {
    let handle = Handle::new()?;
    all(manager.list(), |endpoint| {
        let wanted = mtu.min(endpoint.mtu);
        let Some(link) = handle
            .link(&endpoint.host_link)?
            .filter(|link| link.mtu != wanted)
        else {
            return Ok(());
        };
        match namespace_of(&endpoint) {
            Some(netns) => set_mtu(&handle, &link, (&netns, &endpoint.key.ifname), wanted),
            None => {
                tracing::debug!(key = %endpoint.key, "cannot find the namespace: the MTU stays as it is");
                Ok(())
            }
        }
    })
}

/// Both ends. The end that receives has to take what the other sends: it is never the smaller one.
fn set_mtu(handle: &Handle, link: &Link, (netns, ifname): (&NetNs, &str), mtu: u32) -> Result<()> {
    let inside = Handle::inside(netns)?;
    let pod_end = inside.require_link(ifname)?.index;
    let host_end = || handle.commit(Batch::new().set_mtu(link.index, mtu));
    if mtu > link.mtu {
        host_end()?;
        inside.commit(Batch::new().set_mtu(pod_end, mtu))?;
    } else {
        inside.commit(Batch::new().set_mtu(pod_end, mtu))?;
        host_end()?;
    }
    Ok(())
}

/// Where the runtime said it is. (`/var/run` is a link to `/run` on the host, and not there in an image without it.)
fn namespace_of(endpoint: &Endpoint) -> Option<NetNs> {
    let sandbox = endpoint.sandbox.as_str();
    let shorter = sandbox
        .strip_prefix("/var")
        .filter(|path| path.starts_with("/run/"));
    let candidates = [Some(sandbox), shorter].into_iter().flatten();
    let mut opened = candidates.filter_map(|path| NetNs::open(Path::new(path)).ok());
    // A name may be another namespace's by now.
    opened.find(|netns| netns.id() == endpoint.netns())
}
