//! What happens to agents does not happen to pods' packets.
use malha_e2e::{Cluster, ECHO, Probe, Stream, run, until};
use serde_json::Value;

/// Streams in both directions between the first two nodes, and to a third where there is one, in every family.
fn streams(cluster: &Cluster, probes: &[Probe], seconds: u32) -> Vec<Stream> {
    let pairs = [(0, 1), (1, 0), (1, 2)];
    let pairs = pairs.into_iter().filter(|(a, b)| a.max(b) < &probes.len());
    let mut streams = Vec::new();
    for (a, b) in pairs {
        for target in probes[b].at(ECHO) {
            streams.push(Stream::begin(cluster, &probes[a], &target, seconds));
        }
    }
    streams
}

/// Waits for the end of the streams, which must not have come before the end of the change.
fn whole(mut streams: Vec<Stream>) {
    assert!(
        streams.iter_mut().all(Stream::runs),
        "the change took longer than the stream: nothing is proved"
    );
    streams.into_iter().for_each(Stream::must_be_whole);
}

fn restarts(cluster: &Cluster) -> i64 {
    let pods = [
        "-n",
        "kube-system",
        "pods",
        "-l",
        "app.kubernetes.io/name=malha",
    ];
    let pods = cluster.get(&pods);
    let counts = pods["items"].as_array().unwrap().iter();
    let counts = counts.map(|pod| &pod["status"]["containerStatuses"][0]["restartCount"]);
    counts.filter_map(Value::as_i64).sum()
}

/// With SIGKILL, on every host, the process that holds the plugin's socket.
fn kill_agents(cluster: &Cluster) {
    for host in &cluster.description.hosts {
        let script =
            "kill -9 $(ss -xlpnH | grep /run/malha/cni | sed 's/.*pid=\\([0-9]*\\).*/\\1/')";
        cluster.sh(host, script);
    }
}

#[test]
fn killing_every_agent_loses_no_packet() {
    let cluster = Cluster::with_network();
    let probes = cluster.probes();
    let before = restarts(&cluster);
    let streams = streams(&cluster, &probes, 60);
    kill_agents(&cluster);
    let hosts = cluster.description.hosts.len() as i64;
    until("every agent runs again", || {
        restarts(&cluster) >= before + hosts
    });
    cluster.rolled_out();
    whole(streams);
}

#[test]
fn rolling_the_agents_loses_no_packet() {
    let cluster = Cluster::with_network();
    let probes = cluster.probes();
    let streams = streams(&cluster, &probes, 90);
    cluster.kubectl(&[
        "-n",
        "kube-system",
        "rollout",
        "restart",
        "daemonset",
        "malha",
    ]);
    cluster.rolled_out();
    whole(streams);
}

#[test]
fn upgrading_and_downgrading_the_agents_loses_no_packet() {
    let cluster = Cluster::with_network();
    let probes = cluster.probes();
    let streams = streams(&cluster, &probes, 180);
    for image in [&cluster.description.next_image, &cluster.description.image] {
        let set = format!("agent={image}");
        cluster.kubectl(&["-n", "kube-system", "set", "image", "daemonset/malha", &set]);
        cluster.rolled_out();
    }
    whole(streams);
    for host in &cluster.description.hosts {
        run(&mut cluster.malha_on(host, &["status", "--check=ready"]));
    }
}

#[test]
fn without_any_agent_pods_keep_their_network() {
    let cluster = Cluster::with_network();
    let probes = cluster.probes();
    let streams = streams(&cluster, &probes, 60);
    cluster.kubectl(&[
        "-n",
        "kube-system",
        "delete",
        "daemonset",
        "malha",
        "--wait=true",
    ]);
    let pods = [
        "-n",
        "kube-system",
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/name=malha",
        "-o",
        "name",
    ];
    until("no agent is left", || {
        cluster.kubectl(&pods).trim().is_empty()
    });
    let back = Cluster::with_network();
    assert!(back.all_nodes_ready());
    whole(streams);
}
