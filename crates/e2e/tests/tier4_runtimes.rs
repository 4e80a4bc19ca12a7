//! The plugin under real runtimes: whatever they do to a sandbox, nothing is left of it.
use std::collections::HashSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use malha_cri::{Client, PortMapping, SandboxConfig};
use malha_e2e::{
    Cluster, Containerd, Host, Podman, hostport_pod, must_become, run, succeeds, traces, until,
};
use tokio::runtime::Runtime;

/// What a test works with: the cluster, and a host as it was.
struct Bench<'a> {
    cluster: &'a Cluster,
    host: &'a Host,
    before: String,
    tokio: Runtime,
}

impl<'a> Bench<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let host = cluster.host(&cluster.engines().host);
        Self {
            cluster,
            host,
            before: traces(cluster, host),
            tokio: Runtime::new().unwrap(),
        }
    }

    #[track_caller]
    fn nothing_is_left(&self, after: &str) {
        must_become(self.cluster, self.host, &self.before, after);
    }

    fn client(&self, containerd: &Containerd<'_>) -> Client {
        let socket = containerd.socket();
        // It listens before its CRI plugin serves.
        let mut client = None;
        until("the runtime answers", || {
            client = self.tokio.block_on(Client::connect(&socket)).ok();
            client.is_some()
        });
        client.unwrap()
    }

    fn namespaces(&self) -> HashSet<String> {
        let list = self.cluster.sh(self.host, "ls /run/netns");
        list.split_whitespace().map(str::to_owned).collect()
    }
}

fn config(containerd: &Containerd<'_>, number: u32) -> SandboxConfig {
    SandboxConfig {
        namespace: "default".to_owned(),
        name: format!("sandbox-{number}"),
        uid: format!("00000000-0000-0000-0000-{number:012}"),
        log_directory: "/var/tmp/malha-e2e-logs".to_owned(),
        cgroup_parent: containerd.cgroup(),
        port_mappings: vec![PortMapping {
            container_port: 80,
            host_port: 28000 + number as u16,
            ..PortMapping::default()
        }],
        ..SandboxConfig::default()
    }
}

fn ordinary_life(bench: &Bench<'_>, containerd: &Containerd<'_>) {
    let mut client = bench.client(containerd);
    let tokio = &bench.tokio;
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(
            tokio
                .block_on(client.run_sandbox(&config(containerd, number)))
                .unwrap(),
        );
    }
    let listed = tokio.block_on(client.sandboxes()).unwrap();
    assert_eq!(
        listed.iter().filter(|sandbox| sandbox.ready).count(),
        ids.len()
    );
    for id in &ids {
        let status = tokio.block_on(client.sandbox_status(id)).unwrap();
        let ping = ["lab", "connect", &status.addresses[0], "--protocol", "icmp"];
        run(&mut bench.cluster.malha_on(bench.host, &ping));
    }
    for id in &ids {
        tokio.block_on(client.stop_sandbox(id)).unwrap();
        tokio
            .block_on(client.stop_sandbox(id))
            .expect("a second time");
        tokio.block_on(client.remove_sandbox(id)).unwrap();
    }
    bench.nothing_is_left("an ordinary life");
}

fn violent_ends(bench: &Bench<'_>, containerd: &Containerd<'_>) {
    let mut client = bench.client(containerd);
    let tokio = &bench.tokio;
    let id = tokio
        .block_on(client.run_sandbox(&config(containerd, 10)))
        .unwrap();
    run(&mut containerd.ctr(&[
        "--namespace",
        "k8s.io",
        "task",
        "kill",
        "--signal",
        "9",
        &id,
    ]));
    until("the sandbox is dead", || {
        !tokio.block_on(client.sandbox_status(&id)).unwrap().ready
    });
    tokio.block_on(client.stop_sandbox(&id)).unwrap();
    tokio.block_on(client.remove_sandbox(&id)).unwrap();
    bench.nothing_is_left("a sandbox that was killed");

    let namespaces = bench.namespaces();
    let id = tokio
        .block_on(client.run_sandbox(&config(containerd, 11)))
        .unwrap();
    for new in bench.namespaces().difference(&namespaces) {
        bench.cluster.sh(
            bench.host,
            &format!("umount -l /run/netns/{new}; rm -f /run/netns/{new}"),
        );
    }
    tokio
        .block_on(client.stop_sandbox(&id))
        .expect("without its namespace");
    tokio.block_on(client.remove_sandbox(&id)).unwrap();
    bench.nothing_is_left("a namespace that was taken away");
}

/// containerd ends anywhere in the middle of a start. What it has forgotten holds nothing but a namespace, which is
/// containerd's own to lose; with it goes all that was attached.
fn killed_in_the_middle(bench: &Bench<'_>, containerd: &mut Containerd<'_>) {
    for (number, delay) in (20..).zip([5, 40, 80, 150, 300]) {
        let namespaces = bench.namespaces();
        let mut client = bench.client(containerd);
        let sandbox = config(containerd, number);
        let start = bench
            .tokio
            .spawn(async move { client.run_sandbox(&sandbox).await });
        std::thread::sleep(Duration::from_millis(delay));
        containerd.kill();
        let _ = bench.tokio.block_on(start);
        containerd.again();
        let mut client = bench.client(containerd);
        until("every sandbox is removed", || {
            let Ok(left) = bench.tokio.block_on(client.sandboxes()) else {
                return false;
            };
            for sandbox in &left {
                let _ = bench.tokio.block_on(client.stop_sandbox(&sandbox.id));
                let _ = bench.tokio.block_on(client.remove_sandbox(&sandbox.id));
            }
            left.is_empty()
        });
        for lost in bench.namespaces().difference(&namespaces) {
            eprintln!("after {delay} ms: containerd has lost {lost}");
            bench.cluster.sh(
                bench.host,
                &format!("umount -l /run/netns/{lost} || true; rm -f /run/netns/{lost}"),
            );
        }
        bench
            .cluster
            .sh(bench.host, "find /var/lib/cni/results -size 0 -delete");
        bench.nothing_is_left(&format!("a containerd killed after {delay} ms"));
    }
}

fn containerd(version: &str) {
    let cluster = Cluster::with_network();
    let bench = Bench::new(&cluster);
    let mut containerd = Containerd::start(&cluster, version);
    ordinary_life(&bench, &containerd);
    violent_ends(&bench, &containerd);
    ctr_run(&bench, &containerd);
    killed_in_the_middle(&bench, &mut containerd);
}

#[test]
fn containerd_1_6() {
    containerd("1.6");
}

#[test]
fn containerd_1_7() {
    containerd("1.7");
}

#[test]
fn containerd_2_1() {
    containerd("2.1");
}

/// `ctr run --cni` sends DEL without a namespace; when it is killed, it sends none.
fn ctr_run(bench: &Bench<'_>, containerd: &Containerd<'_>) {
    let other = &bench.cluster.description.outside.address;
    let cgroup = format!("{}/ctr", containerd.cgroup());
    let image = bench.cluster.description.image.as_str();
    let fixed = [
        "--namespace",
        "k8s.io",
        "run",
        "--cni",
        "--rm",
        "--snapshotter",
        "native",
        "--cgroup",
        &cgroup,
        image,
    ];
    let ping = [
        "once",
        "/usr/bin/malha",
        "lab",
        "connect",
        other,
        "--protocol",
        "icmp",
    ];
    run(&mut containerd.ctr(&[&fixed[..], &ping].concat()));
    bench.nothing_is_left("ctr run --cni");

    let serve = ["forever", "/usr/bin/malha", "lab", "serve"];
    let mut ctr = containerd.ctr(&[&fixed[..], &serve].concat());
    let mut child = ctr.stdout(Stdio::null()).spawn().unwrap();
    until("the container runs", || {
        run(&mut containerd.ctr(&["--namespace", "k8s.io", "task", "ls"])).contains("RUNNING")
            && traces(bench.cluster, bench.host) != bench.before
    });
    child.kill().unwrap();
    child.wait().unwrap();
    run(&mut containerd.ctr(&[
        "--namespace",
        "k8s.io",
        "task",
        "kill",
        "--signal",
        "9",
        "forever",
    ]));
    until("its task can be deleted", || {
        succeeds(&mut containerd.ctr(&["--namespace", "k8s.io", "task", "rm", "forever"]))
    });
    run(&mut containerd.ctr(&["--namespace", "k8s.io", "container", "rm", "forever"]));
    // libcni's cache file is the runtime's, and no DEL removes it.
    bench
        .cluster
        .sh(bench.host, "rm -f /var/lib/cni/results/*-forever-*");
    bench.nothing_is_left("a ctr that was killed");
}

#[test]
fn podman_with_cni() {
    let cluster = Cluster::with_network();
    let bench = Bench::new(&cluster);
    let podman = Podman::new(&cluster);
    let other = &cluster.description.outside.address;
    run(&mut podman.run(&["--rm"], &["lab", "connect", other, "--protocol", "icmp"]));
    bench.nothing_is_left("podman run --rm");

    run(&mut podman.run(
        &["--detach", "--name=web", "--publish=28100:8080"],
        &["lab", "serve"],
    ));
    let node = format!("{}:28100", bench.host.address);
    let fetch = ["lab", "fetch", node.as_str(), "/healthz"];
    until("the published port leads to it", || {
        succeeds(&mut cluster.malha_outside(&fetch))
    });
    run(&mut podman.command(&["kill", "--signal=KILL", "web"]));
    run(&mut podman.command(&["rm", "--force", "--time=0", "web"]));
    bench.nothing_is_left("podman kill and rm");
}

/// A node on which DEL does nothing, and whose pod's network namespace is held; until this is dropped.
struct Swallowed<'a> {
    cluster: &'a Cluster,
    node: &'a Host,
}

impl<'a> Swallowed<'a> {
    fn new(cluster: &'a Cluster, node: &'a Host, pod: &str) -> Self {
        let swallowed = Self { cluster, node };
        // What a run that was ended has left.
        swallowed.give_back();
        let script = format!(
            "touch /var/tmp/malha-e2e-held
             record=$(grep -l '\"{pod}\"' /run/malha/state/*.ready)
             netns=$(sed 's/.*\"sandbox\": *\"\\([^\"]*\\)\".*/\\1/' $record | grep netns | head -1)
             mount --bind $netns /var/tmp/malha-e2e-held
             mv /opt/cni/bin/malha-cni /opt/cni/bin/malha-cni.aside
             printf '#!/bin/sh\\necho $CNI_COMMAND >>/var/tmp/malha-e2e-verbs\\ncat >/dev/null\\n' >/opt/cni/bin/malha-cni
             chmod 755 /opt/cni/bin/malha-cni"
        );
        cluster.sh(node, &script);
        swallowed
    }

    fn verbs(&self) -> String {
        self.cluster
            .sh(self.node, "cat /var/tmp/malha-e2e-verbs || true")
    }

    fn give_back(&self) {
        let back = "
            if [ -e /opt/cni/bin/malha-cni.aside ]; then mv /opt/cni/bin/malha-cni.aside /opt/cni/bin/malha-cni; fi
            umount /var/tmp/malha-e2e-held || true
            rm -f /var/tmp/malha-e2e-held /var/tmp/malha-e2e-verbs || true";
        self.cluster.sh(self.node, back);
    }

    /// Fails when the namespace is not there any more.
    fn is_held(&self) {
        let lo = "nsenter --net=/var/tmp/malha-e2e-held ip link show lo";
        self.cluster.sh(self.node, lo);
    }
}

impl Drop for Swallowed<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// How long until a sandbox whose DEL never comes is detached: the kubelet removes it within a minute, and then the agent
/// misses it on two lists, or on none for five minutes if it has not seen it on one before.
const FORGOTTEN: Duration = Duration::from_secs(60 + 340);

/// DEL never comes (some versions of containerd skip it), and somebody holds the namespace, so that the link lives on. The
/// kubelet has a sandbox stopped again when it removes it, so every DEL has to be swallowed until the end: the first that
/// came through would detach the pod in the agent's stead.
#[test]
fn what_the_runtime_has_forgotten_is_detached() {
    let cluster = Cluster::with_network();
    let node = cluster.description.hosts.last().unwrap();
    cluster.kubectl(&["delete", "pod", "forgotten", "--ignore-not-found"]);
    let before = traces(&cluster, node);
    cluster.apply(&hostport_pod(
        "forgotten",
        &node.name,
        &cluster.description.image,
        28200,
    ));
    cluster.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/forgotten",
        "--timeout=90s",
    ]);
    assert_ne!(traces(&cluster, node), before, "the pod has a network");
    let swallowed = Swallowed::new(&cluster, node, "forgotten");
    cluster.kubectl(&["delete", "pod", "forgotten", "--timeout=90s"]);
    assert!(swallowed.verbs().contains("DEL"), "no DEL was swallowed");
    let begun = Instant::now();
    while traces(&cluster, node) != before && begun.elapsed() < FORGOTTEN {
        std::thread::sleep(Duration::from_secs(1));
    }
    must_become(&cluster, node, &before, "a DEL that never came");
    swallowed.is_held();
}
