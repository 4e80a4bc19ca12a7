//! The properties. `MALHA_POLICY_PAIRS` raises the number of (policy set, flow) pairs, to a million for instance.
use std::cell::Cell;

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::{check, generate};

/// Flows asked of each random cluster.
const FLOWS: usize = 25;
const PAIRS: usize = 20_000;

fn cases(divisor: usize) -> u32 {
    let pairs = std::env::var("MALHA_POLICY_PAIRS")
        .ok()
        .and_then(|text| text.parse().ok());
    (pairs.unwrap_or(PAIRS) / divisor).max(1) as u32
}

fn run<S: Strategy>(cases: u32, strategy: S, check: impl Fn(S::Value) -> Result<(), String>) {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 4096,
        ..Config::default()
    };
    let result =
        TestRunner::new(config).run(&strategy, |value| check(value).map_err(TestCaseError::fail));
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// The compiler's tables, looked up as the datapath does, say what the oracle says, for the same reason.
#[test]
fn tables_equal_oracle() {
    let pairs = Cell::new(0);
    run(cases(FLOWS), generate::scenario(FLOWS), |scenario| {
        let compiled = check::Compiled::new(&scenario.cluster);
        pairs.set(pairs.get() + scenario.flows.len());
        scenario
            .flows
            .iter()
            .try_for_each(|flow| check::flow(&scenario.cluster, &compiled, flow))
    });
    println!("{} pairs of a policy set and a flow", pairs.get());
}

/// Changes one after the other lead to the same tables as all at once, with nothing left over.
#[test]
fn incremental_equals_full() {
    run(cases(800), generate::history(), |history| {
        check::history(&history)
    });
}

/// While a delta is carried out, each end's verdict on each flow is the old or the new one.
#[test]
fn every_state_between_is_old_or_new() {
    run(cases(4000), generate::history(), |history| {
        check::atomic(&history)
    });
}
