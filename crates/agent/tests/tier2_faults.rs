//! Agents that die, full ranges, meddling, wrong clusters: what pods and operators see of it.
mod common;

use std::net::IpAddr;
use std::process::Stdio;

use common::net::Namespace;
use common::node::{Node, World, wait_pings};
use common::process::{self, Agent};
use common::{eventually, eventually_some};
use malha_cni::runtime::RuntimeError;
use malha_cni::types::CniError;
use malha_cni::wire::Verb;

/// Not a test: what the agents of the other tests run.
#[test]
fn agent_process() {
    process::run();
}

fn plugin_error(error: RuntimeError) -> CniError {
    match error {
        RuntimeError::Plugin { error, .. } => error,
        RuntimeError::AddAndCleanup { cause, .. } => plugin_error(*cause),
        other => panic!("{other}"),
    }
}

/// Two nodes in one subnet that serve and know each other.
fn two_nodes(world: &World, change: impl Fn(&mut Node)) -> [(Node, Agent); 2] {
    let nodes = [1, 2].map(|number| {
        let mut node = world.node(0, number);
        change(&mut node);
        node.register();
        let agent = node.serve();
        (node, agent)
    });
    nodes.iter().for_each(|(node, _)| node.wait_peers(1));
    nodes
}

/// A stream of echoes; at its end every one must have been answered.
struct Stream(std::process::Child);

impl Stream {
    fn start(from: &Namespace, to: IpAddr) -> Self {
        let mut command = from.command("ping");
        command
            .args(["-n", "-q", "-i", "0.002", &to.to_string()])
            .stdout(Stdio::piped());
        Self(command.spawn().expect("ping"))
    }

    fn end(self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("ping runs");
        let output = self.0.wait_with_output().expect("ping");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(" 0% packet loss"), "{text}");
        let sent: u32 = text
            .split(" packets transmitted")
            .next()
            .and_then(|t| t.rsplit('\n').next()?.parse().ok())
            .unwrap();
        assert!(sent > 20, "{text}");
    }
}

fn killed_agent(routing: &str) {
    let world = World::new();
    let [(one, agent), (two, _two)] =
        two_nodes(&world, |node| node.settings.routing = routing.to_owned());
    let (a, b, c) = (one.pod("a"), one.pod("b"), two.pod("c"));
    let streams: Vec<_> = c
        .addresses()
        .iter()
        .map(|to| Stream::start(&a.namespace, *to))
        .collect();
    agent.kill();

    let error = plugin_error(one.try_pod("d").expect_err("no agent"));
    assert_eq!(error.code, 11, "{error}");
    assert!(error.msg.contains("not running"), "{error}");
    assert!(one.conflist().exists());
    let e = one.try_pod("e").expect_err("no agent");
    assert_eq!(plugin_error(e).code, 11);
    one.del(&b).expect("a pod can end while no agent runs");

    let _agent = one.serve();
    eventually("the deferred DEL is done", || {
        one.status().is_some_and(|status| status.endpoints == 1)
    });
    let d = one.pod("d");
    d.reaches(&c.addresses());
    streams.into_iter().for_each(Stream::end);
}

#[test]
fn a_killed_agent_loses_no_packet_overlay() {
    killed_agent("overlay");
}

#[test]
fn a_killed_agent_loses_no_packet_direct() {
    killed_agent("direct");
}

#[test]
fn a_full_range_is_code_11_and_an_event_and_the_node_stays_ready() {
    let world = World::new();
    let mut node = world.node(0, 1);
    node.ranges = vec!["10.244.1.0/29".to_owned()];
    node.register();
    let _agent = node.serve();
    let pods: Vec<_> = (0..5)
        .map(|number| node.pod(&format!("p{number}")))
        .collect();
    let before = node.inventory();
    let error = plugin_error(node.try_pod("more").expect_err("the range is full"));
    assert_eq!(error.code, 11, "{error}");
    assert!(error.details.contains("10.244.1.0/29"), "{error}");
    for object in ["Node/node1", "Pod/more"] {
        eventually(&format!("an event at {object}"), || {
            world
                .api
                .events("PodRangeFull")
                .iter()
                .any(|(about, message)| about == object && message.contains("10.244.1.0/29"))
        });
    }
    assert_eq!(node.inventory(), before, "the failed ADD left nothing");
    assert!(node.is_ready());
    let list = malha_cni::runtime::load(&node.settings.directory.join("net.d")).unwrap();
    node.runtime()
        .status(&list)
        .expect("STATUS stays good: the pods that are there work");
    node.del(&pods[0]).unwrap();
    eventually("the address rests", || {
        let error = plugin_error(node.try_pod("more").expect_err("it rests"));
        error
            .details
            .contains("1 of pods that are gone rest for 30 s")
    });
}

/// The new agent finds its endpoints before it learns its range.
#[test]
fn an_address_rests_although_the_agent_is_another() {
    let world = World::new();
    let node = world.node(0, 1);
    let agent = node.serve();
    let gone = node.pod("gone");
    node.del(&gone).unwrap();
    agent.kill();
    let _agent = node.serve();
    let next = node.pod("next").addresses();
    assert!(
        gone.addresses()
            .iter()
            .all(|address| !next.contains(address)),
        "{next:?}"
    );
}

#[test]
fn nothing_leaks() {
    let world = World::new();
    let [(one, agent), (_two, _agent)] = two_nodes(&world, |_| {});
    let before = one.inventory();
    for round in 0..3 {
        let pods: Vec<_> = (0..4)
            .map(|number| one.pod(&format!("r{round}-{number}")))
            .collect();
        assert_ne!(one.inventory(), before);
        pods.iter().take(3).for_each(|pod| one.del(pod).unwrap());
        // The last one's namespace just goes away, as with a runtime that skips DEL.
        drop(pods);
    }
    eventually("links and records are gone", || {
        // The agent looks now and then by itself; whoever touches what is its own makes it look now.
        one.namespace.sh("ip link set malha0 alias touched");
        one.inventory() == before
    });
    agent.terminate();
    let list = malha_cni::runtime::load(&one.settings.directory.join("net.d")).unwrap();
    let error = one.runtime().status(&list).expect_err("no agent");
    assert_eq!(plugin_error(error).code, 50, "{:?}", Verb::Status);
    assert_eq!(
        one.inventory(),
        before,
        "an agent that ends takes nothing away"
    );
}

#[test]
fn meddling_is_repaired() {
    let world = World::new();
    let [(one, agent), (two, _two)] =
        two_nodes(&world, |node| node.settings.routing = "overlay".to_owned());
    let (a, c) = (one.pod("a"), two.pod("c"));
    let meddling = [
        "ip link del malha0",
        "ip link set malha0 down",
        "ip link set malha0 mtu 1300 address 02:00:00:00:00:99",
        "ip route flush proto 77 10.244.2.0/24; ip -6 route flush proto 77 fd00:244:0:2::/64",
        "nft delete table inet malha; ip link set malha0 down",
    ];
    for script in meddling {
        one.namespace.sh(script);
        for address in c.addresses() {
            wait_pings(&a.namespace, address);
            wait_pings(&one.namespace, address);
        }
    }
    agent.freeze();
    one.namespace
        .sh("ip link del malha0; ip link add malha0 type bridge");
    agent.thaw();
    c.addresses()
        .iter()
        .for_each(|address| wait_pings(&a.namespace, *address));
    eventually("the overlay is as it should be", || {
        one.namespace
            .sh("ip -d link show malha0")
            .contains("mtu 1450")
    });
}

#[test]
fn the_mtu_follows_the_underlay_to_living_links() {
    let world = World::new();
    let [(one, _one), (two, _two)] =
        two_nodes(&world, |node| node.settings.routing = "overlay".to_owned());
    let (a, c) = (one.pod("a"), two.pod("c"));
    assert!(one.namespace.sh("ip link show malha0").contains("mtu 1450"));
    for (node, pod) in [(&one, &a), (&two, &c)] {
        node.namespace.sh("ip link set eth0 mtu 1400");
        eventually("the MTU follows", || {
            node.status().is_some_and(|status| status.mtu == Some(1350))
        });
        let ours = |links: &str| {
            let mut links = links
                .lines()
                .filter(|l| l.contains("malha0") || l.contains("mlh"));
            links.all(|link| link.contains("mtu 1350"))
        };
        eventually("the MTU of links", || {
            ours(&node.namespace.sh("ip -o link"))
        });
        let inside = pod.namespace.sh("ip link show eth0");
        assert!(inside.contains("mtu 1350"), "the pod's end, too: {inside}");
    }
    for target in c.addresses() {
        eventually("large packets pass, in pieces if need be", || {
            a.namespace
                .try_sh(&format!("ping -n -c 1 -W 1 -s 1380 {target}"))
                .status
                .success()
        });
    }
}

#[test]
fn the_world_outside_sees_the_node_if_masquerade_is_on() {
    let world = World::new();
    let mut node = world.node(0, 1);
    let outside: [IpAddr; 2] = [
        "172.31.1.254".parse().unwrap(),
        "fd00:31:1::fe".parse().unwrap(),
    ];
    let agent = node.serve();
    let pod = node.pod("a");
    // The router has no route to pods, so an answer proves that it was asked by the node.
    pod.reaches(&outside);
    agent.terminate();
    node.settings.masquerade = false;
    let _agent = node.serve();
    eventually("the rules are gone", || {
        !node.namespace.sh("nft list tables").contains("malha")
    });
    outside
        .iter()
        .for_each(|address| assert!(!pod.namespace.pings(*address), "{address}"));
}

#[test]
fn a_node_that_leaves_is_forgotten_and_its_overlap_is_named() {
    let world = World::new();
    let [(one, _one), (_two, _two_agent)] =
        two_nodes(&world, |node| node.settings.routing = "overlay".to_owned());
    assert!(one.inventory().contains("10.244.2.0/24"));
    world.api.set_node(
        "clash",
        &["172.31.0.77".to_owned()],
        &["10.244.1.128/25".to_owned()],
    );
    let event = eventually_some("an event", || {
        world
            .api
            .events("PeerProblem")
            .into_iter()
            .find(|(_, text)| text.contains("clash"))
    });
    assert!(
        event
            .1
            .contains("10.244.1.128/25 overlaps 10.244.1.0/24 of node node1"),
        "{event:?}"
    );
    let status = one.status().unwrap();
    assert!(
        status.health.serving
            && status
                .complaints()
                .iter()
                .any(|text| text.contains("clash")),
        "{status:?}"
    );
    world.api.delete_node("clash");
    world.api.delete_node("node2");
    eventually("its routes are gone", || {
        !one.inventory().contains("10.244.2.0/24")
    });
    eventually("no complaint is left", || {
        one.status()
            .is_some_and(|status| status.complaints().is_empty())
    });
}

#[test]
fn a_list_of_an_earlier_boot_is_removed_and_one_of_this_boot_stays() {
    let world = World::new();
    let mut node = world.node(0, 1);
    let agent = node.serve();
    agent.terminate();
    // While the agent waits for the API server, nothing tells whether the node could serve.
    let socket = std::mem::replace(&mut node.settings.api, "/nonexistent".into());
    let agent = node.start();
    eventually("it answers", || node.status().is_some());
    assert!(node.conflist().exists());
    assert_eq!(node.status().unwrap().health.state, "starting");
    agent.terminate();
    std::fs::write(node.settings.directory.join("run/boot-id"), "another").unwrap();
    let agent = node.start();
    eventually("it is gone", || !node.conflist().exists());
    agent.kill();
    node.settings.api = socket;
    let _agent = node.serve();
}

#[test]
fn a_second_agent_waits_for_the_first() {
    let world = World::new();
    let node = world.node(0, 1);
    let first = node.serve();
    let second = node.start();
    first.terminate();
    node.wait_ready();
    second.terminate();
}

#[test]
fn without_privilege_it_says_so() {
    let world = World::new();
    let node = world.node(0, 1);
    let said = Agent::start_as(&node.namespace, &node.settings, Some(65534)).failure();
    assert!(said.contains("the agent needs root"), "{said}");
}

#[test]
fn a_sandbox_that_somebody_made_by_hand_is_attached_and_a_pod_of_elsewhere_is_not() {
    let world = World::new();
    let node = world.node(0, 1);
    node.register();
    let _agent = node.serve();
    node.try_sandbox("by-hand")
        .expect("no policy can be about it");
    world.api.set_pod("elsewhere", "another-node");
    let error = plugin_error(
        node.try_sandbox("elsewhere")
            .expect_err("it is not this node's"),
    );
    assert_eq!(error.code, 11, "{error}");
    assert!(error.details.contains("default/elsewhere"), "{error}");
}
