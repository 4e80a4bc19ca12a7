//! The checks that properties, examples and mutants share. Each returns what is wrong, for people.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    generate::{NODES, PORTS, PROTOCOLS, addresses},
    scenario::{History, change},
};
use crate::{
    compile::{Change, Engine, RuleRef, changes},
    maps::{Endpoint, Lookup, Maps, Verdict},
    model::{Cluster, Direction, Flow, ObjectRef},
    oracle::{self, Party, Reason, Side, View},
};

/// The compiler and the maps of every node.
pub struct Compiled {
    pub nodes: BTreeMap<String, (Engine, Maps)>,
}

/// A verdict with names for numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub allow: bool,
    pub log: bool,
    pub rule: Option<RuleRef>,
    pub staged: Option<(bool, Option<RuleRef>)>,
}

impl Compiled {
    pub fn new(cluster: &Cluster) -> Self {
        let names: BTreeSet<String> = cluster
            .nodes
            .keys()
            .cloned()
            .chain(NODES.map(str::to_owned))
            .collect();
        let nodes = names.into_iter().map(|name| {
            let mut engine = Engine::new(name.clone(), cluster.settings.clone());
            let mut maps = Maps::default();
            maps.apply(&engine.apply(changes(cluster)).ops);
            (name, (engine, maps))
        });
        Self {
            nodes: nodes.collect(),
        }
    }

    pub fn apply(&mut self, changes: &[Change]) {
        for (engine, maps) in self.nodes.values_mut() {
            maps.apply(&engine.apply(changes.iter().cloned()).ops);
        }
    }

    /// What the datapath of the party's node says; nothing for the world.
    pub fn side(&self, party: Party<'_>, lookup: Lookup) -> Option<Option<Named>> {
        let (node, endpoint) = match party {
            Party::World | Party::Unknown => return None,
            Party::Node(node) => (&node.name, Endpoint::Host),
            Party::Pod(pod) => (&pod.node, Endpoint::Pod(pod.key())),
        };
        let (engine, maps) = self.nodes.get(node)?;
        Some(
            maps.verdict(&endpoint, lookup)
                .map(|verdict| named(engine, verdict)),
        )
    }
}

pub fn named(engine: &Engine, verdict: Verdict) -> Named {
    let rule = |number| engine.rule(number).cloned();
    Named {
        allow: verdict.allow,
        log: verdict.log,
        rule: rule(verdict.rule),
        staged: verdict.staged.map(|s| (s.allow, rule(s.rule))),
    }
}

/// Whether the datapath says of a flow what the oracle says, and for the same reason.
pub fn flow(cluster: &Cluster, compiled: &Compiled, flow: &Flow) -> Result<(), String> {
    let parties = (
        oracle::party(cluster, flow.source),
        oracle::party(cluster, flow.destination),
    );
    if parties.0 == parties.1 {
        return Ok(());
    }
    let now = oracle::verdict(cluster, flow, View::Enforced);
    let then = oracle::verdict(cluster, flow, View::WithStaged);
    let sides = [
        (
            parties.0,
            Direction::Egress,
            flow.destination,
            &now.egress,
            &then.egress,
        ),
        (
            parties.1,
            Direction::Ingress,
            flow.source,
            &now.ingress,
            &then.ingress,
        ),
    ];
    for (party, direction, peer, now, then) in sides {
        let lookup = Lookup {
            direction,
            peer,
            protocol: flow.protocol,
            port: flow.port,
        };
        let got = compiled.side(party, lookup);
        let want = now
            .as_ref()
            .map(|now| Some(expected(cluster, now, then.as_ref().unwrap_or(now))));
        // Where no policy selects an end there is no table that could tell why it is open.
        let implicit = [RuleRef::OwnNode(direction), RuleRef::FailSafe(direction)].map(Some);
        let untold = |want: &Named, got: &Named| {
            want.allow
                && implicit.contains(&want.rule)
                && got.allow
                && got.rule == Some(RuleRef::Default)
        };
        let is_untold =
            matches!((&want, &got), (Some(Some(want)), Some(Some(got))) if untold(want, got));
        if got != want && !is_untold {
            return Err(format!(
                "{flow}, {direction}:\n  oracle  {want:?}\n  maps    {got:?}"
            ));
        }
    }
    Ok(())
}

fn expected(cluster: &Cluster, now: &Side, then: &Side) -> Named {
    let rule = |side: &Side| Some(reference(side));
    let differs = (then.allowed, rule(then)) != (now.allowed, rule(now));
    Named {
        allow: now.allowed,
        log: logs(cluster, now),
        rule: rule(now),
        staged: differs.then(|| (then.allowed, rule(then))),
    }
}

fn reference(side: &Side) -> RuleRef {
    let direction = side.direction;
    match &side.reason {
        Reason::Default => RuleRef::Default,
        Reason::OwnNode => RuleRef::OwnNode(direction),
        Reason::FailSafe => RuleRef::FailSafe(direction),
        Reason::Rule { object, index } => RuleRef::Rule {
            object: object.clone(),
            direction,
            index: *index,
        },
        Reason::Isolated { by } => RuleRef::Isolated {
            object: by[0].clone(),
            direction,
        },
    }
}

fn logs(cluster: &Cluster, side: &Side) -> bool {
    let Reason::Rule { object, index } = &side.reason else {
        return false;
    };
    match cluster.policies.get(object) {
        Some(crate::model::Policy::Malha(policy)) => {
            let rules = match side.direction {
                Direction::Ingress => &policy.spec.ingress,
                Direction::Egress => &policy.spec.egress,
            };
            rules.as_ref().is_some_and(|rules| rules[*index].log)
        }
        _ => false,
    }
}

/// Whether step by step comes to what all at once does, to the last identity and row.
pub fn history(history: &History) -> Result<(), String> {
    let mut cluster = history.first.clone();
    let mut step = Compiled::new(&cluster);
    let mut rest = history.changes.as_slice();
    let mut batches = history.batches.iter().cycle();
    while !rest.is_empty() {
        let size = (*batches.next().unwrap_or(&1)).min(rest.len());
        let (batch, later) = rest.split_at(size);
        rest = later;
        batch.iter().for_each(|item| change(&mut cluster, item));
        step.apply(batch);
        let whole = Compiled::new(&cluster);
        same(&cluster, &step, &whole).map_err(|error| format!("after {batch:?}\n{error}"))?;
    }
    Ok(())
}

fn same(cluster: &Cluster, step: &Compiled, whole: &Compiled) -> Result<(), String> {
    for (name, (engine, maps)) in &step.nodes {
        let (other, other_maps) = &whole.nodes[name];
        let sizes = (
            engine.sizes(),
            maps.peers.len(),
            maps.ports.len(),
            maps.addresses.len(),
        );
        let others = (
            other.sizes(),
            other_maps.peers.len(),
            other_maps.ports.len(),
            other_maps.addresses.len(),
        );
        // Rows of ports may differ where verdicts tie for the most common.
        if (sizes.0, sizes.1, sizes.3) != (others.0, others.1, others.3) {
            return Err(format!(
                "{name}: sizes step by step {sizes:?}, at once {others:?}"
            ));
        }
        if maps.endpoints.len() != engine.endpoints().len() || maps.addresses != *engine.addresses()
        {
            return Err(format!("{name}: the deltas do not add up to the state"));
        }
        if maps.endpoints.keys().ne(other_maps.endpoints.keys()) {
            return Err(format!("{name}: other endpoints"));
        }
        let (mine, theirs) = (
            all(cluster, engine, maps, 1),
            all(cluster, other, other_maps, 1),
        );
        for (question, answer) in mine {
            if theirs.get(&question) != Some(&answer) {
                let other = theirs.get(&question);
                return Err(format!(
                    "{name} {question:?}:\n  step by step {answer:?}\n  at once      {other:?}"
                ));
            }
        }
        if let Some(object) = problems_differ(engine, other) {
            return Err(format!("{name}: other problems of {object}"));
        }
    }
    Ok(())
}

fn problems_differ(a: &Engine, b: &Engine) -> Option<ObjectRef> {
    let mut keys = a.problems().keys().chain(b.problems().keys());
    keys.find(|key| a.problems().get(key) != b.problems().get(key))
        .cloned()
}

type Question = (Endpoint, Direction, IpAddr, u8, u16);

/// The answers of a node's maps, to all packets of the vocabulary or to some: every so many of them.
pub fn all(
    cluster: &Cluster,
    engine: &Engine,
    maps: &Maps,
    every: usize,
) -> BTreeMap<Question, Option<Named>> {
    let mut answers = BTreeMap::new();
    for endpoint in maps.endpoints.keys() {
        for direction in [Direction::Ingress, Direction::Egress] {
            for peer in addresses(cluster) {
                for (protocol, port) in packets().step_by(every) {
                    let lookup = Lookup {
                        direction,
                        peer,
                        protocol,
                        port,
                    };
                    let answer = maps.verdict(endpoint, lookup).map(|v| named(engine, v));
                    answers.insert((endpoint.clone(), direction, peer, protocol, port), answer);
                }
            }
        }
    }
    answers
}

fn packets() -> impl Iterator<Item = (u8, u16)> {
    let some = [53, 79, 80, 81, 8080, 65535];
    debug_assert!(some.iter().all(|port| PORTS.contains(port)));
    let with_ports = PROTOCOLS[..3]
        .iter()
        .flat_map(move |p| some.map(|port| (*p, port)));
    with_ports.chain([(1, 0)])
}

/// Whether every state between the operations of one change is the one before or the one behind, for every flow.
pub fn atomic(history: &History) -> Result<(), String> {
    let mut cluster = history.first.clone();
    let mut compiled = Compiled::new(&cluster);
    for item in &history.changes {
        change(&mut cluster, item);
        for (engine, maps) in compiled.nodes.values_mut().take(1) {
            let before = all(&cluster, engine, maps, 4);
            let mut during = maps.clone();
            let ops = engine.apply([item.clone()]).ops;
            maps.apply(&ops);
            // Two objects in one flow change at once with a namespace: that cannot be one step.
            if matches!(item, Change::Namespace(..)) {
                continue;
            }
            let after = all(&cluster, engine, maps, 4);
            for op in &ops {
                during.apply([op]);
                for (question, answer) in all(&cluster, engine, &during, 4) {
                    let old = before.get(&question).cloned().flatten();
                    let new = after.get(&question).cloned().flatten();
                    if answer != old && answer != new {
                        return Err(format!(
                            "{item:?}\nafter {op:?}\n{question:?}\n  before {old:?}\n  during {answer:?}\n  after  {new:?}"
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}
