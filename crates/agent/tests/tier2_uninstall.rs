//! Uninstalling gives a node back as it was: everything that the system's own tools can list is the same.
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::node::{Node, World};
use common::{eventually, process};
use malha_agent::uninstall::{Options, Report, uninstall};
use nix::mount::{MsFlags, mount};

const FORCE: Options = Options {
    dry_run: false,
    under_agent: true,
    under_pods: true,
};
const DRY_RUN: Options = Options {
    dry_run: true,
    under_agent: false,
    under_pods: false,
};

/// Not a test: what the agents of the other tests run.
#[test]
fn agent_process() {
    process::run();
}

/// What the kernel and the file system have, by the words of other programs.
fn snapshot(node: &Node) -> BTreeMap<String, String> {
    let listings = [
        ("links", "ip -d -o link | sort"),
        ("addresses", "ip -o addr | sort"),
        ("routes", "ip route show table all | sort"),
        ("IPv6 routes", "ip -6 route show table all | sort"),
        ("rules", "ip rule; ip -6 rule"),
        (
            "neighbours",
            "ip neigh show nud permanent; ip -6 neigh show nud permanent",
        ),
        ("nftables", "nft list ruleset"),
        (
            "traffic control",
            "tc qdisc show
             for link in $(ls /sys/class/net); do for side in ingress egress; do
               echo $link $side; tc filter show dev $link $side 2>/dev/null || :
             done; done",
        ),
        // Without what only counts, and what nobody can read.
        (
            "settings",
            "grep -rH . /proc/sys/net 2>/dev/null | grep -v nf_conntrack_count | sort",
        ),
    ];
    let mut found: BTreeMap<String, String> = listings
        .iter()
        .map(|(name, script)| ((*name).to_owned(), node.namespace.sh(script)))
        .collect();
    let script = "find net.d bin bpf run ! -path '*/.lock' -printf '%p %y %m %l\\n' 2>/dev/null | sort; \
                  find net.d bin run -type f -exec sha256sum {} + 2>/dev/null | sort";
    let files = Command::new("sh")
        .args(["-c", script])
        .current_dir(&node.settings.directory)
        .output()
        .unwrap();
    found.insert(
        "files".to_owned(),
        String::from_utf8_lossy(&files.stdout).into_owned(),
    );
    found
}

#[track_caller]
fn assert_same(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    for (name, before) in before {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (before, after) = (lines(before), lines(&after[name]));
        let gone: Vec<_> = before.iter().filter(|l| !after.contains(l)).collect();
        let new: Vec<_> = after.iter().filter(|l| !before.contains(l)).collect();
        assert!(
            before == after,
            "{name} differ: gone {gone:#?}, new {new:#?}"
        );
    }
}

/// A node with a past: a runtime's directories, other plugins, rules, routes, filters and settings of its own.
fn lived_in(world: &World, number: u8) -> Node {
    let node = world.node(0, number);
    for directory in ["net.d", "bin"] {
        fs::create_dir(node.settings.directory.join(directory)).unwrap();
    }
    let write =
        |path: &str, text: &str| fs::write(node.settings.directory.join(path), text).unwrap();
    write("net.d/87-other.conflist", "{}");
    write("bin/other", "#!/bin/sh\n");
    node.namespace.sh(
        "nft add table inet other; nft add chain inet other input '{ type filter hook input priority 0; }'
         ip rule add from 192.0.2.1 lookup 100; ip route add 192.0.2.0/24 dev eth0 table 100
         ip route add unreachable 198.51.100.0/24
         ip neigh add 172.31.0.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent
         tc qdisc add dev eth0 clsact
         tc filter add dev eth0 ingress prio 7 protocol ip u32 match u32 0 0 classid 1:1
         cd /proc/sys/net
         echo 0 > ipv4/conf/all/accept_redirects; echo 0 > ipv4/ip_forward
         echo 0 > ipv4/conf/all/accept_redirects; echo 1 > ipv4/conf/eth0/forwarding
         echo 0 > ipv6/conf/all/forwarding; echo 1 > ipv6/conf/lo/forwarding; echo 1 > ipv6/conf/eth0/accept_ra",
    );
    node
}

fn run(node: &Node, options: Options) -> Result<Report, String> {
    let paths = node.settings.paths();
    let done = node.namespace.0.run(|| uninstall(&paths, options));
    done.unwrap().map_err(|error| format!("{error:#}"))
}

#[track_caller]
fn clean(node: &Node, options: Options) -> Report {
    let report = run(node, options).expect("not refused");
    assert_eq!(report.failures, Vec::<String>::new());
    report
}

fn says(report: &Report, words: &str) -> bool {
    report.done.iter().any(|line| line.contains(words))
}

fn as_before(routing: &str) {
    let world = World::new();
    let mut nodes = [lived_in(&world, 1), lived_in(&world, 2)];
    nodes
        .iter_mut()
        .for_each(|node| node.settings.routing = routing.to_owned());
    let before = snapshot(&nodes[0]);
    let agents = nodes.each_ref().map(Node::serve);
    nodes.iter().for_each(|node| node.wait_peers(1));
    let (a, b) = (nodes[0].pod("a"), nodes[1].pod("b"));
    a.reaches(&b.addresses());
    let during = snapshot(&nodes[0]);
    for name in [
        "links",
        "routes",
        "IPv6 routes",
        "nftables",
        "settings",
        "files",
    ] {
        assert_ne!(before[name], during[name], "the agent changed no {name}");
    }
    nodes[0].del(&a).unwrap();
    eventually("its link is deleted", || {
        !nodes[0].namespace.sh("ip link").contains(" mlh")
    });
    agents.into_iter().for_each(process::Agent::terminate);
    let report = clean(&nodes[0], Options::default());
    assert!(
        says(&report, "Restored net.ipv4.ip_forward from 1 to 0"),
        "{report:?}"
    );
    assert_same(&before, &snapshot(&nodes[0]));
    assert_eq!(clean(&nodes[0], Options::default()), Report::default());
    assert_same(&before, &snapshot(&nodes[0]));
}

#[test]
fn overlay() {
    as_before("overlay");
}

#[test]
fn direct() {
    as_before("direct");
}

#[test]
fn auto() {
    as_before("auto");
}

#[test]
fn a_dry_run_tells_and_changes_nothing_and_an_agent_or_pods_are_in_the_way() {
    let world = World::new();
    let node = lived_in(&world, 1);
    let before = snapshot(&node);
    assert_eq!(clean(&node, DRY_RUN), Report::default());
    assert_same(&before, &snapshot(&node));
    let agent = node.serve();
    let pod = node.pod("a");

    let refusal = run(&node, Options::default()).expect_err("an agent runs");
    assert!(refusal.contains("delete the DaemonSet first"), "{refusal}");
    let during = snapshot(&node);
    let planned = clean(&node, DRY_RUN);
    assert_same(&during, &snapshot(&node));
    agent.terminate();
    let refusal = run(&node, Options::default()).expect_err("a pod is attached");
    assert!(refusal.contains("1 of this node's pods"), "{refusal}");
    pod.reaches(&node.ips());

    let done = clean(&node, FORCE);
    // Its sockets went with the agent.
    let planned = planned.done.iter().filter(|line| !line.ends_with(".sock"));
    let planned: Vec<_> = planned
        .map(|line| {
            line.replace("Would remove", "Removed")
                .replace("Would restore", "Restored")
        })
        .collect();
    assert_eq!(planned, done.done);
    assert_same(&before, &snapshot(&node));
}

#[test]
fn with_force_also_under_a_running_agent() {
    let world = World::new();
    let node = lived_in(&world, 1);
    let before = snapshot(&node);
    let agent = node.serve();
    agent.freeze();
    clean(&node, FORCE);
    agent.kill();
    clean(&node, Options::default());
    assert_same(&before, &snapshot(&node));
    // And the node can be had again.
    let _agent = node.serve();
    node.pod("a").reaches(&node.ips());
}

#[test]
fn after_agents_that_were_killed_and_restarted() {
    let world = World::new();
    let node = lived_in(&world, 1);
    let before = snapshot(&node);
    node.serve().kill();
    let agent = node.serve();
    let pod = node.pod("a");
    agent.kill();
    // What the plugin leaves for the next agent, and what installations that were cut short leave.
    node.del(&pod).expect("left for the next agent");
    let left = |path: &str| fs::write(node.settings.directory.join(path), "half").unwrap();
    left("net.d/.10-malha.conflist.7-0.tmp");
    left("bin/.malha-cni.7-1.tmp");
    left("run/before.new");
    clean(&node, FORCE);
    assert_same(&before, &snapshot(&node));
}

#[test]
fn all_failures_are_told_and_the_next_time_does_the_rest() {
    let world = World::new();
    let node = lived_in(&world, 1);
    let before = snapshot(&node);
    node.serve().terminate();
    let in_the_way = |path: &str| node.settings.directory.join(path);
    fs::remove_file(in_the_way("bin/malha-cni")).unwrap();
    fs::create_dir(in_the_way("bin/malha-cni")).unwrap();
    let (none, bind) = (None::<&str>, MsFlags::MS_BIND);
    let state = in_the_way("run/state");
    mount(Some(&state), &state, none, bind, none).unwrap();
    let report = run(&node, Options::default()).expect("not refused");
    assert_eq!(report.failures.len(), 2, "{report:?}");
    assert!(
        report.failures[0].contains("cannot remove") && report.failures[0].contains("malha-cni")
    );
    assert!(report.failures[1].contains("run/state"), "{report:?}");
    assert!(says(&report, "Restored net.ipv4.ip_forward"), "{report:?}");
    nix::mount::umount(&state).unwrap();
    fs::remove_dir(in_the_way("bin/malha-cni")).unwrap();
    clean(&node, Options::default());
    assert_same(&before, &snapshot(&node));
}

#[test]
fn what_others_own_or_changed_since_stays() {
    let world = World::new();
    let node = lived_in(&world, 1);
    let loopback = node.settings.directory.join("bin/loopback");
    fs::write(&loopback, "another plugin").unwrap();
    node.namespace.sh(
        "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/conf/eth0/forwarding",
    );
    let before = snapshot(&node);
    let agent = node.serve();
    node.namespace
        .sh("test $(cat /proc/sys/net/ipv6/conf/eth0/accept_ra) = 2; echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_ra");
    fs::write(node.settings.directory.join("run/other.pid"), "1").unwrap();
    agent.terminate();
    let report = clean(&node, Options::default());
    assert!(
        !says(&report, "ip_forward") && !says(&report, "accept_ra"),
        "{report:?}"
    );
    assert_eq!(fs::read(&loopback).unwrap(), b"another plugin");
    let others = fs::read_dir(node.settings.directory.join("run")).unwrap();
    let others: Vec<_> = others.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(others, ["other.pid"]);
    fs::remove_dir_all(node.settings.directory.join("run")).unwrap();
    node.namespace
        .sh("echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_ra");
    assert_same(&before, &snapshot(&node));
}

#[test]
fn a_filesystem_that_an_agent_mounted_goes_when_nobody_uses_it() {
    let world = World::new();
    let node = lived_in(&world, 1);
    let mut paths = node.settings.paths();
    let bpffs = Path::new("/sys/fs/bpf");
    paths.pins = bpffs.join("malha");
    fs::create_dir_all(&paths.run).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let record = format!(
        r#"{{"boot_id": "{}", "settings": [], "mounted_bpffs": true}}"#,
        boot.trim()
    );
    let mounts = || {
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        table.matches(" /sys/fs/bpf ").count()
    };
    let without = mounts();
    let uninstalled = || {
        fs::create_dir_all(&paths.run).unwrap();
        fs::write(paths.run.join("before.json"), &record).unwrap();
        let report = node
            .namespace
            .0
            .run(|| uninstall(&paths, Options::default()).unwrap())
            .unwrap();
        assert_eq!(report.failures, Vec::<String>::new());
        assert!(!paths.run.exists());
    };
    let bpf = Some("bpf");
    mount(bpf, bpffs, bpf, MsFlags::empty(), None::<&str>).unwrap();
    fs::create_dir(&paths.pins).unwrap();
    uninstalled();
    assert_eq!(
        mounts(),
        without + 1,
        "only this container would unmount it"
    );
    let none = None::<&str>;
    mount(none, bpffs, none, MsFlags::MS_SHARED, none).unwrap();
    fs::create_dir(bpffs.join("others")).unwrap();
    uninstalled();
    assert_eq!(mounts(), without + 1, "another program's pins are there");
    fs::remove_dir(bpffs.join("others")).unwrap();
    fs::create_dir(&paths.pins).unwrap();
    uninstalled();
    assert_eq!(mounts(), without);
}
