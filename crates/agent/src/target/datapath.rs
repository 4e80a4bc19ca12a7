//! The datapath: what is true of the node, where its programs are attached, and its routes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Result;
use malha_datapath::{Datapath, Node};
use malha_kernel::Handle;

use super::{Target, all};
use crate::model::{Desired, OVERLAY_LINK};

/// See the module.
#[derive(Debug)]
pub struct DatapathTarget {
    datapath: Arc<Datapath>,
    /// Links known to be attached; None: not known, an agent before this one may have attached any.
    attached: Option<BTreeSet<String>>,
}

impl DatapathTarget {
    /// For an open datapath.
    #[must_use]
    pub fn new(datapath: Arc<Datapath>) -> Self {
        Self {
            datapath,
            attached: None,
        }
    }
}

impl Target for DatapathTarget {
    fn name(&self) -> &'static str {
        "datapath"
    }

    fn update(&mut self, desired: &Desired) -> Result<()> {
        let overlay = match desired.overlay {
            Some(_) => Some(Handle::new()?.require_link(OVERLAY_LINK)?.index),
            None => None,
        };
        let node = Node {
            overlay_ifindex: overlay,
            vni: desired.vni,
            overlay_mtu: desired.mtus.overlay,
            direct_mtu: desired.mtus.direct,
        };
        if self.datapath.node()? != node {
            self.datapath.configure(&node)?;
        }
        // Routes come before the hooks: without them every packet that a hook sees from a node would be forged.
        let present: BTreeMap<_, _> = self.datapath.routes().list()?.into_iter().collect();
        let differs = |(prefix, next_hop): &(_, _)| present.get(*prefix) != Some(*next_hop);
        all(
            desired.routes.iter().filter(differs),
            |(prefix, next_hop)| Ok(self.datapath.routes().upsert(*prefix, *next_hop)?),
        )?;
        if overlay.is_some() {
            self.datapath.attach_overlay(OVERLAY_LINK)?;
        }
        all(&desired.uplinks, |link| {
            Ok(self.datapath.attach_uplink(link)?)
        })
    }

    fn prune(&mut self, desired: &Desired) -> Result<()> {
        let present = self.datapath.routes().list()?;
        let gone = present
            .iter()
            .filter(|(prefix, _)| !desired.routes.contains_key(prefix));
        all(gone, |(prefix, _)| {
            self.datapath
                .routes()
                .remove(*prefix)
                .map(drop)
                .map_err(Into::into)
        })?;
        let links = Handle::new()?.links()?;
        let present: BTreeSet<&str> = links.iter().map(|link| link.name.as_str()).collect();
        let candidates: Vec<&str> = match &self.attached {
            Some(attached) => attached.iter().map(String::as_str).collect(),
            // Pods' links have other hooks, and many they are.
            None => links
                .iter()
                .filter(|link| link.kind != "veth" || link.peer.is_none())
                .map(|link| link.name.as_str())
                .collect(),
        };
        let unwanted = candidates.into_iter().filter(|name| {
            *name != OVERLAY_LINK && !desired.uplinks.contains(*name) && present.contains(name)
        });
        all(unwanted, |name| Ok(self.datapath.detach_uplink(name)?))?;
        self.attached = Some(desired.uplinks.clone());
        Ok(())
    }
}
