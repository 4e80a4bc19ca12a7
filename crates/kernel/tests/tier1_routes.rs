//! Addresses, routes, neighbours, rules, as iproute2 sees them.
mod common;

use std::net::IpAddr;

use common::{new_netns, sh, words};
use ipnet::IpNet;
use malha_kernel::{Batch, Handle, Neighbour, NetNs, PROTOCOL, Path, Route, Rule};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A node with an uplink that is up, in both families.
fn node() -> (NetNs, Handle, u32) {
    let node = new_netns();
    sh(
        &node,
        "ip link set lo up; ip link add eth0 type veth peer name far; ip link set far up; ip link set eth0 mtu 1400 up
         ip addr add 172.31.0.1/24 dev eth0; ip addr add fd00:31::1/64 dev eth0 nodad",
    );
    let handle = Handle::inside(&node).unwrap();
    let index = handle.require_link("eth0").unwrap().index;
    (node, handle, index)
}

#[test]
fn routes_of_both_families_are_written_listed_and_deleted() {
    let (node, handle, eth0) = node();
    let source = |text| Some(ip(text));
    let mut routes = vec![
        Route {
            gateway: source("172.31.0.2"),
            ..Route::to(net("10.244.2.0/24"))
        },
        Route {
            gateway: source("fd00:31::2"),
            ..Route::to(net("fd00:244:2::/64"))
        },
        Route {
            source: source("172.31.0.1"),
            mtu: Some(1350),
            ..Route::through(net("10.244.3.0/24"), eth0)
        },
        Route {
            source: source("fd00:31::1"),
            mtu: Some(1350),
            ..Route::through(net("fd00:244:3::/64"), eth0)
        },
        Route {
            gateway: source("169.254.1.1"),
            onlink: true,
            ..Route::through(net("0.0.0.0/0"), eth0)
        },
        Route {
            gateway: source("fe80::1"),
            onlink: true,
            ..Route::through(net("::/0"), eth0)
        },
        Route {
            gateway: source("fd00:31::9"),
            ..Route::through(net("10.244.9.0/24"), eth0)
        },
        Route {
            table: 1000,
            ..Route::through(net("10.244.7.0/24"), eth0)
        },
        Route {
            metric: Some(4096),
            ..Route::blackhole(net("10.244.0.0/16"))
        },
        Route {
            metric: Some(4096),
            ..Route::blackhole(net("fd00:244::/32"))
        },
    ];
    let all = || {
        routes
            .iter()
            .fold(Batch::new(), |batch, route| batch.replace_route(route))
    };
    handle.commit(all()).unwrap();
    handle.commit(all()).unwrap();
    sh(&node, "ip route add 192.0.2.0/24 via 172.31.0.2");
    let shown = words(&sh(
        &node,
        "ip route; ip -6 route; ip route show table 1000",
    ));
    for part in [
        "10.244.2.0/24 via 172.31.0.2 dev eth0 proto 77",
        "10.244.3.0/24 dev eth0 proto 77 scope link src 172.31.0.1 mtu 1350",
        "default via 169.254.1.1 dev eth0 proto 77 onlink",
        "10.244.9.0/24 via inet6 fd00:31::9 dev eth0 proto 77",
        "blackhole 10.244.0.0/16 proto 77 metric 4096",
        "fd00:244:3::/64 dev eth0 proto 77 src fd00:31::1 metric 1024 mtu 1350",
        "default via fe80::1 dev eth0 proto 77 metric 1024",
        "10.244.7.0/24 dev eth0 proto 77 scope link",
    ] {
        assert!(shown.contains(part), "{part}\nin {shown}");
    }
    let mut listed: Vec<Route> = handle
        .routes(PROTOCOL)
        .unwrap()
        .into_iter()
        .map(essential)
        .collect();
    routes
        .iter_mut()
        .for_each(|route| *route = essential(*route));
    routes.sort();
    listed.sort();
    assert_eq!(listed, routes);
    let none = || {
        routes
            .iter()
            .fold(Batch::new(), |batch, route| batch.delete_route(route))
    };
    handle.commit(none()).unwrap();
    handle.commit(none()).unwrap();
    assert_eq!(handle.routes(PROTOCOL).unwrap(), []);
    assert!(
        sh(&node, "ip route").contains("192.0.2.0/24"),
        "someone else's stays"
    );
}

/// What the kernel fills in left out: device of routes by gateway, IPv6 default metric, lo of IPv6 blackholes.
fn essential(route: Route) -> Route {
    let six = route.prefix.addr().is_ipv6();
    Route {
        metric: route.metric.filter(|metric| !(six && *metric == 1024)),
        device: route
            .device
            .filter(|_| route.gateway.is_none() && route.kind == malha_kernel::RouteKind::Unicast),
        onlink: route.onlink && !six,
        ..route
    }
}

#[test]
fn replacing_a_route_leaves_one() {
    let (node, handle, eth0) = node();
    for prefix in ["10.244.2.7/32", "fd00:244:2::7/128"] {
        let far = handle.require_link("far").unwrap().index;
        for device in [far, eth0] {
            handle
                .commit(Batch::new().replace_route(&Route::through(net(prefix), device)))
                .unwrap();
        }
        let routes: Vec<Route> = handle.routes(PROTOCOL).unwrap();
        let routes: Vec<_> = routes
            .iter()
            .filter(|route| route.prefix == net(prefix))
            .collect();
        assert_eq!(routes.len(), 1, "{routes:?}");
        assert_eq!(
            routes[0].device,
            Some(eth0),
            "{}",
            sh(&node, "ip route; ip -6 route")
        );
    }
}

#[test]
fn the_way_to_an_address() {
    let (_node, handle, eth0) = node();
    let path = |address| handle.path_to(ip(address)).unwrap();
    let direct = |source| Path {
        device: eth0,
        source: Some(ip(source)),
        gateway: None,
        mtu: 1400,
        local: false,
    };
    assert_eq!(path("172.31.0.2"), Some(direct("172.31.0.1")));
    assert_eq!(path("fd00:31::2"), Some(direct("fd00:31::1")));
    assert_eq!(path("198.51.100.1"), None);
    assert_eq!(path("2001:db8::1"), None);
    let batch = Batch::new()
        .replace_route(&Route {
            gateway: Some(ip("172.31.0.2")),
            mtu: Some(1300),
            ..Route::to(net("0.0.0.0/0"))
        })
        .replace_route(&Route {
            gateway: Some(ip("fd00:31::2")),
            ..Route::to(net("::/0"))
        })
        .replace_route(&Route::blackhole(net("203.0.113.0/24")));
    handle.commit(batch).unwrap();
    let four = Path {
        gateway: Some(ip("172.31.0.2")),
        mtu: 1300,
        ..direct("172.31.0.1")
    };
    assert_eq!(path("198.51.100.1"), Some(four));
    let six = Path {
        gateway: Some(ip("fd00:31::2")),
        ..direct("fd00:31::1")
    };
    assert_eq!(path("2001:db8::1"), Some(six));
    assert_eq!(path("203.0.113.1"), None);
    assert!(path("172.31.0.1").unwrap().local);
    assert!(path("fd00:31::1").unwrap().local);
}

#[test]
fn addresses_are_usable_at_once() {
    let (_node, handle, eth0) = node();
    let far = handle.require_link("far").unwrap().index;
    let nets = [net("10.0.0.7/32"), net("fd00::7/128")];
    let add = || {
        nets.iter()
            .fold(Batch::new(), |batch, net| batch.add_address(far, *net))
    };
    handle.commit(add()).unwrap();
    handle.commit(add()).unwrap();
    let mut found: Vec<IpNet> = handle
        .addresses()
        .unwrap()
        .into_iter()
        .filter(|address| address.device == far && !address.local_scope)
        .inspect(|address| assert!(!address.unusable, "{address:?}"))
        .map(|address| address.address)
        .collect();
    found.sort();
    assert_eq!(found, nets);
    assert!(
        handle
            .addresses()
            .unwrap()
            .iter()
            .any(|address| address.device == eth0 && address.address == net("172.31.0.1/24"))
    );
    let delete = || {
        nets.iter()
            .fold(Batch::new(), |batch, net| batch.delete_address(far, *net))
    };
    handle.commit(delete()).unwrap();
    handle.commit(delete()).unwrap();
}

#[test]
fn an_ipv6_address_with_a_local_route_is_there_at_once() {
    let (_node, handle, _) = node();
    let far = handle.require_link("far").unwrap().index;
    for number in 1..50 {
        let address = ip(&format!("fd00:9::{number:x}"));
        let batch = Batch::new()
            .add_address(far, address.into())
            .replace_route(&Route::local(address, far));
        handle.commit(batch).unwrap();
        assert!(handle.path_to(address).unwrap().unwrap().local, "{address}");
    }
}

#[test]
fn permanent_neighbours() {
    let (node, handle, eth0) = node();
    let neighbours = ["172.31.0.9", "fd00:31::9"].map(|address| Neighbour {
        device: eth0,
        address: ip(address),
        mac: [2, 0, 0, 0, 0, 9],
    });
    for _ in 0..2 {
        let batch = neighbours.iter().fold(Batch::new(), |batch, neighbour| {
            batch.replace_neighbour(neighbour)
        });
        handle.commit(batch).unwrap();
    }
    let shown = sh(&node, "ip neigh show nud permanent dev eth0");
    assert!(
        shown.contains("172.31.0.9 lladdr 02:00:00:00:00:09"),
        "{shown}"
    );
    let mut listed = handle.permanent_neighbours().unwrap();
    listed.sort();
    assert_eq!(listed, neighbours);
    for _ in 0..2 {
        let batch = neighbours.iter().fold(Batch::new(), |batch, neighbour| {
            batch.delete_neighbour(eth0, neighbour.address)
        });
        handle.commit(batch).unwrap();
    }
    assert_eq!(handle.permanent_neighbours().unwrap(), []);
}

#[test]
fn rules_by_mark() {
    let (node, handle, _) = node();
    for ipv6 in [false, true] {
        let rule = Rule {
            ipv6,
            priority: 100,
            mark: (0x100, 0xf00),
            table: 1000,
        };
        for _ in 0..2 {
            handle.commit(Batch::new().add_rule(&rule)).unwrap();
        }
        let show = || words(&sh(&node, if ipv6 { "ip -6 rule" } else { "ip rule" }));
        assert_eq!(
            show()
                .matches("100: from all fwmark 0x100/0xf00 lookup 1000")
                .count(),
            1,
            "{}",
            show()
        );
        for _ in 0..2 {
            handle.commit(Batch::new().delete_rule(&rule)).unwrap();
        }
        assert!(!show().contains("fwmark"));
    }
}
