//! Bringing kernel and datapath to what the records say.
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use malha_kernel::{Link, Neighbour, PROTOCOL, Route};

use crate::error::Result;
use crate::manager::Shared;
use crate::names::is_link_name;
use crate::plumbing::host_side;
use crate::record::Phase;
use crate::state::Slot;

/// What reconciliation found to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// ADDs and DELs that were cut short, now being undone or finished.
    pub unfinished: usize,
    /// Attachments whose links were gone, and with them their containers.
    pub lost: usize,
    /// Links without a record, deleted.
    pub links: usize,
    /// Datapath entries without a record, removed.
    pub entries: usize,
    /// Attachments that lacked something and have it again.
    pub repaired: usize,
    /// Port mappings without a record, removed, and those that were missing, added.
    pub ports: usize,
    /// Attachments that something is wrong with still; the log says what.
    pub failed: usize,
}

enum Outcome {
    Whole,
    Repaired,
    Lost,
}

/// What the kernel has, read at one time.
struct Seen {
    links: HashMap<String, Link>,
    routes: HashSet<(IpAddr, u32)>,
    neighbours: HashSet<Neighbour>,
    entries: Vec<malha_datapath::Endpoint>,
}

impl Shared {
    /// See [`crate::Manager::reconcile`]. What others are at work on meanwhile is left to them.
    pub fn reconcile(&self) -> Result<Reconciled> {
        let mut done = Reconciled {
            unfinished: self.close_doomed()?,
            ..Reconciled::default()
        };
        // What is ready now was ready before the kernel was read.
        let ready = self.ready();
        let seen = self.see()?;
        for slot in ready {
            match self.reconcile_one(&slot, &seen) {
                Ok(Outcome::Whole) => {}
                Ok(Outcome::Repaired) => done.repaired += 1,
                Ok(Outcome::Lost) => done.lost += 1,
                // A container may be dying at this moment; none must keep the others from being looked after.
                Err(error) => {
                    tracing::warn!(key = %slot.endpoint.key, id = slot.endpoint.id, %error, "an attachment is not as it should be");
                    done.failed += 1;
                }
            }
        }
        done.links = self.delete_strays(&seen)?;
        done.entries = self.remove_stray_entries(&seen)?;
        match self.reconcile_ports() {
            Ok(ports) => done.ports = ports,
            Err(error) => {
                tracing::warn!(%error, "host ports may not be as they should be");
                done.failed += 1;
            }
        }
        Ok(done)
    }

    fn see(&self) -> Result<Seen> {
        let links = self.handle.links()?.into_iter();
        let routes = self.handle.routes(PROTOCOL)?.into_iter();
        Ok(Seen {
            links: links.map(|link| (link.name.clone(), link)).collect(),
            routes: routes.filter_map(host_route).collect(),
            neighbours: self.handle.permanent_neighbours()?.into_iter().collect(),
            entries: self.datapath.endpoints().list()?,
        })
    }

    fn close_doomed(&self) -> Result<usize> {
        let doomed: Vec<Slot> = {
            let state = self.state();
            state
                .doomed
                .iter()
                .filter_map(|id| state.slots.get(id).cloned())
                .collect()
        };
        doomed
            .iter()
            .try_for_each(|slot| self.close(&slot.endpoint))?;
        Ok(doomed.len())
    }

    fn reconcile_one(&self, slot: &Slot, seen: &Seen) -> Result<Outcome> {
        let link = seen.links.get(&slot.endpoint.host_link);
        let Some(link) = link.filter(|link| slot.ifindex.is_none_or(|index| index == link.index))
        else {
            tracing::info!(key = %slot.endpoint.key, id = slot.endpoint.id, "giving back what a dead container held");
            return self.unplug_if_same(slot).map(|()| Outcome::Lost);
        };
        let repaired = self.repair(slot, link, seen)?;
        Ok(if repaired {
            Outcome::Repaired
        } else {
            Outcome::Whole
        })
    }

    /// Whether something was missing.
    fn repair(&self, slot: &Slot, link: &Link, seen: &Seen) -> Result<bool> {
        let endpoint = &slot.endpoint;
        let _turn = self.turn(&endpoint.key);
        {
            let mut state = self.state();
            let Some(now) = state
                .slots
                .get_mut(&endpoint.id)
                .filter(|now| now.phase == Phase::Ready)
            else {
                return Ok(false);
            };
            now.ifindex = Some(link.index);
        }
        let wanted = endpoint.datapath(link.index, true);
        let has_entry = |address: &IpAddr| {
            seen.entries.iter().any(|entry| {
                let same = (entry.id, entry.ifindex, entry.mac, entry.host_mac)
                    == (wanted.id, wanted.ifindex, wanted.mac, wanted.host_mac);
                same && entry.addresses.contains(address)
            })
        };
        let is_routed = |address: &IpAddr| {
            let neighbour = Neighbour {
                device: link.index,
                address: *address,
                mac: endpoint.mac,
            };
            seen.routes.contains(&(*address, link.index)) && seen.neighbours.contains(&neighbour)
        };
        let entered = endpoint.addresses.iter().all(has_entry);
        let routed = link.up && endpoint.addresses.iter().all(is_routed);
        if !entered {
            self.datapath.endpoints().upsert(&wanted)?;
        }
        self.datapath.attach_endpoint(link.index)?;
        if !routed {
            self.handle.commit(host_side(endpoint, link.index))?;
        }
        Ok(!entered || !routed)
    }

    /// Links that look like ours and that no endpoint holds.
    fn delete_strays(&self, seen: &Seen) -> Result<usize> {
        let strays: Vec<u32> = {
            let state = self.state();
            let held: HashSet<&str> = state
                .slots
                .values()
                .map(|slot| slot.endpoint.host_link.as_str())
                .collect();
            let is_stray = |link: &&Link| {
                link.kind == "veth"
                    && is_link_name(&link.name)
                    && !held.contains(link.name.as_str())
            };
            seen.links
                .values()
                .filter(is_stray)
                .map(|link| link.index)
                .collect()
        };
        self.handle.delete_links(&strays)?;
        Ok(strays.len())
    }

    /// Entries whose addresses no endpoint holds. While the state is locked, nobody gets one of them, and then they rest: a
    /// pod that has lost its record had them until now.
    fn remove_stray_entries(&self, seen: &Seen) -> Result<usize> {
        let mut state = self.state();
        let held: HashSet<IpAddr> = state.addresses().collect();
        let seen = seen.entries.iter().flat_map(|entry| &entry.addresses);
        let mut removed = Vec::new();
        for stray in seen.filter(|address| !held.contains(address)) {
            // What was seen may have been removed with its endpoint since.
            if self.datapath.endpoints().get(*stray)?.is_some() {
                self.datapath.endpoints().remove(&[*stray])?;
                removed.push(*stray);
            }
        }
        let count = removed.len();
        if count > 0 {
            state.rest(None, removed);
            self.work.notify_one();
        }
        Ok(count)
    }
}

fn host_route(route: Route) -> Option<(IpAddr, u32)> {
    let whole = route.prefix.prefix_len() == route.prefix.max_prefix_len();
    Some((route.prefix.addr(), route.device?)).filter(|_| whole)
}
