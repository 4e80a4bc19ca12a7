//! What the compiler costs: `cargo run --release -p malha-policy --example costs -- [PODS] [POLICIES]`.
//!
//! Pods lie on nodes by the hundred, in a namespace for every fifty pods, with ten applications each and a label of
//! its own on every pod (as a StatefulSet's pods have). Policies allow an application from two others, a namespace and
//! a block, on two ports.
use std::{collections::BTreeMap, time::Instant};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use malha_policy::{
    compile::{Change, Engine, changes},
    model::{Cluster, Namespace, Node, Pod, Policy},
};

const ROUNDS: usize = 200;

fn labels(pairs: &[(&str, String)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect()
}

fn cluster(pods: usize, policies: usize) -> Cluster {
    let mut cluster = Cluster::default();
    let namespaces = pods.div_ceil(50);
    cluster.settings.pod_ranges = vec!["10.0.0.0/8".parse().expect("a range")];
    for n in 0..namespaces {
        let name = format!("ns{n}");
        let labels = labels(&[("team", format!("t{}", n % 20))]);
        cluster
            .namespaces
            .insert(name.clone(), Namespace { name, labels });
    }
    for n in 0..pods.div_ceil(100) {
        let name = format!("node{n}");
        let addresses = vec![
            format!("172.20.{}.{}", n / 250, n % 250 + 1)
                .parse()
                .expect("an address"),
        ];
        cluster.nodes.insert(
            name.clone(),
            Node {
                name,
                labels: BTreeMap::new(),
                addresses,
            },
        );
    }
    for n in 0..pods {
        let pod = pod(n, namespaces, format!("a{}", n / namespaces % 10));
        cluster.pods.insert(pod.key(), pod);
    }
    (0..policies).for_each(|n| cluster.set_policy(policy(n, namespaces, 80)));
    cluster
}

fn pod(n: usize, namespaces: usize, app: String) -> Pod {
    Pod {
        namespace: format!("ns{}", n % namespaces),
        name: format!("pod{n}"),
        labels: labels(&[
            ("app", app),
            ("statefulset.kubernetes.io/pod-name", format!("pod{n}")),
        ]),
        service_account: "default".into(),
        node: format!("node{}", n / 100),
        host_network: false,
        addresses: vec![
            format!("10.{}.{}.{}", n / 65536, n / 256 % 256, n % 256)
                .parse()
                .expect("an address"),
            format!("fd00::{n:x}").parse().expect("an address"),
        ],
        ports: Vec::new(),
    }
}

fn policy(n: usize, namespaces: usize, port: u16) -> Policy {
    let app = |k: usize| serde_json::json!({"matchLabels": {"app": format!("a{}", (n / namespaces + k) % 10)}});
    let object = serde_json::json!({
        "metadata": {"name": format!("policy{n}"), "namespace": format!("ns{}", n % namespaces)},
        "spec": {
            "podSelector": app(0),
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": [{"podSelector": app(1)}, {"podSelector": app(2)}], "ports": [{"port": port}, {"port": 443}]},
                {"from": [{"namespaceSelector": {"matchLabels": {"team": format!("t{}", n % 20)}}}]},
            ],
            "egress": [{"to": [{"ipBlock": {"cidr": format!("192.0.{}.0/24", n % 250), "except": [format!("192.0.{}.128/25", n % 250)]}},
                               {"podSelector": {}}]}],
        },
    });
    Policy::Namespaced(serde_json::from_value::<NetworkPolicy>(object).expect("a policy"))
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.map_or_else(
        || "unknown".into(),
        |line| {
            line.split_whitespace()
                .skip(1)
                .collect::<Vec<_>>()
                .join(" ")
        },
    )
}

fn percentiles(mut micros: Vec<u128>) -> String {
    micros.sort_unstable();
    let at = |percent: usize| micros[(micros.len() - 1) * percent / 100];
    format!("p50 {} us, p99 {} us", at(50), at(99))
}

fn measure(what: &str, engine: &mut Engine, mut change: impl FnMut(usize) -> Change) {
    let mut times = Vec::new();
    let mut most = 0;
    for round in 0..ROUNDS {
        let change = change(round);
        let begun = Instant::now();
        let delta = engine.apply([change]);
        times.push(begun.elapsed().as_micros());
        most = most.max(delta.ops.len());
    }
    println!(
        "  {what}: {}, at most {most} operations",
        percentiles(times)
    );
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|text| text.parse().expect("a number"));
    let pods: usize = arguments.next().unwrap_or(10_000);
    let policies: usize = arguments.next().unwrap_or(1_000);
    let namespaces = pods.div_ceil(50);
    let cluster = cluster(pods, policies);
    println!(
        "{pods} pods, {policies} policies; resident before: {}",
        memory()
    );
    for (place, everywhere) in [
        ("a node with 100 of the pods", false),
        ("one node with all pods", true),
    ] {
        let mut cluster = cluster.clone();
        if everywhere {
            cluster
                .pods
                .values_mut()
                .for_each(|pod| pod.node = "node0".into());
        }
        let place_of = |pod: Pod| Pod {
            node: if everywhere {
                "node0".into()
            } else {
                pod.node.clone()
            },
            ..pod
        };
        let all = changes(&cluster);
        let mut engine = Engine::new("node0", cluster.settings.clone());
        let begun = Instant::now();
        let delta = engine.apply(all);
        println!(
            "{place}: full compile {} ms, {} operations",
            begun.elapsed().as_millis(),
            delta.ops.len()
        );
        println!("  {:?}; resident: {}", engine.sizes(), memory());
        measure("one policy changes its port", &mut engine, |round| {
            let policy = policy(round % policies, namespaces, 81 + (round / policies) as u16);
            Change::Policy(policy.object(), Some(Box::new(policy)))
        });
        measure("one policy goes or comes", &mut engine, |round| {
            let policy = policy(round / 2 % policies, namespaces, 80);
            Change::Policy(policy.object(), (round % 2 == 1).then(|| Box::new(policy)))
        });
        measure("one pod changes its label", &mut engine, |round| {
            let pod = place_of(pod(round % pods, namespaces, format!("b{}", round % 2)));
            Change::Pod(pod.key(), Some(pod))
        });
        measure("one pod goes or comes", &mut engine, |round| {
            let pod = place_of(pod(round / 2 % pods, namespaces, "a1".into()));
            Change::Pod(pod.key(), (round % 2 == 1).then_some(pod))
        });
    }
}
