//! The manifest on a Kubernetes that nobody here wrote: nodes become Ready, and everybody reaches whom they should.
use std::process::{Child, Stdio};

use malha_e2e::{
    Cluster, HTTP, Probe, hostport_pod, must_become, run, socket, succeeds, traces, until,
};

const PROTOCOLS: [(&str, u16); 3] = [("tcp", 7070), ("udp", 7070), ("icmp", 0)];
/// Where the server outside listens.
const OUTSIDE: u16 = 8085;

/// A test server on the machine outside, until it is dropped.
struct World(Child);

impl World {
    fn start(cluster: &Cluster) -> Self {
        let http = OUTSIDE.to_string();
        let serve = [
            "lab", "serve", "--http", &http, "--tcp", "7075", "--udp", "7075",
        ];
        let child = cluster
            .malha_outside(&serve)
            .stdout(Stdio::null())
            .spawn()
            .expect("the server outside");
        let address = format!("{}:{OUTSIDE}", cluster.description.outside.address);
        let healthz = ["lab", "fetch", &address, "/healthz"];
        until("the server outside serves", || {
            succeeds(&mut cluster.malha_outside(&healthz))
        });
        Self(child)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn knock(cluster: &Cluster, from: &Probe, to: &str, (protocol, port): (&str, u16)) {
    let target = if port == 0 {
        to.to_owned()
    } else {
        socket(to, port)
    };
    let words = ["connect", &target, "--protocol", protocol, "--timeout", "5"];
    run(&mut cluster.lab_in(&from.name, &words));
}

#[test]
fn nodes_become_ready_and_stay_without_complaints() {
    let cluster = Cluster::with_network();
    for host in &cluster.description.hosts {
        let node = cluster.get(&["node", &host.name]);
        let conditions = node["status"]["conditions"].as_array().unwrap();
        let unavailable = conditions
            .iter()
            .find(|condition| condition["type"] == "NetworkUnavailable")
            .expect("the agent says that the network is there");
        assert_eq!(unavailable["status"], "False", "{unavailable}");
        run(&mut cluster.malha_on(host, &["status", "--check=ready"]));
    }
}

#[test]
fn pods_have_an_address_of_every_family_of_the_cluster() {
    let cluster = Cluster::with_network();
    for probe in cluster.probes() {
        let node = cluster.get(&["node", &probe.node]);
        let ranges = node["spec"]["podCIDRs"].as_array().unwrap().len();
        assert_eq!(probe.addresses.len(), ranges, "{probe:?}");
        let host = cluster.host(&probe.node);
        assert_eq!(ranges, host.addresses().count(), "{host:?}");
    }
}

#[test]
fn pods_reach_each_other_and_all_nodes() {
    let cluster = Cluster::with_network();
    let probes = cluster.probes();
    for from in &probes {
        for to in &probes {
            for protocol in PROTOCOLS {
                for address in &to.addresses {
                    knock(&cluster, from, address, protocol);
                }
                // A node answers to ICMP; its kubelet to TCP.
                if protocol.0 == "icmp" {
                    for address in cluster.host(&to.node).addresses() {
                        knock(&cluster, from, address, protocol);
                    }
                }
            }
            knock(&cluster, from, &to.node_address, ("tcp", 10250));
            for server in to.at(HTTP) {
                let seen = cluster.fetch(&from.name, &server, "/clientip");
                assert!(from.addresses.contains(&seen), "{seen} is not {from:?}");
            }
        }
    }
}

#[test]
fn nodes_reach_all_pods() {
    let cluster = Cluster::with_network();
    for probe in cluster.probes() {
        for host in &cluster.description.hosts {
            for server in probe.at(HTTP) {
                let answer =
                    run(&mut cluster.malha_on(host, &["lab", "fetch", &server, "/hostname"]));
                assert_eq!(answer.trim(), probe.name, "{} to {server}", host.name);
            }
        }
    }
}

#[test]
fn pods_reach_the_api_server_and_the_world_outside_as_their_node() {
    let cluster = Cluster::with_network();
    let world = World::start(&cluster);
    let server = cluster
        .description
        .api_server
        .trim_start_matches("https://")
        .to_owned();
    let outside = &cluster.description.outside;
    for probe in cluster.probes() {
        run(&mut cluster.lab_in(&probe.name, &["connect", &server]));
        let node = cluster.host(&probe.node).addresses();
        for (address, node) in outside.addresses().zip(node) {
            knock(&cluster, &probe, address, ("icmp", 0));
            knock(&cluster, &probe, address, ("udp", 7075));
            let server = socket(address, OUTSIDE);
            let seen = cluster.fetch(&probe.name, &server, "/clientip");
            assert_eq!(seen, node, "{}", probe.node);
        }
    }
    drop(world);
}

/// The machine outside, nodes, their pods and the pod itself, at a port of its node.
fn asks_from_everywhere(cluster: &Cluster, probes: &[Probe], server: &str) {
    let hostname = ["lab", "fetch", server, "/hostname"];
    let ask = |what: &str, command: &mut std::process::Command| {
        assert_eq!(run(command).trim(), "hostport", "{what} at {server}");
    };
    ask("outside", &mut cluster.malha_outside(&hostname));
    for probe in probes {
        let host = cluster.host(&probe.node);
        ask(&probe.node, &mut cluster.malha_on(host, &hostname));
        ask(
            &probe.name,
            &mut cluster.lab_in(&probe.name, &hostname[1..]),
        );
    }
    ask("itself", &mut cluster.lab_in("hostport", &hostname[1..]));
}

#[test]
fn host_ports_lead_to_their_pod_from_everywhere() {
    let cluster = Cluster::with_network();
    let probes = cluster.probes();
    let (node, other) = (&probes[1], &probes[0]);
    let image = &cluster.description.image;
    cluster.apply(&hostport_pod("hostport", &node.node, image, 18080));
    cluster.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/hostport",
        "--timeout=60s",
    ]);
    for address in cluster.host(&node.node).addresses() {
        asks_from_everywhere(&cluster, &probes, &socket(address, 18080));
        let echo = socket(address, 18081);
        let udp = ["connect", echo.as_str(), "--protocol", "udp"];
        run(&mut cluster.lab_in(&other.name, &udp));
    }
    // On another node there is nothing.
    let elsewhere = format!("{}:18080", other.node_address);
    assert!(!succeeds(
        &mut cluster.malha_outside(&["lab", "connect", &elsewhere])
    ));
    cluster.kubectl(&["delete", "pod", "hostport", "--wait=true"]);
    let server = format!("{}:18080", node.node_address);
    until("the port leads nowhere", || {
        !succeeds(&mut cluster.malha_outside(&["lab", "connect", &server]))
    });
}

#[test]
fn the_agent_finds_an_api_server_that_answers_by_address() {
    let cluster = Cluster::with_network();
    let good = &cluster.description.api_server;
    // The first one is nobody's.
    let servers =
        format!("  MALHA_API_SERVER: \"https://192.0.2.99:6443,{good}\"\n  MALHA_MASQUERADE");
    cluster.apply(&cluster.manifest_with("  MALHA_MASQUERADE", &servers));
    cluster.kubectl(&[
        "-n",
        "kube-system",
        "rollout",
        "restart",
        "daemonset",
        "malha",
    ]);
    cluster.rolled_out();
    let logs = ["-n", "kube-system", "logs", "daemonset/malha"];
    let log = cluster.kubectl(&logs);
    assert!(log.contains(good.as_str()), "{log}");
    for host in &cluster.description.hosts {
        run(&mut cluster.malha_on(host, &["status", "--check=ready"]));
    }
    let back = Cluster::with_network();
    back.kubectl(&[
        "-n",
        "kube-system",
        "rollout",
        "restart",
        "daemonset",
        "malha",
    ]);
    back.rolled_out();
}

#[test]
fn pods_that_come_and_go_leave_nothing() {
    let cluster = Cluster::with_network();
    let node = cluster.probes()[1].node.clone();
    let before = traces(&cluster, cluster.host(&node));
    for round in 0..2 {
        let names: Vec<String> = (0..5).map(|pod| format!("gone-{round}-{pod}")).collect();
        for (name, port) in names.iter().zip((19000..).step_by(2)) {
            cluster.apply(&hostport_pod(name, &node, &cluster.description.image, port));
        }
        for name in &names {
            cluster.kubectl(&[
                "wait",
                "--for=condition=Ready",
                "pod",
                name,
                "--timeout=90s",
            ]);
        }
        assert_ne!(
            traces(&cluster, cluster.host(&node)),
            before,
            "the pods have left no trace while they run"
        );
        let delete = [
            &["delete", "pod"],
            &names.iter().map(String::as_str).collect::<Vec<_>>()[..],
        ]
        .concat();
        cluster.kubectl(&delete);
    }
    must_become(
        &cluster,
        cluster.host(&node),
        &before,
        "pods that came and went",
    );
}
