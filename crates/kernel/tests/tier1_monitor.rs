//! News of links, addresses and routes.
mod common;

use std::time::{Duration, Instant};

use common::{new_netns, sh};
use malha_kernel::monitor::{Event, Monitor};
use malha_kernel::{Handle, PROTOCOL};

/// What is told until this event is among it.
fn until(monitor: &Monitor, wanted: &Event) -> Vec<Event> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut events = Vec::new();
    while !events.contains(wanted) {
        assert!(Instant::now() < deadline, "no {wanted:?} in {events:?}");
        events.extend(monitor.wait(Duration::from_millis(100)).unwrap());
    }
    events
}

#[test]
fn what_changes_is_told_and_what_happens_elsewhere_is_not() {
    let (here, elsewhere) = (new_netns(), new_netns());
    let monitor = here.run(|| Monitor::new().unwrap()).unwrap();
    sh(
        &elsewhere,
        "ip link add not-here type veth peer name nor-this",
    );
    sh(
        &here,
        "ip link add uplink type veth peer name far; ip link set uplink up; ip link set far up",
    );
    let index = Handle::inside(&here)
        .unwrap()
        .require_link("uplink")
        .unwrap()
        .index;
    let link = Event::Link {
        index,
        name: "uplink".to_owned(),
    };
    let events = until(&monitor, &link);
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Link { name, .. } if name == "not-here"))
    );
    sh(
        &here,
        "ip addr add 172.31.0.1/24 dev uplink; ip addr add fd00:31::1/64 dev uplink nodad",
    );
    until(&monitor, &Event::Address { device: index });
    for (script, host) in [
        ("ip route add 10.9.0.0/24 dev uplink proto 77", false),
        ("ip route add 10.9.0.7/32 dev uplink proto 77", true),
        ("ip -6 route add fd00:9::/64 dev uplink proto 77", false),
        ("ip -6 route add fd00:9::7/128 dev uplink proto 77", true),
        ("ip route del 10.9.0.0/24", false),
    ] {
        sh(&here, script);
        let route = Event::Route {
            device: Some(index),
            protocol: PROTOCOL,
            host,
        };
        until(&monitor, &route);
        assert!(monitor.wait(Duration::ZERO).is_ok());
    }
    sh(&here, "ip link del uplink");
    until(&monitor, &link);
}

#[test]
fn silence_ends_when_it_is_time() {
    let monitor = new_netns().run(|| Monitor::new().unwrap()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !monitor.wait(Duration::from_millis(1)).unwrap().is_empty() {
        assert!(Instant::now() < deadline);
    }
}
