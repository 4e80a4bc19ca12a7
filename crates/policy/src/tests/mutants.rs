//! Each deliberate fault must be noticed by a property.
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{check, generate};
use crate::mutant::{self, Mutant};

fn is_noticed<S: Strategy>(
    cases: u32,
    strategy: S,
    check: impl Fn(S::Value) -> Result<(), String>,
) -> bool {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    runner
        .run(&strategy, |value| check(value).map_err(TestCaseError::fail))
        .is_err()
}

/// The property that notices it, if any does. A few cases of each kind first: most faults are found by them.
fn noticed_by(mutant: Option<Mutant>) -> Option<&'static str> {
    mutant::with(mutant, || {
        for (flows, histories, atomic) in [(100, 3, 2), (1500, 30, 60)] {
            let scenarios = generate::scenario(25);
            let noticed = is_noticed(flows, scenarios, |scenario| {
                let compiled = check::Compiled::new(&scenario.cluster);
                let mut flows = scenario.flows.iter();
                flows.try_for_each(|flow| check::flow(&scenario.cluster, &compiled, flow))
            });
            if noticed {
                return Some("tables equal oracle");
            }
            if is_noticed(histories, generate::history(), |history| {
                check::history(&history)
            }) {
                return Some("incremental equals full");
            }
            if is_noticed(atomic, generate::history(), |history| {
                check::atomic(&history)
            }) {
                return Some("every state is old or new");
            }
        }
        None
    })
}

/// All of them, or with `MALHA_POLICY_MUTANT` the one of that name.
#[test]
fn every_mutant_is_noticed() {
    let only = std::env::var("MALHA_POLICY_MUTANT").ok();
    let chosen = |mutant: &&Mutant| {
        only.as_ref()
            .is_none_or(|name| *name == format!("{mutant:?}"))
    };
    if only.is_none() {
        assert_eq!(
            noticed_by(None),
            None,
            "a fault is noticed where there is none"
        );
    }
    let mut missed = Vec::new();
    let mut tried = 0;
    for mutant in mutant::ALL.iter().filter(chosen) {
        tried += 1;
        match noticed_by(Some(*mutant)) {
            Some(property) => println!("{mutant:?}: noticed by \"{property}\""),
            None => missed.push(*mutant),
        }
    }
    println!("{} of {tried} mutants noticed", tried - missed.len());
    assert!(tried > 0, "there is no such mutant");
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
