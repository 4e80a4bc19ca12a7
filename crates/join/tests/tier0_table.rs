//! The table of faults in docs/join.md is what the tests say it is.

use std::{collections::BTreeSet, fs, path::Path};

use malha_peer::faults::rows;

/// Each test checks, in `common::documented`, that what it provokes says what its rows say.
#[test]
fn every_row_has_its_cause_its_remedy_and_its_test() {
    let rows = rows().expect("the table of docs/join.md");
    assert!(rows.len() >= 20, "{} rows", rows.len());
    let causes: BTreeSet<&str> = rows.iter().map(|row| row.cause.as_str()).collect();
    assert_eq!(causes.len(), rows.len(), "a cause is there twice");
    for row in &rows {
        let line = row.parts.join("…");
        // What is wrong, and after it what to do.
        let parts = line.split([';', ':', '(']).count();
        assert!(parts >= 2, "{}: no remedy: {line}", row.cause);
        let (file, name) = row.test.split_once("::").expect("FILE::NAME");
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let places = ["tests", "../peer/tests"].map(|place| manifest.join(place));
        let text = places
            .iter()
            .find_map(|place| fs::read_to_string(place.join(format!("{file}.rs"))).ok())
            .unwrap_or_else(|| panic!("{}: no file {file}.rs", row.cause));
        assert!(
            text.contains(&format!("fn {name}(")),
            "{}: no {}",
            row.cause,
            row.test
        );
        assert!(
            text.contains("documented(") || text.contains("describes("),
            "{file} does not look at the table"
        );
    }
}
