//! A long random life of a node in which its agent is killed at every step, its files are damaged, and it is rebooted.
//!
//! `MALHA_LONG_CALLS` says how many calls, `MALHA_LONG_SEED` which. The long run, some ten minutes:
//! `MALHA_LONG_CALLS=100000 cargo test -p malha-endpoint --test tier2_long -- --nocapture`. An independent model knows
//! what has to be there; everything that could leak is counted after each fault.
mod common;
mod life;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::net::IpAddr;
use std::time::Instant;

use common::{Holdings, Node, eventually, new_netns, path};
use life::{Answer, Life};
use malha_endpoint::{Step, link_name};
use malha_kernel::{Handle, NetNs, ports};
use rand::prelude::*;
use rand::rngs::StdRng;

const CONTAINERS: usize = 40;
/// Every so many calls something goes wrong.
const FAULT_EVERY: u32 = 25;
/// Every so many calls everything is counted although nothing went wrong.
const AUDIT_EVERY: usize = 500;

/// Who holds what, as far as the runtime knows.
struct World {
    node: Node,
    life: Life,
    random: StdRng,
    boot: usize,
    namespaces: BTreeMap<usize, NetNs>,
    held: BTreeMap<usize, Vec<IpAddr>>,
    /// When an address was given back at the earliest.
    released: HashMap<IpAddr, Instant>,
    /// What happened how often.
    tally: BTreeMap<&'static str, usize>,
}

/// This one is a test's child, see [`life`]. Run by itself it does nothing.
#[test]
fn child() {
    life::live();
}

#[test]
fn nothing_leaks_in_a_long_life() {
    let number = |name, usual| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let calls = number("MALHA_LONG_CALLS", 1500) as usize;
    let seed = number("MALHA_LONG_SEED", rand::rng().random_range(0..1_000_000));
    println!("MALHA_LONG_SEED={seed}");
    let start = Instant::now();
    let mut world = World::new(seed);
    for call in 1..=calls {
        world.call();
        if world.random.random_ratio(1, FAULT_EVERY) {
            world.fault();
        }
        if call % AUDIT_EVERY == 0 {
            world.audit();
            println!(
                "{call} calls, {} s, {:?}",
                start.elapsed().as_secs(),
                world.tally
            );
        }
    }
    for container in 0..CONTAINERS {
        world.del(container);
    }
    world.audit();
    assert_eq!(world.held.len(), 0);
    println!(
        "{calls} calls in {} s: {:?}",
        start.elapsed().as_secs(),
        world.tally
    );
}

impl World {
    fn new(seed: u64) -> Self {
        let node = Node::new();
        node.datapath();
        Self {
            life: Life::start(&node, 0),
            node,
            random: StdRng::seed_from_u64(seed),
            boot: 0,
            namespaces: BTreeMap::new(),
            held: BTreeMap::new(),
            released: HashMap::new(),
            tally: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// What a runtime does.
    fn call(&mut self) {
        let container = self.random.random_range(0..CONTAINERS);
        match self.random.random_range(0..100) {
            0..50 => self.add(container),
            50..85 => self.del(container),
            85..94 => self.check(container),
            94..98 => self.die(container),
            _ => self.gc(),
        }
    }

    fn add(&mut self, container: usize) {
        self.count("ADD");
        if self.random.random_bool(0.3) {
            self.end_namespace(container);
        }
        let netns = self.namespaces.entry(container).or_insert_with(new_netns);
        let port = if container.is_multiple_of(8) {
            10_000 + container
        } else {
            0
        };
        let order = format!("add {container} {} {port}", path(netns));
        match self.life.ask(&order) {
            Answer::Done(addresses) => self.take(container, addresses),
            Answer::Refused(error) => panic!("{order}: {error}"),
            Answer::Dead => self.after_death(&BTreeSet::from([container])),
        }
    }

    fn take(&mut self, container: usize, addresses: Vec<IpAddr>) {
        let others = self.held.iter().filter(|(other, _)| **other != container);
        let twice = others
            .flat_map(|(_, held)| held)
            .find(|held| addresses.contains(held));
        assert_eq!(twice, None, "an address has two holders");
        match self.held.insert(container, addresses.clone()) {
            Some(before) => assert_eq!(before, addresses, "another answer to the same ADD"),
            None => self.assert_rested(&addresses),
        }
    }

    fn assert_rested(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            let rested = self.released.remove(address).map(|since| since.elapsed());
            assert!(
                rested.is_none_or(|rested| rested >= life::QUARANTINE),
                "{address} rested {rested:?}"
            );
        }
    }

    /// The runtime does without what it had.
    fn forget(&mut self, container: usize) {
        let now = Instant::now();
        for address in self.held.remove(&container).unwrap_or_default() {
            self.released.insert(address, now);
        }
    }

    fn del(&mut self, container: usize) {
        self.count("DEL");
        // The rest begins after this.
        self.forget(container);
        match self.life.ask(&format!("del {container}")) {
            Answer::Done(_) => {}
            Answer::Refused(error) => panic!("DEL: {error}"),
            Answer::Dead => self.after_death(&BTreeSet::from([container])),
        }
    }

    fn check(&mut self, container: usize) {
        self.count("CHECK");
        let Some(netns) = self.namespaces.get(&container) else {
            return;
        };
        let answer = self.life.ask(&format!("check {container} {}", path(netns)));
        match (answer, self.held.contains_key(&container)) {
            (Answer::Done(_), true) | (Answer::Refused(_), false) => {}
            (Answer::Dead, _) => self.after_death(&BTreeSet::new()),
            (answer, held) => panic!("CHECK of {container}, held: {held}: {answer:?}"),
        }
    }

    /// Half of the containers are valid.
    fn gc(&mut self) {
        self.count("GC");
        let (valid, stale): (BTreeSet<usize>, BTreeSet<usize>) =
            self.held.keys().partition(|_| self.random.random_bool(0.5));
        if valid.is_empty() {
            return;
        }
        let list: Vec<String> = valid.iter().map(ToString::to_string).collect();
        stale.iter().for_each(|container| self.forget(*container));
        match self.life.ask(&format!("gc {}", list.join(","))) {
            Answer::Done(_) => {}
            Answer::Refused(error) => panic!("GC: {error}"),
            Answer::Dead => self.after_death(&stale),
        }
    }

    /// The namespace dies, and no DEL comes.
    fn die(&mut self, container: usize) {
        self.count("death of a container");
        self.end_namespace(container);
        match self.life.ask("reconcile") {
            Answer::Done(_) => {}
            Answer::Refused(error) => panic!("reconcile: {error}"),
            Answer::Dead => self.after_death(&BTreeSet::new()),
        }
    }

    fn end_namespace(&mut self, container: usize) {
        self.forget(container);
        if self.namespaces.remove(&container).is_some() {
            let handle = Handle::inside(&self.node.netns).unwrap();
            let link = link_name(&life::key(container));
            eventually("the link is gone", || handle.link(&link).unwrap().is_none());
        }
    }

    fn fault(&mut self) {
        match self.random.random_range(0..10) {
            // The next time that it comes to this step.
            0..7 => {
                let step = Step::ALL[self.random.random_range(0..Step::ALL.len())];
                self.count("armed");
                let _ = self.life.ask(&format!("arm {step:?}"));
            }
            7 => {
                self.count("kill");
                self.life.kill();
                self.after_death(&BTreeSet::new());
            }
            8 => self.damage(),
            _ => self.reboot(),
        }
    }

    /// Killed in the middle of calls about these containers: each is whole, or nothing.
    fn after_death(&mut self, uncertain: &BTreeSet<usize>) {
        self.count("restart");
        self.life.wait();
        self.life = Life::start(&self.node, self.boot);
        let listed = self.life.list();
        let certain: Vec<usize> = self
            .held
            .keys()
            .copied()
            .filter(|c| !uncertain.contains(c))
            .collect();
        for container in certain {
            assert_eq!(
                listed.get(&container),
                self.held.get(&container),
                "container {container}"
            );
        }
        for (container, addresses) in &listed {
            assert!(
                self.held.contains_key(container) || uncertain.contains(container),
                "{container} came back"
            );
            // Nobody was told of a first ADD. The runtime asks again, or deletes; here it stays for a while.
            if !self.held.contains_key(container) {
                self.released
                    .retain(|address, _| !addresses.contains(address));
                self.held.insert(*container, addresses.clone());
            }
        }
        for container in uncertain.iter().filter(|c| !listed.contains_key(c)) {
            self.forget(*container);
        }
        self.audit();
    }

    /// A file is cut at any byte, and its end may be zeros: what a power cut leaves, though this boot goes on.
    fn damage(&mut self) {
        self.count("damaged record");
        self.life.kill();
        self.life.wait();
        let files = fs::read_dir(life::state(&self.node)).unwrap();
        let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        for file in files {
            if self.random.random_bool(0.8) {
                continue;
            }
            let mut bytes = fs::read(&file).unwrap();
            let cut = self.random.random_range(0..bytes.len().max(1));
            bytes.truncate(cut);
            if self.random.random_bool(0.3) {
                bytes.resize(cut + 100, 0);
            }
            fs::write(file, bytes).unwrap();
        }
        self.life = Life::start(&self.node, self.boot);
        let listed = self.life.list();
        for (container, addresses) in &listed {
            assert_eq!(
                self.held.get(container),
                Some(addresses),
                "container {container}"
            );
        }
        // Who lost its record lost its network, and how long addresses rested is not known.
        self.held = listed;
        self.released.clear();
        self.audit();
    }

    /// Nothing is left but files, damaged or not.
    fn reboot(&mut self) {
        self.count("reboot");
        self.life.kill();
        self.life.wait();
        self.boot += 1;
        let state = tempfile::tempdir().unwrap();
        let old = std::mem::replace(&mut self.node, Node::new());
        fs::rename(old.directory.path(), state.path()).unwrap();
        self.node.directory = state;
        self.node.datapath();
        (self.namespaces, self.held) = Default::default();
        self.released.clear();
        self.life = Life::start(&self.node, self.boot);
        assert_eq!(self.life.list(), BTreeMap::new());
        self.audit();
    }

    /// Everything that could leak, counted.
    fn audit(&mut self) {
        self.count("audit");
        match self.life.ask("flush") {
            Answer::Done(_) => {}
            Answer::Refused(error) => panic!("flush: {error}"),
            Answer::Dead => return self.after_death(&BTreeSet::new()),
        }
        assert_eq!(self.life.list(), self.held);
        assert_eq!(
            self.node.holdings().without_freed(),
            Holdings::of_pods(self.held.len())
        );
        let mappings = self.node.netns.run(ports::list).unwrap().unwrap().len();
        let wanted = self
            .held
            .keys()
            .filter(|container| container.is_multiple_of(8))
            .count();
        assert_eq!(mappings, 2 * wanted, "host ports");
    }
}
