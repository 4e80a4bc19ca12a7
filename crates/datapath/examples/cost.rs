//! What a program costs for one packet, by BPF_PROG_TEST_RUN: `cargo run -p malha-datapath --example cost` (as root).
//!
//! Each line is the best of many runs: what is left of other work on the machine is noise, and noise only adds. With a
//! path of another object (`clang … -c malha.c`) as argument, that one is measured, to compare.
#![allow(clippy::undocumented_unsafe_blocks, clippy::print_stdout)]
#[path = "../tests/common/mod.rs"]
mod common;

use std::os::fd::AsRawFd;

use common::{Mode, Node, Pod, two_nodes};
use malha_datapath::Hook;

/// Runs in one call: fewer than the hops of a packet, since each run takes one.
const REPEAT: u32 = 200;
const CALLS: usize = 2000;

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    input_size: u32,
    output_size: u32,
    input: u64,
    output: u64,
    repeat: u32,
    duration: u32,
    context_size: u32,
    context_output_size: u32,
    context: u64,
    context_output: u64,
}

fn main() {
    let object = std::env::args()
        .nth(1)
        .map(|path| std::fs::read(path).unwrap());
    let (mut one, two) = two_nodes(Mode::Direct);
    if let Some(object) = &object {
        one.reopen(Some(object));
    }
    let (mut a, b, c) = (Pod::new(&one, 5), Pod::new(&one, 6), Pod::new(&two, 5));
    // Each run is given what the one before made of the packet: with this, the source stays right.
    a.endpoint.mac = b.endpoint.host_mac;
    one.datapath.endpoints().upsert(&a.endpoint).unwrap();
    println!("no flow between the two goes through the stack:");
    measure(&one, &a, &b, &c);
    fill_filter(&one);
    println!("others do:");
    measure(&one, &a, &b, &c);
}

fn measure(one: &Node, a: &Pod, b: &Pod, c: &Pod) {
    let uplink = one.namespace.ifindex(common::UPLINK);
    for (name, family) in [("IPv4", 0), ("IPv6", 1)] {
        let ways = [
            ("from_pod, to a local pod", Hook::FromPod, a, b),
            ("from_pod, to another node", Hook::FromPod, a, c),
            ("from_uplink, to a local pod", Hook::FromUplink, c, a),
            ("to_uplink, not a pod's", Hook::ToUplink, c, a),
        ];
        for (what, hook, from, to) in ways {
            let mut bytes = packet(from, to, family);
            let mut ifindex = a.endpoint.ifindex;
            if hook != Hook::FromPod {
                bytes[..6].copy_from_slice(&mac_of(one));
                ifindex = uplink;
            }
            let (verdict, nanoseconds) = best(one, hook, &bytes, ifindex);
            println!("  {name} {what}: {nanoseconds} ns (verdict {verdict})");
        }
    }
}

/// As if every pair of addresses had a flow that the stack forwards.
fn fill_filter(node: &Node) {
    let data = aya::maps::MapData::from_pin(node.config.pins.join("maps/pairs")).unwrap();
    let map = aya::maps::Map::from_map_data(data).unwrap();
    let mut map = aya::maps::Array::<_, u64>::try_from(map).unwrap();
    for index in 0..map.len() {
        map.set(index, u64::MAX, 0).unwrap();
    }
}

fn best(node: &Node, hook: Hook, bytes: &[u8], ifindex: u32) -> (i32, u32) {
    node.namespace.enter(|| {
        let runs = (0..CALLS).map(|_| run(node, hook, bytes, ifindex));
        runs.min_by_key(|(_, duration)| *duration).unwrap()
    })
}

fn run(node: &Node, hook: Hook, bytes: &[u8], ifindex: u32) -> (i32, u32) {
    let mut output = vec![0; bytes.len() + 256];
    // `struct __sk_buff`, of which only the interface is given.
    let mut context = [0u32; 48];
    context[10] = ifindex;
    let mut attribute = TestRun {
        program: node.datapath.program(hook).as_raw_fd() as u32,
        input_size: bytes.len() as u32,
        output_size: output.len() as u32,
        input: bytes.as_ptr() as u64,
        output: output.as_mut_ptr() as u64,
        repeat: REPEAT,
        context_size: size_of_val(&context) as u32,
        context: context.as_ptr() as u64,
        ..TestRun::default()
    };
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, 10, &raw mut attribute, size_of::<TestRun>()) };
    assert!(result == 0, "{}", std::io::Error::last_os_error());
    (attribute.result.cast_signed(), attribute.duration)
}

fn mac_of(node: &Node) -> [u8; 6] {
    let text = node
        .namespace
        .sh(&format!("ip -br link show dev {}", common::UPLINK));
    let mac = text
        .split_whitespace()
        .find(|word| word.matches(':').count() == 5)
        .unwrap();
    let mut bytes = [0; 6];
    for (byte, part) in bytes.iter_mut().zip(mac.split(':')) {
        *byte = u8::from_str_radix(part, 16).unwrap();
    }
    bytes
}

/// A TCP segment with 64 bytes in it.
fn packet(from: &Pod, to: &Pod, family: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(from.endpoint.host_mac);
    bytes.extend(from.endpoint.mac);
    let (source, destination) = (from.addresses()[family], to.addresses()[family]);
    match (source, destination) {
        (std::net::IpAddr::V4(source), std::net::IpAddr::V4(destination)) => {
            bytes.extend([0x08, 0x00, 0x45, 0, 0, 104, 0, 1, 0x40, 0, 255, 6, 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        (std::net::IpAddr::V6(source), std::net::IpAddr::V6(destination)) => {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 84, 6, 255]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        _ => unreachable!("one family"),
    }
    bytes.extend([0x9c, 0x40, 0x1f, 0x90, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10]);
    bytes.extend([0; 6 + 64]);
    bytes
}
