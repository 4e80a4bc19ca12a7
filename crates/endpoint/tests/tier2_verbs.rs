//! ADD, DEL, CHECK, GC on a real kernel with a real datapath.
mod common;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{FOUR, Holdings, Node, SIX, eventually, fail_at, new_netns, pings, sh, try_sh};
use malha_endpoint::{
    AddRequest, Admission, Config, Endpoint, Error, GATEWAY_V4, GATEWAY_V6, Key, Pod, Step,
};
use malha_kernel::Handle;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn two_pods_reach_each_other_and_their_node_and_are_gone_after_del() {
    let node = Node::new();
    let managed = node.open();
    let (one, two) = (new_netns(), new_netns());
    let first = managed.add("one", &one).unwrap();
    let second = managed.add("two", &two).unwrap();
    assert_eq!(first.addresses, [ip("10.244.3.2"), ip("fd00:244:3::2")]);
    assert_eq!(first.mac, [0x0a, 0x58, 10, 244, 3, 2]);
    for address in [
        second.addresses[0],
        second.addresses[1],
        ip("172.31.0.1"),
        ip("fd00:31::1"),
    ] {
        assert!(pings(&one, address), "from one to {address}");
    }
    for address in &first.addresses {
        assert!(pings(&node.netns, *address), "from the node to {address}");
        assert!(pings(&two, *address), "from two to {address}");
    }
    assert_eq!(node.holdings(), Holdings::of_pods(2));
    managed
        .check("one", &one, Some(first.addresses.clone()))
        .unwrap();

    managed.del("one").unwrap();
    // At once, before the link is deleted: nothing passes any more.
    assert!(!pings(&two, first.addresses[0]) && !pings(&one, second.addresses[0]));
    assert_eq!(managed.settled(), Holdings::of_pods(1));
    assert!(
        !try_sh(&one, "ip link show eth0").0,
        "the pod's end went with the node's"
    );
    managed.del("one").unwrap();
    managed.del("never-added").unwrap();
    assert!(matches!(
        managed.check("one", &one, None),
        Err(Error::Unknown(_))
    ));
    managed.del("two").unwrap();
    assert_eq!(managed.settled(), Holdings::of_pods(0));
}

#[test]
fn the_result_says_what_the_pod_has() {
    let node = Node::new();
    let managed = node.open();
    let pod = new_netns();
    let endpoint = managed.add("one", &pod).unwrap();
    let nets: Vec<String> = endpoint.networks().map(|net| net.to_string()).collect();
    assert_eq!(nets, ["10.244.3.2/32", "fd00:244:3::2/128"]);
    let routes: Vec<_> = endpoint.routes().collect();
    let everything = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    assert_eq!(
        routes,
        [
            (everything[0], GATEWAY_V4.into()),
            (everything[1], GATEWAY_V6.into())
        ]
    );
    let link = sh(
        &pod,
        "ip link show eth0; ip addr show eth0; ip route; ip -6 route; ip neigh show nud permanent",
    );
    for part in [
        "mtu 1430",
        "0a:58:0a:f4:03:02",
        "inet 10.244.3.2/32 scope global",
        "inet6 fd00:244:3::2/128 scope global",
        "default via 169.254.1.1 dev eth0",
        "default via fe80::1 dev eth0",
        "169.254.1.1 dev eth0 lladdr 0a:58:a9:fe:01:01",
        "fe80::1 dev eth0 lladdr 0a:58:a9:fe:01:01",
    ] {
        assert!(link.contains(part), "{part}\n{link}");
    }
    assert!(!link.contains("tentative"), "{link}");
    assert_eq!(
        sh(&pod, "cat /proc/sys/net/ipv6/conf/eth0/accept_ra").trim(),
        "0"
    );
    let host = sh(&node.netns, &format!("ip addr show {}", endpoint.host_link));
    assert!(
        host.contains("mtu 1430") && !host.contains("fe80"),
        "{host}"
    );
    assert_eq!(managed.manager.get(&endpoint.key), Some(endpoint.clone()));
    assert_eq!(managed.manager.list(), [endpoint]);
}

#[test]
fn the_pods_name_is_for_people_and_comes_back() {
    let node = Node::new();
    let managed = node.open();
    let netns = new_netns();
    let pod = Pod {
        namespace: "n".repeat(63),
        name: "p".repeat(253),
        uid: "6f5c".to_owned(),
    };
    let request = AddRequest {
        key: Key::new("one", "eth0"),
        netns: &netns,
        sandbox: "/run/netns/one".to_owned(),
        pod: Some(pod.clone()),
        ports: Vec::new(),
    };
    let endpoint = node
        .netns
        .run(|| managed.manager.add(&request))
        .unwrap()
        .unwrap();
    assert_eq!(
        (endpoint.pod, endpoint.sandbox.as_str()),
        (Some(pod), "/run/netns/one")
    );
    let shown = sh(&node.netns, &format!("ip link show {}", endpoint.host_link));
    assert!(
        shown.contains(&format!("alias {}/{}", "n".repeat(63), "p".repeat(190))),
        "{shown}"
    );
}

#[test]
fn a_namespace_with_ipv6_switched_off_gets_it_back() {
    let node = Node::new();
    let managed = node.open();
    let pod = new_netns();
    sh(&pod, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    managed.add("one", &pod).unwrap();
    assert!(pings(&pod, ip("fd00:31::1")));
}

#[test]
fn add_again_is_answered_as_the_first_time() {
    let node = Node::new();
    let managed = node.open();
    let (pod, other) = (new_netns(), new_netns());
    let first = managed.add("one", &pod).unwrap();
    assert_eq!(managed.add("one", &pod).unwrap(), first);
    assert_eq!(node.holdings(), Holdings::of_pods(1));
    // The same attachment in another namespace is another pod's life: the first is over.
    let second = managed.add("one", &other).unwrap();
    assert_ne!(second.addresses, first.addresses);
    assert!(pings(&other, ip("172.31.0.1")));
    assert_eq!(managed.settled(), Holdings::of_pods(1));
    assert!(!try_sh(&pod, "ip link show eth0").0);
    // A broken one is made again.
    sh(&other, "ip link del eth0");
    let third = managed.add("one", &other).unwrap();
    assert_ne!(third.id, second.id);
    assert!(pings(&other, ip("172.31.0.1")));
    assert_eq!(managed.settled(), Holdings::of_pods(1));
}

#[test]
fn two_interfaces_of_one_container_are_two_attachments() {
    let node = Node::new();
    let managed = node.open();
    let pod = new_netns();
    let first = managed.add_key(Key::new("one", "eth0"), &pod).unwrap();
    sh(&pod, "ip route del default; ip -6 route del default");
    let second = managed.add_key(Key::new("one", "net1"), &pod).unwrap();
    assert_ne!(first.host_link, second.host_link);
    assert_eq!(node.holdings(), Holdings::of_pods(2));
    managed.del("one").unwrap();
    assert_eq!(managed.settled(), Holdings::of_pods(1));
    assert!(try_sh(&pod, "ip link show net1").0);
}

#[test]
fn an_interface_of_somebody_else_is_an_error_and_stays() {
    let node = Node::new();
    let managed = node.open();
    let pod = new_netns();
    sh(&pod, "ip link add eth0 type veth peer name other");
    let error = managed.add("one", &pod).unwrap_err();
    assert!(matches!(error, Error::InterfaceExists(_)), "{error}");
    assert!(try_sh(&pod, "ip link show eth0").0);
    assert_eq!(managed.settled(), Holdings::of_pods(0));
}

#[test]
fn del_then_add_in_the_same_namespace_does_not_wait_for_the_reaper() {
    let node = Node::new();
    let managed = node.open_with(|config| Config {
        gather: Duration::from_secs(3600),
        ..config
    });
    let pod = new_netns();
    for _ in 0..3 {
        managed.add("one", &pod).unwrap();
        assert!(pings(&pod, ip("172.31.0.1")));
        managed.del("one").unwrap();
    }
    // Another container's, the same namespace and name.
    managed.add("two", &pod).unwrap();
    assert_eq!(managed.settled(), Holdings::of_pods(1));
}

#[test]
fn a_left_over_link_of_our_name_is_replaced() {
    let node = Node::new();
    let managed = node.open();
    let pod = new_netns();
    let name = malha_endpoint::link_name(&Key::new("one", "eth0"));
    sh(
        &node.netns,
        &format!("ip link add {name} type veth peer name other"),
    );
    managed.add("one", &pod).unwrap();
    assert_eq!(managed.settled(), Holdings::of_pods(1));
}

#[test]
fn a_dead_namespace_takes_nothing_with_it_that_del_needs() {
    let node = Node::new();
    let managed = node.open();
    let pod = new_netns();
    managed.add("one", &pod).unwrap();
    drop(pod);
    eventually("the link is gone", || node.holdings().links == 0);
    managed.del("one").unwrap();
    assert_eq!(managed.settled(), Holdings::of_pods(0));
}

#[test]
fn check_tells_every_difference() {
    let node = Node::new();
    let managed = node.open();
    let (pod, other) = (new_netns(), new_netns());
    let endpoint = managed.add("one", &pod).unwrap();
    let check = || managed.check("one", &pod, Some(endpoint.addresses.clone()));
    let differs = |script: &str, undo: &str, wanted: &str| {
        sh(&pod, script);
        let error = check().unwrap_err();
        assert!(
            matches!(&error, Error::Check { .. }) && error.to_string().contains(wanted),
            "{script}: {error}"
        );
        sh(&pod, undo);
        check().unwrap_or_else(|error| panic!("after {undo}: {error}"));
    };
    check().unwrap();
    // What a later plugin of the chain may do.
    sh(
        &pod,
        "ip link set eth0 mtu 1300; ip addr add 192.0.2.9/32 dev eth0; ip route add 192.0.2.0/24 via 169.254.1.1 dev eth0 onlink",
    );
    check().unwrap();
    differs(
        "ip link set eth0 mtu 9000",
        "ip link set eth0 mtu 1430",
        "MTU of interface eth0 is 9000, above 1430",
    );
    differs(
        "ip link set eth0 address 02:00:00:00:00:01",
        "ip link set eth0 address 0a:58:0a:f4:03:02",
        "another MAC address than 0a:58:0a:f4:03:02",
    );
    differs(
        "ip addr del 10.244.3.2/32 dev eth0",
        "ip addr add 10.244.3.2/32 dev eth0",
        "lost its address 10.244.3.2",
    );
    differs(
        "ip route del default",
        "ip route add default via 169.254.1.1 dev eth0 onlink proto 77",
        "the route to 0.0.0.0/0 via 169.254.1.1 is gone",
    );
    let error = managed.check("one", &other, None).unwrap_err().to_string();
    assert!(
        error.contains("another network namespace") && error.contains("interface eth0 is gone"),
        "{error}"
    );
    let error = managed
        .check("one", &pod, Some(vec![ip("10.9.9.9")]))
        .unwrap_err()
        .to_string();
    assert!(error.contains("not [10.9.9.9]"), "{error}");
    managed
        .datapath
        .endpoints()
        .remove(&endpoint.addresses)
        .unwrap();
    let error = check().unwrap_err().to_string();
    assert!(
        error.contains("the datapath does not know fd00:244:3::2"),
        "{error}"
    );
    sh(&node.netns, &format!("ip link del {}", endpoint.host_link));
    let error = check().unwrap_err().to_string();
    assert!(error.contains("is gone"), "{error}");
}

#[test]
fn another_mtu_reaches_those_that_live() {
    let node = Node::new();
    let managed = node.open();
    let (one, two) = (new_netns(), new_netns());
    managed.add("one", &one).unwrap();
    let endpoint = managed.add("two", &two).unwrap();
    sh(&two, "ip link set eth0 mtu 1290");
    let resize = |mtu| {
        node.netns
            .run(|| managed.manager.resize(mtu))
            .unwrap()
            .unwrap()
    };
    let mtus = || {
        let host = Handle::inside(&node.netns).unwrap();
        let pods = [&one, &two].map(|pod| {
            Handle::inside(pod)
                .unwrap()
                .require_link("eth0")
                .unwrap()
                .mtu
        });
        (host.require_link(&endpoint.host_link).unwrap().mtu, pods)
    };
    for (mtu, wanted) in [
        (1400, (1400, [1400, 1290])),
        (1280, (1280, [1280, 1280])),
        (1500, (1500, [1500, 1500])),
    ] {
        assert_eq!(resize(mtu), 2);
        assert_eq!(mtus(), wanted);
        managed.check("one", &one, None).unwrap();
        managed.check("two", &two, None).unwrap();
    }
    assert_eq!(resize(1500), 0);
    let third = new_netns();
    assert_eq!(managed.add("three", &third).unwrap().mtu, 1500);
    drop(managed);
    let managed = node.open();
    managed.check("one", &one, None).unwrap();
    assert_eq!(managed.manager.get(&endpoint.key).unwrap().mtu, 1500);
}

#[test]
fn gc_keeps_what_is_valid_and_refuses_to_remove_all_that_live() {
    let node = Node::new();
    let managed = node.open();
    let pods: Vec<_> = (0..4).map(|_| new_netns()).collect();
    for (number, pod) in pods.iter().enumerate() {
        managed.add(&number.to_string(), pod).unwrap();
    }
    managed.gc(&["0", "2", "3", "unknown"]).unwrap();
    assert_eq!(managed.settled(), Holdings::of_pods(3));
    managed.gc(&["0", "2", "3"]).unwrap();
    drop(pods.into_iter().nth(3));
    // All four namespaces are dead now.
    eventually("the links are gone", || node.holdings().links == 0);
    managed.gc(&[]).unwrap();
    assert_eq!(managed.settled(), Holdings::of_pods(0));
    let alive = new_netns();
    managed.add("alive", &alive).unwrap();
    let error = managed.gc(&[]).unwrap_err();
    assert!(matches!(error, Error::EmptyList { alive: 1 }), "{error}");
    assert_eq!(managed.settled(), Holdings::of_pods(1));
}

#[test]
fn a_full_range_says_so_and_comes_back() {
    let node = Node::new();
    let small = |config: Config| Config {
        prefixes: vec!["10.244.3.0/29".parse().unwrap(), SIX.parse().unwrap()],
        quarantine: Duration::from_secs(1),
        gather: Duration::from_secs(3600),
        ..config
    };
    let managed = node.open_with(small);
    let pods: Vec<_> = (0..5).map(|_| new_netns()).collect();
    for (number, pod) in pods.iter().enumerate() {
        managed.add(&number.to_string(), pod).unwrap();
    }
    let last = new_netns();
    for _ in 0..2 {
        let error = managed.add("last", &last).unwrap_err();
        assert!(matches!(error, Error::Full { capacity: 5, .. }), "{error}");
        assert_eq!(error.cni_code(), 11);
    }
    assert_eq!(managed.settled(), Holdings::of_pods(5));
    // Its address rests first, from when its link is gone.
    managed.del("3").unwrap();
    assert_eq!(managed.settled(), Holdings::of_pods(4));
    let error = managed.add("last", &last).unwrap_err();
    assert!(matches!(error, Error::Full { resting: 1, .. }), "{error}");
    eventually("the address has rested", || {
        managed.add("last", &last).is_ok()
    });
    assert_eq!(
        managed.manager.list().last().unwrap().addresses[0],
        ip("10.244.3.5")
    );
    assert!(pings(&last, ip("172.31.0.1")));
    assert_eq!(managed.settled(), Holdings::of_pods(5));
}

#[test]
fn prefixes_come_later_and_may_change() {
    let node = Node::new();
    let managed = node.open_with(|config| Config {
        prefixes: Vec::new(),
        ..config
    });
    let (one, two) = (new_netns(), new_netns());
    let error = managed.add("one", &one).unwrap_err();
    assert!(
        matches!(error, Error::NoPrefix) && error.cni_code() == 11,
        "{error}"
    );
    let nets = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| text.parse().unwrap())
            .collect::<Vec<_>>()
    };
    assert!(matches!(
        managed.manager.set_prefixes(&nets(&[FOUR, "10.0.0.0/24"])),
        Err(Error::SameFamily(..))
    ));
    managed.manager.set_prefixes(&nets(&[SIX])).unwrap();
    assert_eq!(
        managed.add("one", &one).unwrap().addresses,
        [ip("fd00:244:3::2")]
    );
    assert!(pings(&one, ip("fd00:31::1")));
    managed
        .manager
        .set_prefixes(&nets(&["10.9.0.0/24", SIX]))
        .unwrap();
    assert_eq!(
        managed.add("two", &two).unwrap().addresses,
        [ip("10.9.0.2"), ip("fd00:244:3::3")]
    );
    managed.del("one").unwrap();
    managed.del("two").unwrap();
    assert_eq!(managed.settled(), Holdings::of_pods(0));
}

#[test]
fn addresses_rest_before_they_are_used_again() {
    let node = Node::new();
    let managed = node.open();
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..20 {
        let pod = new_netns();
        let endpoint = managed.add(&number.to_string(), &pod).unwrap();
        assert!(
            seen.insert(endpoint.addresses[0]),
            "{:?} again",
            endpoint.addresses
        );
        managed.del(&number.to_string()).unwrap();
    }
    managed.manager.flush().unwrap();
    let status = managed.manager.status();
    assert_eq!((status.pools[0].used, status.pools[0].resting), (0, 20));
    assert_eq!(node.holdings().records["freed"], 20);
    drop(managed);
    // A restarted agent remembers.
    let managed = node.open();
    assert_eq!(managed.manager.status().pools[0].resting, 20);
    let pod = new_netns();
    assert!(seen.insert(managed.add("next", &pod).unwrap().addresses[0]));
    drop(managed);
    let managed = node.open_with(|config| Config {
        quarantine: Duration::from_millis(1),
        ..config
    });
    eventually("records of rested addresses are removed", || {
        !node.holdings().records.contains_key("freed")
    });
    assert_eq!(managed.settled(), Holdings::of_pods(1));
}

#[test]
fn a_failure_at_any_step_undoes_everything() {
    for step in Step::ALL.into_iter().take(8) {
        let node = Node::new();
        let managed = node.open_with(|config| Config {
            hook: Some(fail_at(step)),
            ..config
        });
        let pod = new_netns();
        let error = managed.add("one", &pod).unwrap_err();
        assert!(matches!(error, Error::Injected(_)), "{step:?}: {error}");
        assert_eq!(managed.settled(), Holdings::of_pods(0), "{step:?}");
        assert!(!try_sh(&pod, "ip link show eth0").0, "{step:?}");
        managed.del("one").unwrap();
        let status = managed.manager.status();
        assert_eq!(
            (status.pools[0].used, status.adding, status.deleting),
            (0, 0, 0),
            "{step:?}"
        );
    }
}

#[test]
fn a_full_disk_is_said_and_leaks_nothing() {
    let node = Node::new();
    let state = node.directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let (one, two) = (new_netns(), new_netns());
    // A filesystem for one record, mounted for nobody but this thread and those it starts.
    std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS | nix::sched::CloneFlags::CLONE_NEWNS)
            .unwrap();
        let private = nix::mount::MsFlags::MS_PRIVATE | nix::mount::MsFlags::MS_REC;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), &state, Some("tmpfs"), flags, Some("size=4k")).unwrap();
        let managed = node.open();
        managed.add("one", &one).unwrap();
        let error = managed.add("two", &two).unwrap_err();
        assert!(
            matches!(error, Error::Record { what: "write", .. }) && error.cni_code() == 5,
            "{error}"
        );
        assert!(
            error.to_string().contains("No space left on device"),
            "{error}"
        );
        assert_eq!(managed.settled(), Holdings::of_pods(1));
        assert_eq!(managed.manager.status().pools[0].used, 1);
        // DEL needs no space.
        managed.del("one").unwrap();
        assert_eq!(managed.settled(), Holdings::of_pods(0));
    })
    .join()
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Admits nobody until told, and takes note of who goes.
#[derive(Debug, Default)]
struct Door {
    open: AtomicBool,
    released: Mutex<Vec<u32>>,
}

impl Admission for Door {
    fn admit(&self, _: &Endpoint) -> Result<(), Error> {
        match self.open.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(Error::NotAdmitted("the door is closed".to_owned())),
        }
    }

    fn release(&self, endpoint: &Endpoint) {
        self.released.lock().unwrap().push(endpoint.id);
    }
}

#[test]
fn nothing_is_opened_before_it_is_admitted() {
    let node = Node::new();
    let door = Arc::new(Door::default());
    let managed = node.open_with(|config| Config {
        admission: Some(door.clone()),
        ..config
    });
    let pod = new_netns();
    let error = managed.add("one", &pod).unwrap_err();
    assert_eq!(error.cni_code(), 11, "{error}");
    assert_eq!(managed.settled(), Holdings::of_pods(0));
    door.open.store(true, Ordering::SeqCst);
    let endpoint = managed.add("one", &pod).unwrap();
    assert!(pings(&pod, ip("172.31.0.1")));
    managed.del("one").unwrap();
    assert_eq!(door.released.lock().unwrap().last(), Some(&endpoint.id));
}
