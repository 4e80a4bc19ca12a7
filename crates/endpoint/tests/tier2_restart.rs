//! Killed, restarted, rebooted: what the next agent finds, and what it makes of it.
mod common;

use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::{FOUR, Holdings, Node, SIX, eventually, new_netns, path, pings, sh, try_sh};
use malha_datapath::Datapath;
use malha_endpoint::{AddRequest, Config, Hook, HostPort, Key, Manager, Reconciled, Step};
use malha_kernel::{NetNs, ports};

const CHILD: &str = "MALHA_ENDPOINT_CHILD";

/// What the victim asks for.
const PORT: HostPort = HostPort {
    address: None,
    protocol: 6,
    port: 8080,
    container_port: 80,
};

fn mappings(node: &Node) -> usize {
    node.netns.run(ports::list).unwrap().unwrap().len()
}

/// Does one thing as another process, the child of a test, and is killed at a step. Run by itself it does nothing.
#[test]
fn child() {
    let Ok(order) = std::env::var(CHILD) else {
        return;
    };
    let parts: Vec<&str> = order.split('|').collect();
    let [verb, step, node, pod, pins, state] = parts[..] else {
        panic!("{order}");
    };
    let step = Step::ALL
        .into_iter()
        .find(|at| format!("{at:?}") == step)
        .unwrap();
    let kill = Hook(Arc::new(move |at| {
        if at == step {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        Ok(())
    }));
    let config = Config {
        prefixes: vec![FOUR.parse().unwrap(), SIX.parse().unwrap()],
        mtu: 1430,
        gather: Duration::ZERO,
        hook: Some(kill),
        ..Config::new(state, "this-boot")
    };
    let (node, pod) = (
        NetNs::open(Path::new(node)).unwrap(),
        NetNs::open(Path::new(pod)).unwrap(),
    );
    let live = || {
        let pins = PathBuf::from(pins);
        let datapath = Datapath::open(&malha_datapath::Config {
            pins,
            ..malha_datapath::Config::default()
        })
        .unwrap();
        let manager = Manager::open(config, Arc::new(datapath)).unwrap();
        let key = Key::new("victim", "eth0");
        if verb == "add" {
            let request = AddRequest {
                key,
                netns: &pod,
                sandbox: String::new(),
                pod: None,
                ports: vec![PORT],
            };
            manager.add(&request).unwrap();
        } else {
            manager.del(&key).unwrap();
            manager.flush().unwrap();
        }
    };
    node.run(live).unwrap();
    unreachable!("the step never came");
}

fn killed(node: &Node, pod: &NetNs, verb: &str, step: Step) {
    let order = [
        verb,
        &format!("{step:?}"),
        &path(&node.netns),
        &path(pod),
        &node.bpffs.path().join("malha").display().to_string(),
        &node.directory.path().join("state").display().to_string(),
    ];
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, order.join("|"));
    let output = child.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert_eq!(
        output.status.signal(),
        Some(libc::SIGKILL),
        "{verb} {step:?}: {}",
        String::from_utf8_lossy(&text)
    );
}

#[test]
fn killed_at_any_step_of_add() {
    let node = Node::new();
    let bystander = new_netns();
    node.open().add("bystander", &bystander).unwrap();
    for step in Step::ALL.into_iter().take(8) {
        let pod = new_netns();
        killed(&node, &pod, "add", step);
        let managed = node.open();
        if step == Step::Ready {
            // Made, and nobody was told. ADD again tells; the runtime may as well never come back.
            assert_eq!(managed.settled(), Holdings::of_pods(2));
            assert!(pings(&pod, "172.31.0.1".parse().unwrap()));
            assert_eq!(mappings(&node), 2);
            managed.check("victim", &pod, None).unwrap();
            managed.del("victim").unwrap();
        }
        assert_eq!(managed.settled(), Holdings::of_pods(1), "{step:?}");
        assert_eq!(mappings(&node), 0, "{step:?}");
        assert!(!try_sh(&pod, "ip link show eth0").0, "{step:?}");
        assert_eq!(managed.manager.status().pools[0].used, 1, "{step:?}");
        // What the runtime does next.
        managed.del("victim").unwrap();
        managed.add("victim", &pod).unwrap();
        assert!(pings(&pod, "fd00:31::1".parse().unwrap()), "{step:?}");
        managed.del("victim").unwrap();
        assert_eq!(managed.settled(), Holdings::of_pods(1), "{step:?}");
    }
    assert!(pings(&bystander, "172.31.0.1".parse().unwrap()));
}

#[test]
fn killed_at_any_step_of_del() {
    let node = Node::new();
    node.open();
    for step in Step::ALL.into_iter().skip(8) {
        let pod = new_netns();
        let victim = Key::new("victim", "eth0");
        let endpoint = node.open().add_with(victim, &pod, &[PORT]).unwrap();
        let address = endpoint.addresses[0];
        killed(&node, &pod, "del", step);
        let managed = node.open();
        assert!(!pings(&node.netns, address), "{step:?}: it is closed");
        assert_eq!(managed.settled(), Holdings::of_pods(0), "{step:?}");
        assert_eq!(mappings(&node), 0, "{step:?}");
        managed.del("victim").unwrap();
        assert!(!try_sh(&pod, "ip link show eth0").0, "{step:?}");
        assert_eq!(managed.manager.status().pools[0].used, 0, "{step:?}");
    }
}

#[test]
fn a_restart_changes_nothing_for_those_that_live() {
    let node = Node::new();
    let (one, two) = (new_netns(), new_netns());
    let managed = node.open();
    let first = managed.add("one", &one).unwrap();
    managed.add("two", &two).unwrap();
    drop(managed);
    assert!(pings(&two, first.addresses[0]), "without an agent");
    let managed = node.open();
    assert_eq!(managed.reconcile(), Reconciled::default());
    assert_eq!(managed.manager.get(&first.key), Some(first.clone()));
    assert_eq!(managed.add("one", &one).unwrap(), first);
    assert!(pings(&two, first.addresses[0]));
    let third = new_netns();
    assert!(
        !first
            .addresses
            .contains(&managed.add("three", &third).unwrap().addresses[0])
    );
    assert_eq!(managed.settled(), Holdings::of_pods(3));
}

#[test]
fn what_nobody_holds_is_given_back_and_what_is_missing_is_repaired() {
    let node = Node::new();
    let (one, two) = (new_netns(), new_netns());
    let managed = node.open();
    let first = managed.add("one", &one).unwrap();
    managed.add("two", &two).unwrap();
    // No DEL comes for the second; someone tears at the first; two links are of nobody knows when.
    drop(two);
    eventually("the link of the second is gone", || {
        node.holdings().links == 1
    });
    sh(
        &node.netns,
        &format!(
            "ip route flush proto 77; ip -6 route flush proto 77; ip neigh flush nud permanent
             ip link add mlh000000000001 type veth peer name x1; ip link add mlh000000000002 type veth peer name x2
             ip link add mlhother type veth peer name x3; tc qdisc del dev {} clsact",
            first.host_link
        ),
    );
    managed
        .datapath
        .endpoints()
        .remove(&first.addresses)
        .unwrap();
    let stray = malha_datapath::Endpoint {
        id: 99,
        ifindex: 99,
        addresses: vec!["10.244.3.99".parse().unwrap()],
        mac: [2; 6],
        host_mac: [2; 6],
        identity: 0,
        open: true,
    };
    managed.datapath.endpoints().upsert(&stray).unwrap();
    let done = managed.reconcile();
    let wanted = Reconciled {
        unfinished: 0,
        lost: 1,
        links: 2,
        entries: 1,
        repaired: 1,
        ports: 0,
        failed: 0,
    };
    assert_eq!(done, wanted);
    let left = managed.settled();
    let others = Holdings {
        links: 3,
        ..Holdings::of_pods(1)
    };
    assert_eq!(left, others, "the pod, and what does not have our name");
    managed.check("one", &one, None).unwrap();
    assert!(pings(&one, "172.31.0.1".parse().unwrap()) && pings(&node.netns, first.addresses[1]));
    assert_eq!(managed.reconcile(), Reconciled::default());
}

#[test]
fn a_reboot_makes_every_record_worthless() {
    let node = Node::new();
    let pods: Vec<_> = (0..3).map(|_| new_netns()).collect();
    let managed = node.open();
    for (number, pod) in pods.iter().enumerate() {
        managed.add(&number.to_string(), pod).unwrap();
    }
    managed.del("2").unwrap();
    drop(managed);
    let managed = node.open_with(|config| Config {
        boot_id: "next-boot".to_owned(),
        ..config
    });
    assert_eq!(managed.manager.list(), []);
    assert_eq!(managed.settled(), Holdings::of_pods(0));
    let status = managed.manager.status();
    // In truth no entry of the datapath outlives its boot. Here two do, and their addresses rest.
    assert_eq!((status.pools[0].used, status.pools[0].resting), (0, 2));
    managed.del("0").unwrap();
    let pod = new_netns();
    assert_eq!(
        managed.add("0", &pod).unwrap().addresses[0],
        IpAddr::from([10, 244, 3, 4])
    );
}

#[test]
fn records_that_cannot_be_read_are_dropped_and_other_files_stay() {
    let node = Node::new();
    let pod = new_netns();
    let managed = node.open();
    let id = managed.add("one", &pod).unwrap().id;
    drop(managed);
    let state = node.directory.path().join("state");
    let whole = std::fs::read(state.join(format!("{id}.ready"))).unwrap();
    std::fs::write(state.join("7.ready"), b"").unwrap();
    std::fs::write(state.join("8.adding"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(state.join("9.deleting"), &whole).unwrap();
    std::fs::write(state.join("10.temporary"), b"{").unwrap();
    std::fs::write(state.join("README"), b"mine").unwrap();
    std::fs::write(state.join("eleven.ready"), b"mine").unwrap();
    let managed = node.open();
    let mut names: Vec<_> = std::fs::read_dir(&state)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [format!("{id}.ready").as_str(), "README", "eleven.ready"]
    );
    managed.check("one", &pod, None).unwrap();
}

#[test]
fn what_is_made_after_a_half_made_one_is_not_deleted_in_its_stead() {
    let node = Node::new();
    let pod = new_netns();
    killed(&node, &pod, "add", Step::Recorded);
    // The record has no link; the next ADD's link has the name that it would have had.
    let managed = node.open_with(|config| Config {
        gather: Duration::from_secs(3600),
        ..config
    });
    managed.add("victim", &pod).unwrap();
    assert_eq!(managed.settled(), Holdings::of_pods(1));
    managed.check("victim", &pod, None).unwrap();
}

#[test]
fn a_half_deleted_one_does_not_take_the_link_of_what_was_made_after() {
    let node = Node::new();
    let lazy = node.open_with(|config| Config {
        gather: Duration::from_secs(3600),
        ..config
    });
    let first = new_netns();
    let endpoint = lazy.add("victim", &first).unwrap();
    lazy.del("victim").unwrap();
    drop(first);
    let handle = malha_kernel::Handle::inside(&node.netns).unwrap();
    eventually("its link died with its namespace", || {
        handle.link(&endpoint.host_link).unwrap().is_none()
    });
    let second = new_netns();
    lazy.add("victim", &second).unwrap();
    // As if it were killed: both records are there, and the link's name fits both.
    std::mem::forget(lazy);
    let managed = node.open();
    assert_eq!(managed.settled(), Holdings::of_pods(1));
    managed.check("victim", &second, None).unwrap();
}

/// The agent takes its endpoints over before the control plane has told it this node's range.
#[test]
fn an_address_rests_although_the_next_agent_learns_its_range_later() {
    let node = Node::new();
    let (one, two) = (new_netns(), new_netns());
    let managed = node.open();
    let kept = managed.add("one", &one).unwrap();
    let given_back = managed.add("two", &two).unwrap();
    managed.del("two").unwrap();
    drop(managed);
    let managed = node.open_with(|config| Config {
        prefixes: Vec::new(),
        ..config
    });
    let prefixes = node.config().prefixes;
    for prefixes in [&prefixes[..], &[], &prefixes] {
        managed.manager.set_prefixes(prefixes).unwrap();
    }
    for pool in managed.manager.status().pools {
        assert_eq!((pool.used, pool.resting), (1, 1), "{pool:?}");
    }
    let third = managed.add("two", &two).unwrap();
    for address in kept.addresses.iter().chain(&given_back.addresses) {
        assert!(!third.addresses.contains(address), "{address}");
    }
}

/// Its pod loses the network; nobody else gets what others still take for its address.
#[test]
fn the_addresses_of_an_endpoint_without_its_record_rest() {
    let node = Node::new();
    let (one, two) = (new_netns(), new_netns());
    let managed = node.open();
    let lost = managed.add("one", &one).unwrap();
    drop(managed);
    let record = node
        .directory
        .path()
        .join(format!("state/{}.ready", lost.id));
    std::fs::write(record, b"").unwrap();
    let managed = node.open_with(|config| Config {
        prefixes: Vec::new(),
        quarantine: Duration::from_secs(5),
        ..config
    });
    assert_eq!(managed.settled(), Holdings::of_pods(0));
    managed
        .manager
        .set_prefixes(&node.config().prefixes)
        .unwrap();
    let pool = &managed.manager.status().pools[0];
    assert_eq!((pool.used, pool.resting), (0, 1));
    let next = managed.add("two", &two).unwrap();
    assert!(
        lost.addresses
            .iter()
            .all(|address| !next.addresses.contains(address))
    );
}

/// A record of each kind is cut, or filled with zeros, while the kernel still has what it describes.
#[test]
fn without_its_record_nothing_is_left_of_what_was_half_done() {
    let node = Node::new();
    let bystander = new_netns();
    let holder = node.open().add("bystander", &bystander).unwrap();
    let steps = Step::ALL
        .into_iter()
        .filter(|step| *step != Step::Freed)
        .enumerate();
    for (number, step) in steps {
        let pod = new_netns();
        let verb = if number < 8 { "add" } else { "del" };
        if verb == "del" {
            let victim = Key::new("victim", "eth0");
            node.open().add_with(victim, &pod, &[PORT]).unwrap();
        }
        killed(&node, &pod, verb, step);
        for entry in std::fs::read_dir(node.directory.path().join("state")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with(&format!("{}.", holder.id)) {
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            let whole = bytes.len();
            bytes.truncate(whole * number / 11);
            if number % 2 == 0 {
                bytes.resize(whole, 0);
            }
            std::fs::write(path, bytes).unwrap();
        }
        let managed = node.open();
        assert_eq!(managed.settled(), Holdings::of_pods(1), "{step:?}");
        assert_eq!(mappings(&node), 0, "{step:?}");
        assert!(!try_sh(&pod, "ip link show eth0").0, "{step:?}");
        assert_eq!(managed.manager.status().pools[0].used, 1, "{step:?}");
        managed.check("bystander", &bystander, None).unwrap();
    }
}
