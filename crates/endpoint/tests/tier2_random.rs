//! Random lives of a node, and many ADDs at a time: no leaks, no address twice.
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use common::{Holdings, Managed, Node, fail_at, new_netns};
use malha_endpoint::{Config, Endpoint, Error, Step};
use malha_kernel::NetNs;
use proptest::prelude::*;

/// Containers that a step may be about.
const CONTAINERS: usize = 6;

#[derive(Clone, Copy, Debug)]
enum Action {
    Add(usize),
    /// ADD in a namespace of its own, new each time.
    Recreate(usize),
    Del(usize),
    /// The namespace dies, and no DEL comes.
    Die(usize),
    /// Only this one is valid.
    Gc(usize),
    Reconcile,
    Flush,
    Restart,
    /// The next life fails at this step of every ADD.
    RestartFailing(usize),
}

fn action() -> impl Strategy<Value = Action> {
    let container = || 0..CONTAINERS;
    prop_oneof![
        5 => container().prop_map(Action::Add),
        1 => container().prop_map(Action::Recreate),
        4 => container().prop_map(Action::Del),
        1 => container().prop_map(Action::Die),
        1 => container().prop_map(Action::Gc),
        1 => Just(Action::Reconcile),
        1 => Just(Action::Flush),
        1 => Just(Action::Restart),
        1 => (0..8usize).prop_map(Action::RestartFailing),
    ]
}

/// What should be: the simplest bookkeeping.
#[derive(Default)]
struct Model {
    namespaces: BTreeMap<usize, NetNs>,
    endpoints: BTreeMap<usize, Endpoint>,
    failing: bool,
}

impl Model {
    fn act<'a>(&mut self, node: &'a Node, managed: &mut Option<Managed<'a>>, action: Action) {
        let life = managed.as_ref().unwrap();
        match action {
            Action::Add(container) => self.add(life, container),
            Action::Recreate(container) => {
                let fresh = new_netns();
                let old = self.namespaces.insert(container, fresh);
                self.add(life, container);
                drop(old);
            }
            Action::Del(container) => {
                life.del(&container.to_string()).unwrap();
                self.endpoints.remove(&container);
            }
            Action::Die(container) => self.die(node, container),
            Action::Gc(container) => {
                life.gc(&[&container.to_string()]).unwrap();
                self.endpoints.retain(|other, _| *other == container);
            }
            Action::Reconcile => drop(life.reconcile()),
            Action::Flush => life.manager.flush().unwrap(),
            Action::Restart | Action::RestartFailing(_) => {
                drop(managed.take());
                let hook = match action {
                    Action::RestartFailing(step) => Some(fail_at(Step::ALL[step])),
                    _ => None,
                };
                self.failing = hook.is_some();
                *managed = Some(node.open_with(|config| Config {
                    hook,
                    ..small(config)
                }));
            }
        }
    }

    fn add(&mut self, life: &Managed<'_>, container: usize) {
        let netns = self.namespaces.entry(container).or_insert_with(new_netns);
        let known = self
            .endpoints
            .get(&container)
            .filter(|known| known.netns() == netns.id());
        match life.add(&container.to_string(), netns) {
            Ok(endpoint) => {
                assert!(
                    known.is_none_or(|known| *known == endpoint),
                    "another answer"
                );
                let others = self
                    .endpoints
                    .iter()
                    .filter(|(other, _)| **other != container);
                for (_, other) in others {
                    let twice = other
                        .addresses
                        .iter()
                        .find(|address| endpoint.addresses.contains(address));
                    assert_eq!(twice, None);
                }
                self.endpoints.insert(container, endpoint);
            }
            Err(error) => {
                let full = matches!(error, Error::Full { .. });
                assert!(full || self.failing, "{error}");
                self.endpoints.remove(&container);
            }
        }
    }

    /// The endpoint is given back at the latest when the manager looks.
    fn die(&mut self, node: &Node, container: usize) {
        if self.namespaces.remove(&container).is_some()
            && let Some(endpoint) = self.endpoints.remove(&container)
        {
            let handle = malha_kernel::Handle::inside(&node.netns).unwrap();
            common::eventually("the link is gone", || {
                handle.link(&endpoint.host_link).unwrap().is_none()
            });
        }
    }
}

/// Five addresses for six containers, which hardly rest.
fn small(config: Config) -> Config {
    Config {
        prefixes: vec![
            "10.244.3.0/29".parse().unwrap(),
            "fd00:244:3::/64".parse().unwrap(),
        ],
        quarantine: Duration::from_millis(5),
        ..config
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_leaks(actions in proptest::collection::vec(action(), 1..40)) {
        let node = Node::new();
        let mut managed = Some(node.open_with(small));
        let mut model = Model::default();
        for action in actions {
            model.act(&node, &mut managed, action);
        }
        let managed = managed.unwrap();
        managed.reconcile();
        prop_assert_eq!(managed.settled(), Holdings::of_pods(model.endpoints.len()));
        let listed: BTreeSet<u32> = managed.manager.list().iter().map(|endpoint| endpoint.id).collect();
        let wanted: BTreeSet<u32> = model.endpoints.values().map(|endpoint| endpoint.id).collect();
        prop_assert_eq!(listed, wanted);
        for (container, endpoint) in &model.endpoints {
            let netns = &model.namespaces[container];
            prop_assert!(managed.check(&container.to_string(), netns, Some(endpoint.addresses.clone())).is_ok());
        }
        prop_assert_eq!(managed.manager.status().pools[0].used, model.endpoints.len() as u128);
        let status = managed.manager.status();
        prop_assert_eq!((status.adding, status.deleting), (0, 0));
    }
}

#[test]
fn eight_at_a_time() {
    let node = Node::new();
    let managed = node.open();
    let pods: Vec<NetNs> = (0..120).map(|_| new_netns()).collect();
    let parts: Vec<(usize, &[NetNs])> = pods.chunks(15).enumerate().collect();
    let each = |act: &(dyn Fn(String, &NetNs) + Sync)| {
        std::thread::scope(|scope| {
            for (part, pods) in &parts {
                scope.spawn(move || {
                    for (number, pod) in pods.iter().enumerate() {
                        act(format!("{part}-{number}"), pod);
                    }
                });
            }
        });
    };
    each(&|name, pod| drop(managed.add(&name, pod).unwrap()));
    let addresses: BTreeSet<IpAddr> = managed
        .manager
        .list()
        .iter()
        .flat_map(|endpoint| endpoint.addresses.clone())
        .collect();
    assert_eq!(addresses.len(), 240);
    assert_eq!(node.holdings(), Holdings::of_pods(120));
    each(&|name, pod| managed.check(&name, pod, None).unwrap());
    each(&|name, _| managed.del(&name).unwrap());
    assert_eq!(managed.settled(), Holdings::of_pods(0));
}

#[test]
fn the_same_attachment_from_many_threads_is_made_once() {
    let node = Node::new();
    let managed = node.open();
    let pod = new_netns();
    let answers: Vec<Endpoint> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| managed.add("one", &pod).unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(node.holdings(), Holdings::of_pods(1));
}
