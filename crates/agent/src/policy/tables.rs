//! The compiler's operations on the kernel's maps.
//!
//! Each agent begins anew with its numbers, while pods go on under those of the agent before. So numbers belong to one
//! of two generations: what is new is made beside what holds, and each endpoint changes over in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use malha_datapath::{Datapath, Peer, Policies, Policy, PortPrefix, Result, Verdict, identity};
use malha_policy::maps::{Endpoint, EndpointTables, NO_TABLE, Op, PeerValue};
use malha_policy::maps::{PortKey, Verdict as Compiled};

/// Numbers of tables and classes of the second generation begin here.
const SECOND: u32 = 1 << 31;

/// See the module.
pub struct Tables {
    datapath: Arc<Datapath>,
    generation: u32,
    revision: u32,
    /// Which compiled endpoint each attached one is.
    attached: BTreeMap<u32, Endpoint>,
    /// What isolated endpoints have.
    isolated: BTreeMap<u32, EndpointTables>,
    services: BTreeSet<IpNet>,
}

impl Tables {
    /// Of the generation that is not in use.
    pub fn new(datapath: Arc<Datapath>) -> Result<Self> {
        let held = datapath.policies().list()?;
        let used = held.first().map_or(1, |(_, policy)| policy.generation);
        let revision = held.iter().map(|(_, policy)| policy.revision).max();
        let tables = Self {
            datapath,
            generation: 1 - used.min(1),
            revision: revision.unwrap_or(0),
            attached: BTreeMap::new(),
            isolated: BTreeMap::new(),
            services: BTreeSet::new(),
        };
        tables.clear(|generation| generation == tables.generation)?;
        Ok(tables)
    }

    /// Do these operations, in this order. Then everything that is connected is judged again.
    pub fn apply(&mut self, ops: &[Op]) -> Result<()> {
        if ops.is_empty() {
            return Ok(());
        }
        self.revision = self.revision.wrapping_add(1);
        ops.iter().try_for_each(|op| self.apply_one(op))?;
        let isolated = self.isolated.clone();
        isolated
            .into_iter()
            .try_for_each(|(id, tables)| self.write(id, tables))
    }

    /// An endpoint is there, with these tables.
    pub fn attach(&mut self, id: u32, endpoint: Endpoint, tables: EndpointTables) -> Result<()> {
        self.attached.insert(id, endpoint);
        self.isolate(id, tables)
    }

    /// An endpoint is gone.
    pub fn detach(&mut self, id: u32) -> Result<()> {
        self.attached.remove(&id);
        self.isolate(id, EndpointTables::default())
    }

    /// Addresses whose backends are judged in their stead.
    pub fn set_services(&mut self, ranges: BTreeSet<IpNet>) -> Result<()> {
        let policies = self.datapath.policies();
        for gone in self.services.difference(&ranges) {
            policies.remove_identity(self.generation, *gone)?;
        }
        for range in &ranges {
            policies.set_identity(self.generation, *range, identity::SERVICE)?;
        }
        self.services = ranges;
        Ok(())
    }

    /// Remove what the agent before left: everything that is there has changed over.
    pub fn forget_others(&self) -> Result<()> {
        for (id, _) in self.policies().list()? {
            if !self.isolated.contains_key(&id) {
                self.policies().remove(id)?;
            }
        }
        self.clear(|generation| generation != self.generation)
    }

    fn policies(&self) -> &Policies {
        self.datapath.policies()
    }

    fn clear(&self, of: impl Fn(u32) -> bool) -> Result<()> {
        let policies = self.policies();
        let numbered = |number: u32| of(number / SECOND);
        for (generation, prefix, _) in policies.identities()? {
            if of(generation) {
                policies.remove_identity(generation, prefix)?;
            }
        }
        for (table, identity, _) in policies.peers()? {
            if numbered(table) {
                policies.remove_peer(table, identity)?;
            }
        }
        for (class, prefix, _) in policies.ports()? {
            if numbered(class) {
                policies.remove_port(class, prefix)?;
            }
        }
        Ok(())
    }

    fn apply_one(&mut self, op: &Op) -> Result<()> {
        let own = |number: u32| number + self.generation * SECOND;
        let policies = self.datapath.policies();
        match op {
            Op::SetPeer(key, value) => {
                let peer = match value {
                    PeerValue::Fixed(verdict) => Peer::Fixed(translate(verdict)),
                    PeerValue::Class(class) => Peer::Class(own(*class)),
                };
                policies.set_peer(own(key.table), key.identity, peer)
            }
            Op::DeletePeer(key) => policies.remove_peer(own(key.table), key.identity),
            Op::SetPort(key, verdict) => {
                policies.set_port(own(key.class), prefix(key), translate(verdict))
            }
            Op::DeletePort(key) => policies.remove_port(own(key.class), prefix(key)),
            Op::SetAddress(prefix, identity) => {
                policies.set_identity(self.generation, *prefix, *identity)
            }
            Op::DeleteAddress(prefix) => policies.remove_identity(self.generation, *prefix),
            Op::SetEndpoint(endpoint, tables) => self.change_over(endpoint, *tables),
            Op::DeleteEndpoint(endpoint) => self.change_over(endpoint, EndpointTables::default()),
        }
    }

    /// A pod may have two attachments: its sandbox is replaced.
    fn change_over(&mut self, endpoint: &Endpoint, tables: EndpointTables) -> Result<()> {
        let same = self.attached.iter().filter(|(_, other)| *other == endpoint);
        let ids: Vec<u32> = same.map(|(id, _)| *id).collect();
        ids.into_iter().try_for_each(|id| self.isolate(id, tables))
    }

    fn isolate(&mut self, id: u32, tables: EndpointTables) -> Result<()> {
        if tables == EndpointTables::default() {
            self.isolated.remove(&id);
            return self.policies().remove(id);
        }
        self.isolated.insert(id, tables);
        self.write(id, tables)
    }

    fn write(&self, id: u32, tables: EndpointTables) -> Result<()> {
        let own = |table: u32| (table != NO_TABLE).then(|| table + self.generation * SECOND);
        let policy = Policy {
            ingress: own(tables.ingress),
            egress: own(tables.egress),
            revision: self.revision,
            generation: self.generation,
        };
        self.policies().set(id, policy)
    }
}

fn translate(verdict: &Compiled) -> Verdict {
    Verdict {
        allow: verdict.allow,
        log: verdict.log,
        rule: verdict.rule,
        staged: verdict.staged.map(|staged| staged.rule),
    }
}

fn prefix(key: &PortKey) -> PortPrefix {
    PortPrefix {
        protocol: key.prefix.protocol,
        port: key.prefix.port,
        bits: key.prefix.length,
    }
}
