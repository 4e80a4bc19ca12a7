//! Open, take over, fill up, uninstall: what the agent does outside of forwarding.
mod common;

use std::net::IpAddr;
use std::path::Path;

use common::{BpfFs, Mode, Namespace, Node, Pod, two_nodes};
use malha_datapath::{Config, Datapath, Endpoint, Error, NextHop};

fn endpoint(number: u8) -> Endpoint {
    let addresses = vec![IpAddr::from([10, 0, 0, number])];
    Endpoint {
        id: 1,
        ifindex: 1,
        addresses,
        mac: [2; 6],
        host_mac: [4; 6],
        identity: 0,
        open: true,
    }
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let (bpffs, namespace) = (BpfFs::new(), Namespace::new());
    let open = || namespace.enter(|| Datapath::open(&bpffs.config()).unwrap());
    let first = open();
    let both = vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
    let written = Endpoint {
        addresses: both.clone(),
        open: false,
        identity: 9,
        ..endpoint(7)
    };
    first.endpoints().upsert(&written).unwrap();
    let routes = [
        (
            "10.1.0.0/16",
            NextHop::Overlay {
                vtep: "fd00::1".parse().unwrap(),
            },
        ),
        ("10.1.2.3/32", NextHop::Local),
        (
            "fd00:1::/48",
            NextHop::Direct {
                gateway: "192.0.2.1".parse().unwrap(),
                ifindex: 3,
            },
        ),
        ("fd00::/16", NextHop::Blackhole),
    ];
    let mut routes = routes
        .map(|(prefix, hop)| (prefix.parse().unwrap(), hop))
        .to_vec();
    routes.sort_by_key(|(prefix, _)| *prefix);
    for (prefix, hop) in &routes {
        first.routes().upsert(*prefix, *hop).unwrap();
    }
    drop(first);
    let second = open();
    assert_eq!(
        second.endpoints().list().unwrap(),
        std::slice::from_ref(&written)
    );
    assert!(second.endpoints().set_open(&both, true).unwrap());
    assert_eq!(
        second.endpoints().list().unwrap(),
        [Endpoint {
            open: true,
            ..written
        }]
    );
    assert_eq!(second.routes().list().unwrap(), routes);
    second.endpoints().remove(&both).unwrap();
    second.endpoints().remove(&both).unwrap();
    assert!(!second.endpoints().set_open(&both, true).unwrap());
    assert!(
        second.routes().remove(routes[0].0).unwrap()
            && !second.routes().remove(routes[0].0).unwrap()
    );
    assert!(second.endpoints().list().unwrap().is_empty());
}

#[test]
fn a_full_map_says_so_and_takes_half_an_endpoint_back() {
    let (bpffs, namespace) = (BpfFs::new(), Namespace::new());
    let config = Config {
        max_endpoints: 3,
        max_routes: 2,
        ..bpffs.config()
    };
    let datapath = namespace.enter(|| Datapath::open(&config).unwrap());
    for number in [1, 2] {
        datapath.endpoints().upsert(&endpoint(number)).unwrap();
    }
    let both = vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
    let result = datapath.endpoints().upsert(&Endpoint {
        addresses: both,
        ..endpoint(7)
    });
    assert!(
        matches!(
            result,
            Err(Error::Full {
                map: "endpoints",
                max: 3
            })
        ),
        "{result:?}"
    );
    assert_eq!(
        datapath.endpoints().list().unwrap()[0].addresses.len(),
        2,
        "the half that fitted is gone"
    );
    for number in 1..=2 {
        datapath
            .routes()
            .upsert(
                format!("10.{number}.0.0/16").parse().unwrap(),
                NextHop::Blackhole,
            )
            .unwrap();
    }
    let result = datapath
        .routes()
        .upsert("10.3.0.0/16".parse().unwrap(), NextHop::Blackhole);
    assert!(
        matches!(
            result,
            Err(Error::Full {
                map: "routes",
                max: 2
            })
        ),
        "{result:?}"
    );
}

#[test]
fn uninstall_leaves_nothing() {
    let (one, _two) = two_nodes(Mode::Overlay);
    let _pod = Pod::new(&one, 5);
    let count = |node: &Node| {
        let filters = node.namespace.sh(
            "for link in $(ls /proc/sys/net/ipv4/conf | grep -v -e all -e default); do
               tc filter show dev $link ingress; tc filter show dev $link egress; done",
        );
        filters.matches("malha/").count()
    };
    assert_eq!(count(&one), 2);
    let pins = one.config.pins.clone();
    assert_eq!(std::fs::read_dir(pins.join("links")).unwrap().count(), 4);
    one.namespace.enter(|| Datapath::uninstall(&pins).unwrap());
    assert!(!pins.exists());
    assert_eq!(count(&one), 0);
    one.namespace.enter(|| Datapath::uninstall(&pins).unwrap());
}

#[test]
fn attaching_twice_is_fine_and_a_link_that_is_gone_has_a_name() {
    let node = Node::new(1);
    node.namespace
        .sh("ip link add eth0 type veth peer name other");
    let index = node.namespace.ifindex("other");
    node.namespace.enter(|| {
        for _ in 0..2 {
            node.datapath.attach_uplink("eth0").unwrap();
            node.datapath.attach_endpoint(index).unwrap();
        }
        node.datapath.detach_endpoint(index).unwrap();
        node.datapath.detach_endpoint(index).unwrap();
        node.datapath.detach_uplink("eth0").unwrap();
        node.datapath.attach_uplink("eth0").unwrap();
        assert!(matches!(
            node.datapath.attach_endpoint(4711),
            Err(Error::NoInterface { .. })
        ));
        assert!(matches!(
            node.datapath.attach_overlay("nothing"),
            Err(Error::NoInterface { .. })
        ));
    });
    // The link's pin outlives the interface; the next version's start and the next attachment step over it.
    node.namespace
        .sh("ip link del eth0; ip link add eth0 type veth peer name other");
    let changed = [malha_datapath::object_bytes(), b"x"].concat();
    let mut node = node;
    node.reopen(Some(&changed));
    node.namespace
        .enter(|| node.datapath.attach_uplink("eth0").unwrap());
    assert_eq!(
        std::fs::read_dir(node.config.pins.join("links"))
            .unwrap()
            .count(),
        2
    );
}

#[test]
fn a_start_that_was_killed_half_way_is_finished_by_the_next() {
    let mut node = Node::new(1);
    let pins = node.config.pins.clone();
    let current = std::fs::read_dir(&pins)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let programs = current
        .into_iter()
        .find(|path| path.to_string_lossy().contains("programs-"))
        .unwrap();
    let half = std::path::PathBuf::from(format!("{}-new", programs.display()));
    std::fs::rename(&programs, &half).unwrap();
    std::fs::remove_file(half.join("to_pod")).unwrap();
    node.reopen(None);
    assert!(programs.join("to_pod").exists() && !half.exists());
}

#[test]
fn maps_of_another_version_are_refused() {
    let node = Node::new(1);
    let pin = node.config.pins.join("maps/config");
    let data = aya::maps::MapData::from_pin(&pin).unwrap();
    let mut map =
        aya::maps::Array::<_, [u32; 6]>::try_from(aya::maps::Map::from_map_data(data).unwrap())
            .unwrap();
    map.set(0, [99, 0, 0, 0, 0, 0], 0).unwrap();
    let error = node
        .namespace
        .enter(|| Datapath::open(&node.config).unwrap_err());
    assert!(
        matches!(
            error,
            Error::Layout {
                found: 99,
                wanted: malha_abi::ABI_VERSION,
                ..
            }
        ),
        "{error}"
    );
}

/// The counters of a version with fewer reasons, in place of those that are there.
fn small_counters(pin: &Path) {
    std::fs::remove_file(pin).unwrap();
    let slots = malha_abi::reason_slots() - 1;
    let map = aya::maps::PerCpuArray::<_, [u64; 2]>::create(slots, 0).unwrap();
    map.pin(pin).unwrap();
}

/// Version 2 has more maps than version 1, and changed none.
#[test]
fn maps_of_the_version_before_are_taken_over() {
    let (mut one, two) = two_nodes(Mode::Overlay);
    let (a, c) = (Pod::new(&one, 5), Pod::new(&two, 5));
    let (maps, before) = (one.config.pins.join("maps"), one.datapath.node().unwrap());
    let data = aya::maps::MapData::from_pin(maps.join("config")).unwrap();
    let mut map =
        aya::maps::Array::<_, [u32; 6]>::try_from(aya::maps::Map::from_map_data(data).unwrap())
            .unwrap();
    let mut value = map.get(&0, 0).unwrap();
    value[0] = 1;
    map.set(0, value, 0).unwrap();
    for name in ["flows", "datagrams", "pairs"] {
        std::fs::remove_file(maps.join(name)).unwrap();
    }
    small_counters(&maps.join("drops"));
    let newer = [malha_datapath::object_bytes(), b"x"].concat();
    one.reopen(Some(&newer));
    assert!(!a.namespace.pings("10.244.9.9".parse().unwrap()));
    assert!(one.drops(malha_datapath::Reason::NoRoute) > 0);
    assert_eq!(one.datapath.node().unwrap(), before);
    assert_eq!(map.get(&0, 0).unwrap()[0], malha_abi::ABI_VERSION);
    assert!(a.namespace.pings(c.addresses()[0]));
}

#[test]
fn another_filesystem_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        pins: directory.path().join("malha"),
        ..Config::default()
    };
    let error = Datapath::open(&config).unwrap_err();
    assert!(
        matches!(&error, Error::BpfFs { path, .. } if path == directory.path()),
        "{error}"
    );
    assert_eq!(
        std::fs::read_dir(Path::new(directory.path()))
            .unwrap()
            .count(),
        0
    );
}
