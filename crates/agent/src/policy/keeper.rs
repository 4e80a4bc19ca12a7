//! The thread that owns the compiler.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use malha_datapath::{Datapath, Result};
use malha_endpoint::Endpoint;
use malha_policy::compile::{Change, Engine};
use malha_policy::maps::{self, EndpointTables};
use malha_policy::model::{self, Node, ObjectRef, PodKey, Settings};

use super::admitter::Reply;
use super::known::Known;
use super::tables::Tables;
use super::{Inbox, Message, Seen};
use crate::cluster::objects::Heard;
use crate::model::{NodeFacts, first_address};

/// How long a pod that the API server has not told of may wait. Its kubelet knows it, so it cannot be long.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
pub struct Keeper {
    node: String,
    /// None: not all is known that it has to know from the beginning.
    engine: Option<Engine>,
    tables: Tables,
    /// The ranges that pods have their addresses from.
    pod_ranges: BTreeSet<IpNet>,
    /// Whether the cluster's configuration was read.
    ranges_known: bool,
    /// What to compile next.
    changes: Vec<Change>,
    namespaces: Known<String>,
    nodes: Known<String>,
    policies: Known<ObjectRef>,
    known_pods: Known<PodKey>,
    pods: BTreeMap<PodKey, Seen>,
    /// This node's endpoints.
    local: BTreeMap<u32, Endpoint>,
    waiting: Vec<Waiting>,
    ask: Ask,
}

/// Asks the API server itself whether there is a pod; None: it does not answer.
pub type Ask = Box<dyn Fn(&PodKey) -> Option<bool> + Send>;

struct Waiting {
    endpoint: Endpoint,
    reply: Reply,
    until: Instant,
    /// Whether the API server was asked, because its watch had not told of the pod.
    asked: bool,
}

impl Keeper {
    /// For these endpoints, which are there already.
    ///
    /// # Errors
    /// The kernel's maps cannot be read.
    pub fn new(
        node: &str,
        datapath: Arc<Datapath>,
        endpoints: Vec<Endpoint>,
        pod_ranges: &[IpNet],
        ask: Ask,
    ) -> Result<Self> {
        let endpoints = endpoints.into_iter();
        Ok(Self {
            node: node.to_owned(),
            engine: None,
            tables: Tables::new(datapath)?,
            pod_ranges: pod_ranges.iter().copied().collect(),
            ranges_known: false,
            changes: Vec::new(),
            namespaces: Known::default(),
            nodes: Known::default(),
            policies: Known::default(),
            known_pods: Known::default(),
            pods: BTreeMap::new(),
            local: endpoints.map(|endpoint| (endpoint.id, endpoint)).collect(),
            waiting: Vec::new(),
            ask,
        })
    }

    /// Work until nobody is left who could tell.
    ///
    /// # Errors
    /// The kernel refused something. It holds what was, or what should be, or for some endpoints the one and for some the
    /// other; the next agent begins anew.
    pub fn run(mut self, inbox: &Inbox) -> Result<()> {
        while let Some(messages) = self.next(&inbox.0) {
            messages
                .into_iter()
                .try_for_each(|message| self.take(message))?;
            self.compile()?;
            self.give_up();
        }
        Ok(())
    }

    /// Everything that is there to be read; waits for the first. None: it is over.
    fn next(&self, inbox: &Receiver<Message>) -> Option<Vec<Message>> {
        let soonest = self.waiting.iter().map(|waiting| waiting.until).min();
        let first = match soonest {
            None => inbox.recv().ok()?,
            Some(until) => {
                match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(message) => message,
                    Err(RecvTimeoutError::Timeout) => return Some(Vec::new()),
                    Err(RecvTimeoutError::Disconnected) => return None,
                }
            }
        };
        let messages: Vec<_> = std::iter::once(first).chain(inbox.try_iter()).collect();
        let ends = messages
            .iter()
            .any(|message| matches!(message, Message::Stop));
        (!ends).then_some(messages)
    }

    fn take(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Namespaces(heard) => {
                let each = self
                    .namespaces
                    .take(heard, |namespace| namespace.name.clone());
                let each = each.into_iter();
                self.changes
                    .extend(each.map(|(name, there)| Change::Namespace(name, there)));
            }
            Message::Pods(heard) => self.take_pods(heard),
            Message::Policies(heard) => {
                let each = self
                    .policies
                    .take(heard, |policy| policy.object())
                    .into_iter();
                self.changes
                    .extend(each.map(|(object, there)| Change::Policy(object, there)));
            }
            Message::Nodes(heard) => {
                for (name, facts) in self.nodes.take(heard, |facts| facts.name.clone()) {
                    self.pod_ranges
                        .extend(facts.iter().flat_map(|facts| facts.pod_ranges.clone()));
                    self.changes.push(Change::Node(name, facts.map(node)));
                }
            }
            Message::PodRanges(ranges) => {
                self.ranges_known = true;
                self.pod_ranges.extend(ranges);
            }
            Message::Services(ranges) => self.tables.set_services(ranges.into_iter().collect())?,
            Message::Stop => {}
            Message::Admit(endpoint, reply) => {
                let until = Instant::now() + PATIENCE;
                self.waiting.push(Waiting {
                    endpoint,
                    reply,
                    until,
                    asked: false,
                });
            }
            Message::Release(id) => {
                self.tables.detach(id)?;
                if let Some(endpoint) = self.local.remove(&id) {
                    self.tell_again(&endpoint);
                }
            }
        }
        Ok(())
    }

    fn take_pods(&mut self, heard: Heard<Seen>) {
        for (key, seen) in self.known_pods.take(heard, Seen::key) {
            match seen {
                Some(seen) => drop(self.pods.insert(key.clone(), seen)),
                None => drop(self.pods.remove(&key)),
            }
            let pod = self.pod(&key);
            self.changes.push(Change::Pod(key, pod));
        }
    }

    /// A pod as the compiler should see it. Of this node's, we know the addresses before the API server does.
    fn pod(&self, key: &PodKey) -> Option<model::Pod> {
        let seen = self.pods.get(key)?;
        let mut pod = seen.pod.clone()?;
        let own: BTreeSet<IpAddr> = self
            .local
            .values()
            .filter(|endpoint| key_of(endpoint).as_ref() == Some(key))
            .flat_map(|endpoint| endpoint.addresses.iter().copied())
            .collect();
        if !own.is_empty() {
            pod.addresses = own.into_iter().collect();
        }
        Some(pod)
    }

    fn tell_again(&mut self, endpoint: &Endpoint) {
        if let Some(key) = key_of(endpoint) {
            let pod = self.pod(&key);
            self.changes.push(Change::Pod(key, pod));
        }
    }

    /// Bring into force what was told, if everything was told once.
    fn compile(&mut self) -> Result<()> {
        if !self.missing().is_empty() {
            return Ok(());
        }
        let admitted = self.admissible();
        for waiting in &admitted {
            self.local
                .insert(waiting.endpoint.id, waiting.endpoint.clone());
            self.tell_again(&waiting.endpoint);
        }
        let is_first = self.engine.is_none();
        let settings = Settings {
            pod_ranges: self.pod_ranges.iter().copied().collect(),
            ..Settings::default()
        };
        let engine = self
            .engine
            .get_or_insert_with(|| Engine::new(&self.node, settings));
        let delta = engine.apply(std::mem::take(&mut self.changes));
        self.tables.apply(&delta.ops)?;
        if is_first {
            let local: Vec<Endpoint> = self.local.values().cloned().collect();
            local
                .iter()
                .try_for_each(|endpoint| self.attach(endpoint))?;
            self.tables.forget_others()?;
            tracing::info!(pods = self.pods.len(), "policy is in force");
        }
        for waiting in admitted {
            let known = self.compiled(&waiting.endpoint).is_some();
            self.attach(&waiting.endpoint)?;
            let unknown = || "the compiler does not know the pod".to_owned();
            let _ = waiting.reply.send(known.then_some(()).ok_or_else(unknown));
        }
        self.admit_foreigners();
        Ok(())
    }

    /// An endpoint and its tables, if it is a pod's that the API server has told of.
    fn compiled(&self, endpoint: &Endpoint) -> Option<(maps::Endpoint, EndpointTables)> {
        let compiled = maps::Endpoint::Pod(key_of(endpoint)?);
        let tables = self.engine.as_ref()?.endpoints().get(&compiled).copied()?;
        Some((compiled, tables))
    }

    fn attach(&mut self, endpoint: &Endpoint) -> Result<()> {
        match (self.compiled(endpoint), key_of(endpoint)) {
            (Some((compiled, tables)), _) => self.tables.attach(endpoint.id, compiled, tables),
            // Told of later, it gets its tables then.
            (None, Some(key)) => {
                let compiled = maps::Endpoint::Pod(key);
                self.tables
                    .attach(endpoint.id, compiled, EndpointTables::default())
            }
            (None, None) => Ok(()),
        }
    }

    /// Those whose pods are known, as bound to this node.
    fn admissible(&mut self) -> Vec<Waiting> {
        let is_known = |waiting: &mut Waiting| {
            let Some(pod) = &waiting.endpoint.pod else {
                return true;
            };
            let seen = self.pods.get(&(pod.namespace.clone(), pod.name.clone()));
            seen.is_some_and(|seen| {
                let same = pod.uid.is_empty() || pod.uid == seen.uid;
                same && seen.pod.as_ref().is_some_and(|pod| pod.node == self.node)
            })
        };
        self.waiting.extract_if(.., is_known).collect()
    }

    /// Sandboxes that somebody made by hand have no pod, so that no policy can be about them. A watch may be late: what it
    /// does not know is asked for.
    fn admit_foreigners(&mut self) {
        let is_foreign = |waiting: &mut Waiting| {
            let asked = std::mem::replace(&mut waiting.asked, true);
            let unknown = |key: &PodKey| !self.pods.contains_key(key);
            let key = key_of(&waiting.endpoint).filter(|key| !asked && unknown(key));
            key.is_some_and(|key| (self.ask)(&key) == Some(false))
        };
        for foreign in self.waiting.extract_if(.., is_foreign) {
            tracing::info!(pod = ?key_of(&foreign.endpoint), "a sandbox without a pod: no policy is about it");
            let _ = foreign.reply.send(Ok(()));
        }
    }

    /// What was not told of yet.
    fn missing(&self) -> Vec<&'static str> {
        let told = [
            ("namespaces", self.namespaces.is_complete()),
            ("pods", self.known_pods.is_complete()),
            ("network policies", self.policies.is_complete()),
            ("nodes", self.nodes.is_complete()),
            ("the pods' ranges", self.ranges_known),
        ];
        let missing = told.into_iter().filter(|(_, complete)| !complete);
        missing.map(|(what, _)| what).collect()
    }

    /// Give up on those that have waited too long.
    fn give_up(&mut self) {
        let now = Instant::now();
        let missing = self.missing();
        for late in self.waiting.extract_if(.., |waiting| waiting.until <= now) {
            let reason = match (missing.as_slice(), &late.endpoint.pod) {
                ([], Some(pod)) => format!(
                    "the API server has not told of pod {}/{} on this node",
                    pod.namespace, pod.name
                ),
                (missing, _) => format!("the API server has not told of {}", missing.join(", ")),
            };
            let _ = late.reply.send(Err(reason));
        }
    }
}

impl Seen {
    fn key(&self) -> PodKey {
        (self.namespace.clone(), self.name.clone())
    }
}

fn key_of(endpoint: &Endpoint) -> Option<PodKey> {
    let pod = endpoint.pod.as_ref()?;
    Some((pod.namespace.clone(), pod.name.clone()))
}

/// Besides its own addresses a node has the first of each pod range: its overlay device's.
fn node(facts: NodeFacts) -> Node {
    let gateways = facts.pod_ranges.iter().filter_map(first_address);
    let addresses: BTreeSet<IpAddr> = facts.addresses.iter().copied().chain(gateways).collect();
    Node {
        name: facts.name,
        labels: BTreeMap::new(),
        addresses: addresses.into_iter().collect(),
    }
}
