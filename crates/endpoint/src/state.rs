//! What the manager knows: which endpoints there are, and who is at work on which.
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::attachment::{AddRequest, Endpoint, Key};
use crate::error::{Error, Result};
use crate::names::{HOST_MAC, link_name, pod_mac};
use crate::pool::{Pool, PoolStatus};
use crate::record::Phase;

/// How full the node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Each prefix; empty: this node has none yet.
    pub pools: Vec<PoolStatus>,
    /// Attachments that are there.
    pub ready: usize,
    /// Attachments that are being made.
    pub adding: usize,
    /// Attachments that are closed, and whose links are yet to be deleted.
    pub deleting: usize,
}

/// An endpoint that holds something.
#[derive(Clone, Debug)]
pub struct Slot {
    pub endpoint: Endpoint,
    pub phase: Phase,
    /// The phase that its record says. Behind `phase` if the disk refused.
    pub stored: Phase,
    /// Index of the node's end, once it is known.
    pub ifindex: Option<u32>,
}

/// Addresses that rest. Kept beside the pools, because a prefix may become known, or come back, after them.
#[derive(Debug)]
pub struct Freed {
    pub since: Instant,
    /// The endpoint whose record says so. None: it had lost its record.
    pub id: Option<u32>,
    addresses: Vec<IpAddr>,
}

#[derive(Debug)]
pub struct State {
    /// By number: everything but what is freed.
    pub slots: HashMap<u32, Slot>,
    /// The endpoint that an attachment has now.
    keys: HashMap<Key, u32>,
    /// Attachments that some thread is at work on.
    pub busy: HashSet<Key>,
    pools: Vec<Pool>,
    /// Closed endpoints whose links are to be deleted.
    pub doomed: Vec<u32>,
    /// What rests, the oldest first.
    pub freed: VecDeque<Freed>,
    pub mtu: u32,
    pub stopping: bool,
    last_id: u32,
}

impl State {
    pub fn new(mtu: u32) -> Self {
        Self {
            slots: HashMap::new(),
            keys: HashMap::new(),
            busy: HashSet::new(),
            pools: Vec::new(),
            doomed: Vec::new(),
            freed: VecDeque::new(),
            mtu,
            stopping: false,
            last_id: 0,
        }
    }

    /// Take over what a record says.
    pub fn restore(&mut self, stored: Phase, endpoint: Endpoint) {
        let id = endpoint.id;
        self.last_id = self.last_id.max(id);
        let phase = match stored {
            Phase::Ready => Phase::Ready,
            Phase::Adding | Phase::Deleting => Phase::Deleting,
            Phase::Freed => return self.rest(Some(id), endpoint.addresses),
        };
        match phase {
            Phase::Ready => drop(self.keys.insert(endpoint.key.clone(), id)),
            _ => self.doomed.push(id),
        }
        self.occupy(&endpoint.addresses);
        let slot = Slot {
            endpoint,
            phase,
            stored,
            ifindex: None,
        };
        self.slots.insert(id, slot);
    }

    /// Use these prefixes from now on. What has an address of another one keeps it.
    pub fn set_prefixes(&mut self, prefixes: &[IpNet]) -> Result<()> {
        let mut pools: Vec<Pool> = Vec::with_capacity(prefixes.len());
        for prefix in prefixes {
            let pool = Pool::new(*prefix)?;
            let twin = pools
                .iter()
                .find(|other| other.prefix().addr().is_ipv4() == prefix.addr().is_ipv4());
            if let Some(twin) = twin {
                return Err(Error::SameFamily(twin.prefix(), pool.prefix()));
            }
            pools.push(pool);
        }
        for pool in &mut pools {
            match self
                .pools
                .iter()
                .position(|old| old.prefix() == pool.prefix())
            {
                Some(index) => *pool = self.pools.swap_remove(index),
                None => {
                    self.addresses().for_each(|address| pool.occupy(address));
                    self.freed
                        .iter()
                        .flat_map(|freed| {
                            freed
                                .addresses
                                .iter()
                                .map(|address| (*address, freed.since))
                        })
                        .filter(|(address, _)| !self.holds(*address))
                        .for_each(|(address, since)| pool.rest(address, since));
                }
            }
        }
        self.pools = pools;
        Ok(())
    }

    /// Give an attachment a number and addresses, in phase [`Phase::Adding`].
    pub fn reserve(&mut self, request: &AddRequest<'_>, rest: Duration) -> Result<Endpoint> {
        let addresses = self.allocate(rest)?;
        let netns = request.netns.id();
        let endpoint = Endpoint {
            id: self.next_id(),
            key: request.key.clone(),
            pod: request.pod.clone(),
            sandbox: request.sandbox.clone(),
            netns_inode: netns.inode,
            netns_device: netns.device,
            host_link: link_name(&request.key),
            mac: pod_mac(&addresses),
            host_mac: HOST_MAC,
            mtu: self.mtu,
            addresses,
            ports: request.ports.clone(),
        };
        let slot = Slot {
            endpoint: endpoint.clone(),
            phase: Phase::Adding,
            stored: Phase::Adding,
            ifindex: None,
        };
        self.slots.insert(endpoint.id, slot);
        self.keys.insert(endpoint.key.clone(), endpoint.id);
        Ok(endpoint)
    }

    /// The endpoint that an attachment has now.
    pub fn find(&self, key: &Key) -> Option<&Slot> {
        self.slots.get(self.keys.get(key)?)
    }

    /// The endpoint that has the link with this index.
    pub fn owner(&self, index: u32) -> Option<&Slot> {
        self.slots.values().find(|slot| slot.ifindex == Some(index))
    }

    /// From now on the attachment has no endpoint; what the endpoint holds, it holds still.
    pub fn condemn(&mut self, id: u32) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.phase = Phase::Deleting;
            if self.keys.get(&slot.endpoint.key) == Some(&id) {
                self.keys.remove(&slot.endpoint.key);
            }
        }
    }

    /// It holds nothing any more, and its addresses rest.
    pub fn release(&mut self, id: u32) {
        self.condemn(id);
        if let Some(slot) = self.slots.remove(&id) {
            self.rest(Some(id), slot.endpoint.addresses);
        }
    }

    /// Whether some endpoint holds this address.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.addresses().any(|held| held == address)
    }

    pub fn status(&self) -> Status {
        let count = |phase| {
            self.slots
                .values()
                .filter(|slot| slot.phase == phase)
                .count()
        };
        Status {
            pools: self.pools.iter().map(Pool::status).collect(),
            ready: count(Phase::Ready),
            adding: count(Phase::Adding),
            deleting: count(Phase::Deleting),
        }
    }

    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.slots
            .values()
            .flat_map(|slot| slot.endpoint.addresses.iter().copied())
    }

    fn occupy(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            self.pools.iter_mut().for_each(|pool| pool.occupy(*address));
        }
    }

    /// Nobody gets these for a while, unless somebody has them already.
    pub fn rest(&mut self, id: Option<u32>, mut addresses: Vec<IpAddr>) {
        addresses.retain(|address| !self.holds(*address));
        let since = Instant::now();
        for address in &addresses {
            self.pools
                .iter_mut()
                .for_each(|pool| pool.rest(*address, since));
        }
        self.freed.push_back(Freed {
            since,
            id,
            addresses,
        });
    }

    /// One address of each pool, or none.
    fn allocate(&mut self, rest: Duration) -> Result<Vec<IpAddr>> {
        if self.pools.is_empty() {
            return Err(Error::NoPrefix);
        }
        let now = Instant::now();
        self.pools
            .iter()
            .try_for_each(|pool| pool.has_free(now, rest))?;
        let pools = self.pools.iter_mut();
        pools.map(|pool| pool.allocate(now, rest)).collect()
    }

    fn next_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            let resting = self
                .freed
                .iter()
                .any(|freed| freed.id == Some(self.last_id));
            if !resting && !self.slots.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}
