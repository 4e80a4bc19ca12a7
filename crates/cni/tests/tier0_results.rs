//! Results in every version's shape: golden texts, and the way there and back for any result.

use std::net::IpAddr;

use ipnet::IpNet;
use malha_cni::types::{
    CniError, Dns, Interface, IpConfig, Route, SUPPORTED, Success, Version, code,
};
use proptest::{collection::vec, option::of, prelude::*};
use serde_json::{Value, json};

fn net(text: &str) -> IpNet {
    text.parse().expect("an address with a prefix length")
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("an address"))
}

/// A pod's result that uses everything.
fn full() -> Success {
    let host = Interface {
        name: "mlh1".into(),
        mac: "0a:58:0a:00:00:01".into(),
        mtu: Some(1450),
        ..Interface::default()
    };
    let inside = Interface {
        name: "eth0".into(),
        mac: "0a:58:0a:00:00:02".into(),
        mtu: Some(1450),
        sandbox: "/run/netns/a".into(),
        socket_path: Some("/run/s".into()),
        pci_id: Some("0000:00:1f.6".into()),
    };
    let ip = |text: &str, gateway: &str| IpConfig {
        interface: Some(1),
        address: net(text),
        gateway: address(gateway),
    };
    Success {
        interfaces: vec![host, inside],
        ips: vec![
            ip("10.0.0.2/24", "10.0.0.1"),
            ip("fd00::2/64", "fd00::1"),
            ip("10.9.0.2/24", "10.9.0.1"),
        ],
        routes: vec![
            Route {
                mtu: Some(1400),
                advmss: Some(1360),
                priority: Some(5),
                table: Some(100),
                scope: Some(253),
                ..Route::new(net("0.0.0.0/0"), address("10.0.0.1"))
            },
            Route::new(net("::/0"), None),
        ],
        dns: Dns {
            nameservers: vec!["10.96.0.10".into()],
            domain: "cluster.local".into(),
            search: vec!["svc.cluster.local".into()],
            options: vec!["ndots:5".into()],
        },
    }
}

fn dns() -> Value {
    json!({"nameservers": ["10.96.0.10"], "domain": "cluster.local", "search": ["svc.cluster.local"], "options": ["ndots:5"]})
}

fn old(version: &str) -> Value {
    json!({
        "cniVersion": version,
        "ip4": {"ip": "10.0.0.2/24", "gateway": "10.0.0.1", "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}]},
        "ip6": {"ip": "fd00::2/64", "gateway": "fd00::1", "routes": [{"dst": "::/0"}]},
        "dns": dns(),
    })
}

fn middle(version: &str, families: bool) -> Value {
    let mut value = json!({
        "cniVersion": version,
        "interfaces": [
            {"name": "mlh1", "mac": "0a:58:0a:00:00:01"},
            {"name": "eth0", "mac": "0a:58:0a:00:00:02", "sandbox": "/run/netns/a"}
        ],
        "ips": [
            {"interface": 1, "address": "10.0.0.2/24", "gateway": "10.0.0.1"},
            {"interface": 1, "address": "fd00::2/64", "gateway": "fd00::1"},
            {"interface": 1, "address": "10.9.0.2/24", "gateway": "10.9.0.1"}
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}, {"dst": "::/0"}],
        "dns": dns(),
    });
    if families {
        for (index, family) in ["4", "6", "4"].into_iter().enumerate() {
            value["ips"][index]["version"] = json!(family);
        }
    }
    value
}

fn newest() -> Value {
    let mut value = middle("1.1.0", false);
    value["interfaces"][0]["mtu"] = json!(1450);
    value["interfaces"][1]["mtu"] = json!(1450);
    value["interfaces"][1]["socketPath"] = json!("/run/s");
    value["interfaces"][1]["pciID"] = json!("0000:00:1f.6");
    value["routes"][0] = json!({
        "dst": "0.0.0.0/0", "gw": "10.0.0.1", "mtu": 1400, "advmss": 1360, "priority": 5, "table": 100, "scope": 253
    });
    value
}

fn golden(version: Version) -> Value {
    match version {
        Version::V0_1_0 | Version::V0_2_0 => old(version.as_str()),
        Version::V0_3_0 | Version::V0_3_1 | Version::V0_4_0 => middle(version.as_str(), true),
        Version::V1_0_0 => middle(version.as_str(), false),
        Version::V1_1_0 => newest(),
    }
}

#[test]
fn every_version_has_its_shape() {
    for version in SUPPORTED {
        let written = full().to_value(version).expect("a result");
        assert_eq!(written, golden(version), "version {version}");
    }
}

#[test]
fn every_shape_is_read_as_far_as_it_goes() {
    for version in SUPPORTED {
        let read = Success::from_value(&golden(version), Version::LATEST).expect("a result");
        let again = read.to_value(version).expect("a result");
        assert_eq!(again, golden(version), "version {version}");
    }
    let newest = Success::from_value(&newest(), Version::V0_1_0).expect("a result");
    assert_eq!(newest, full());
}

#[test]
fn what_is_empty_is_left_out() {
    let empty = Success::default()
        .to_value(Version::V1_0_0)
        .expect("a result");
    assert_eq!(empty, json!({"cniVersion": "1.0.0"}));
    let go =
        json!({"cniVersion": "1.0.0", "interfaces": null, "ips": [], "routes": null, "dns": {}});
    assert_eq!(
        Success::from_value(&go, Version::V0_1_0),
        Ok(Success::default())
    );
}

#[test]
fn old_versions_need_an_address() {
    for version in [Version::V0_1_0, Version::V0_2_0] {
        let error = Success::default()
            .to_value(version)
            .expect_err("no address");
        assert_eq!(error.code, code::INCOMPATIBLE_VERSION);
    }
}

#[test]
fn a_result_without_version_has_that_of_the_configuration() {
    let text = json!({"ip4": {"ip": "10.0.0.2/24"}});
    let as_old = Success::from_value(&text, Version::V0_2_0).expect("a result");
    assert_eq!(as_old.ips[0].address, net("10.0.0.2/24"));
    let as_new = Success::from_value(&text, Version::V1_0_0).expect("a result");
    assert!(as_new.ips.is_empty());
}

#[test]
fn unreadable_results_say_why() {
    let wrong = [
        (json!([]), code::DECODE),
        (json!({"cniVersion": "7.0.0"}), code::INCOMPATIBLE_VERSION),
        (json!({"cniVersion": 1}), code::DECODE),
        (json!({"ips": [{"address": "10.0.0.300/24"}]}), code::DECODE),
        (
            json!({"ips": [{"address": "10.0.0.3/24", "interface": -1}]}),
            code::DECODE,
        ),
        (json!({"routes": [{"gw": "10.0.0.3"}]}), code::DECODE),
    ];
    for (value, code) in wrong {
        let error = Success::from_value(&value, Version::V1_0_0).expect_err(&value.to_string());
        assert_eq!(error.code, code, "{value}: {error}");
    }
}

#[test]
fn an_address_needs_its_interface() {
    let mut result = full();
    assert_eq!(result.check_indices(), Ok(()));
    result.ips[0].interface = Some(2);
    let error = result.check_indices().expect_err("there are two");
    assert!(error.msg.contains("10.0.0.2/24"), "{error}");
}

#[test]
fn a_later_plugin_amends_the_result() {
    let mut later = full();
    later.dns = Dns::default();
    let both = full().amended_by(later);
    assert_eq!(both.interfaces.len(), 4);
    let indices: Vec<_> = both.ips.iter().map(|ip| ip.interface).collect();
    assert_eq!(
        indices,
        [Some(1), Some(1), Some(1), Some(3), Some(3), Some(3)]
    );
    assert_eq!(both.routes.len(), 4);
    assert_eq!(both.dns, full().dns);
    assert_eq!(both.check_indices(), Ok(()));
}

#[test]
fn an_error_object_is_read_back() {
    let error = CniError::new(code::TRY_AGAIN, "later").with_details("the agent starts");
    assert_eq!(error.to_string(), "later; the agent starts");
    for version in SUPPORTED {
        let value = error.to_value(version);
        assert_eq!(value["cniVersion"], version.as_str());
        assert_eq!(CniError::from_value(&value), Some(error.clone()));
    }
    for not_one in [
        json!({}),
        json!({"code": 0, "msg": ""}),
        json!({"code": "1"}),
        json!([1]),
    ] {
        assert_eq!(CniError::from_value(&not_one), None, "{not_one}");
    }
}

fn any_net() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<[u8; 4]>(), 0..=32u8).prop_map(|(a, p)| IpNet::new_assert(IpAddr::from(a), p)),
        (any::<[u8; 16]>(), 0..=128u8).prop_map(|(a, p)| IpNet::new_assert(IpAddr::from(a), p)),
    ]
}

fn any_address() -> impl Strategy<Value = Option<IpAddr>> {
    any_net()
        .prop_map(|net| net.addr())
        .prop_map(Some)
        .boxed()
        .prop_union(Just(None).boxed())
}

fn any_interface() -> impl Strategy<Value = Interface> {
    (
        "[a-z0-9]{1,15}",
        "[a-f0-9:]{0,17}",
        of(any::<u32>()),
        "[a-z/]{0,9}",
        of("[a-z/]{0,9}"),
    )
        .prop_map(|(name, mac, mtu, sandbox, socket_path)| Interface {
            name,
            mac,
            mtu,
            sandbox,
            socket_path,
            pci_id: None,
        })
}

fn any_success() -> impl Strategy<Value = Success> {
    let ip = (of(0..4usize), any_net(), any_address()).prop_map(|(interface, address, gateway)| {
        IpConfig {
            interface,
            address,
            gateway,
        }
    });
    let route = (any_net(), any_address(), of(any::<u32>()), of(any::<u8>())).prop_map(
        |(dst, gw, mtu, scope)| Route {
            mtu,
            scope,
            ..Route::new(dst, gw)
        },
    );
    let text = || vec("[a-z.:0-9]{0,9}", 0..3);
    let dns = (text(), "[a-z.]{0,9}", text(), text()).prop_map(
        |(nameservers, domain, search, options)| Dns {
            nameservers,
            domain,
            search,
            options,
        },
    );
    (
        vec(any_interface(), 0..4),
        vec(ip, 0..4),
        vec(route, 0..4),
        dns,
    )
        .prop_map(|(interfaces, ips, routes, dns)| Success {
            interfaces,
            ips,
            routes,
            dns,
        })
}

proptest! {
    #[test]
    fn the_newest_version_loses_nothing(result in any_success()) {
        let value = result.to_value(Version::V1_1_0).expect("a result");
        prop_assert_eq!(Success::from_value(&value, Version::V0_1_0), Ok(result));
    }

    /// What a version cannot say is lost once and not again.
    #[test]
    fn every_version_reads_what_it_wrote(result in any_success(), index in 0..SUPPORTED.len()) {
        let version = SUPPORTED[index];
        if let Ok(value) = result.to_value(version) {
            let read = Success::from_value(&value, Version::LATEST).expect("its own shape");
            prop_assert_eq!(read.to_value(version).expect("still an address"), value);
        } else {
            prop_assert!(version <= Version::V0_2_0 && result.ips.is_empty());
        }
    }
}
