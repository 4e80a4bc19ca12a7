//! What changes of the cluster touch.
use std::net::IpAddr;

use super::{
    Change,
    engine::{Engine, Owner, Work},
    link,
};
use crate::{
    maps::Endpoint,
    model::{Kind, Namespace, Node, ObjectRef, Pod, PodKey},
    mutant::mutant,
    read::{self, host_prefix},
};

impl Engine {
    pub(super) fn note(&mut self, change: Change, work: &mut Work) {
        match change {
            Change::Namespace(name, namespace) => self.note_namespace(name, namespace, work),
            Change::Pod(key, pod) => self.note_pod(key, pod, work),
            Change::Node(name, node) => self.note_node(name, node, work),
            Change::Policy(object, policy) => {
                let before = match policy {
                    Some(policy) => self.policies.insert(object.clone(), *policy),
                    None => self.policies.remove(&object),
                };
                if before.as_ref() != self.policies.get(&object) {
                    work.reread.insert(object);
                }
            }
            Change::AddressSet(name, set) => {
                match set {
                    Some(set) => drop(self.sets.insert(name, set)),
                    None => drop(self.sets.remove(&name)),
                }
                if !mutant!(AddressSetStale) {
                    let all = self.policies.keys().filter(|o| o.kind == Kind::MalhaPolicy);
                    work.reread.extend(all.cloned());
                }
            }
        }
    }

    fn note_namespace(&mut self, name: String, namespace: Option<Namespace>, work: &mut Work) {
        if self.namespaces.get(&name) == namespace.as_ref() {
            return;
        }
        if !mutant!(NamespaceLabelsStale) {
            let first = (name.clone(), String::new());
            let pods = self
                .pods
                .range(first..)
                .take_while(|(key, _)| key.0 == name);
            for (key, pod) in pods {
                work.addresses
                    .extend(pod.addresses.iter().map(|a| host_prefix(*a)));
                work.endpoints.insert(Endpoint::Pod(key.clone()));
            }
        }
        self.tokens.forget_namespace(&name);
        match namespace {
            Some(namespace) => drop(self.namespaces.insert(name, namespace)),
            None => drop(self.namespaces.remove(&name)),
        }
    }

    fn note_pod(&mut self, key: PodKey, pod: Option<Pod>, work: &mut Work) {
        if self.pods.get(&key) == pod.as_ref() {
            return;
        }
        let is_peer = |pod: &&Pod| !pod.host_network || mutant!(HostNetworkIsPeer);
        let owner = Owner::Pod(key.clone());
        let old = self
            .pods
            .get(&key)
            .filter(is_peer)
            .map(|p| p.addresses.clone());
        let new = pod.as_ref().filter(is_peer).map(|p| p.addresses.clone());
        self.move_owner(owner, (old, new), work);
        work.endpoints.insert(Endpoint::Pod(key.clone()));
        match pod {
            Some(pod) => drop(self.pods.insert(key, pod)),
            None => drop(self.pods.remove(&key)),
        }
    }

    fn note_node(&mut self, name: String, node: Option<Node>, work: &mut Work) {
        if self.nodes.get(&name) == node.as_ref() {
            return;
        }
        let addresses = |node: Option<&Node>| node.map(|n| n.addresses.clone());
        let moved = (addresses(self.nodes.get(&name)), addresses(node.as_ref()));
        self.move_owner(Owner::Node(name.clone()), moved, work);
        if name == self.node {
            work.endpoints.insert(Endpoint::Host);
        }
        match node {
            Some(node) => drop(self.nodes.insert(name, node)),
            None => drop(self.nodes.remove(&name)),
        }
    }

    fn move_owner(
        &mut self,
        owner: Owner,
        (old, new): (Option<Vec<IpAddr>>, Option<Vec<IpAddr>>),
        work: &mut Work,
    ) {
        for address in old.into_iter().flatten() {
            work.addresses.insert(host_prefix(address));
            if let Some(owners) = self.owners.get_mut(&address) {
                owners.remove(&owner);
                if owners.is_empty() {
                    self.owners.remove(&address);
                }
            }
        }
        for address in new.into_iter().flatten() {
            work.addresses.insert(host_prefix(address));
            self.owners
                .entry(address)
                .or_default()
                .insert(owner.clone());
        }
    }

    /// Read a policy anew; it may be gone.
    pub(super) fn reread(&mut self, object: ObjectRef, work: &mut Work) {
        let read = self
            .policies
            .get(&object)
            .map(|policy| read::read(policy, &self.sets));
        let (program, problems) = match read {
            Some((program, problems)) => (Some(program), problems),
            None => (None, Vec::new()),
        };
        match problems.is_empty() {
            true => drop(self.problems.remove(&object)),
            false => drop(self.problems.insert(object.clone(), problems)),
        }
        let old = self.programs.get(&object);
        if old.map(|linked| &linked.program) == program.as_ref() {
            return;
        }
        let linked = program.map(|program| {
            self.versions += 1;
            let parts = (&mut self.tokens, &mut self.rules);
            link::link(program, self.versions, parts, &mut work.news)
        });
        let old = match linked {
            Some(linked) => {
                work.fresh.push(linked.clone());
                self.programs.insert(object, linked)
            }
            None => self.programs.remove(&object),
        };
        work.retired.extend(old);
    }
}
