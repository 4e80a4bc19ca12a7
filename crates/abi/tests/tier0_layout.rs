//! The layouts are what both sides believe them to be.
use std::net::IpAddr;

use malha_abi::{Address, REASONS, Reason, STRUCTS, header};
use proptest::prelude::*;

#[test]
fn the_committed_header_is_current() {
    let mut text = String::new();
    header::render(&mut text).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/abi.h");
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(
        text == committed,
        "bpf/abi.h is old: cargo run -p malha-abi --example header > bpf/abi.h"
    );
}

#[test]
fn no_structure_has_padding() {
    for item in STRUCTS {
        let mut end = 0;
        for field in item.fields {
            assert_eq!(field.offset, end, "{}.{}", item.c_name, field.name);
            end += field.size;
        }
        assert_eq!(end, item.size, "{}", item.c_name);
    }
}

#[test]
fn sizes_are_those_of_version_3() {
    let sizes: Vec<_> = STRUCTS
        .iter()
        .map(|item| (item.c_name, item.size))
        .collect();
    assert_eq!(
        sizes,
        [
            ("malha_config", 24),
            ("malha_endpoint", 28),
            ("malha_prefix", 20),
            ("malha_route", 24),
            ("malha_flow_key", 40),
            ("malha_flow", 16),
            ("malha_counter", 16),
            ("malha_drop_event", 72),
            ("malha_policy", 16),
            ("malha_identity_key", 24),
            ("malha_peer_key", 8),
            ("malha_port_key", 12),
            ("malha_verdict", 16),
            ("malha_connection", 24),
            ("malha_fragment_key", 44),
            ("malha_fragment", 8),
            ("malha_identity", 4),
        ],
        "a layout changed: raise ABI_VERSION"
    );
}

#[test]
fn reasons_are_dense_and_named_once() {
    for (index, reason) in REASONS.iter().enumerate() {
        assert_eq!(*reason as usize, index + 1);
        assert_eq!(Reason::from_number(*reason as u32), Some(*reason));
        assert!(reason.sentence().ends_with('.'));
        assert_eq!(
            REASONS
                .iter()
                .filter(|other| other.name() == reason.name())
                .count(),
            1
        );
    }
    assert_eq!(Reason::from_number(0), None);
    assert!(REASONS.len() < 64, "the event mask has 64 bits");
}

proptest! {
    #[test]
    fn addresses_survive(address: IpAddr) {
        let canonical = address.to_canonical();
        prop_assert_eq!(IpAddr::from(Address::from(address)), canonical);
    }
}
