use serde_json::{Value, json};

use super::*;
use crate::testing::{at, object};

/// A node with 4 CPUs, 8 GiB and 10 places, and what else is given.
fn node(name: &str, labels: Value, spec: Value) -> Arc<Node> {
    object(json!({
        "metadata": {"name": name, "labels": labels}, "spec": spec,
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
    }))
}

fn plain(name: &str) -> Arc<Node> {
    node(name, json!({"kubernetes.io/hostname": name}), json!({}))
}

/// A pod of the application `app`, on a node if one is given, asking for CPU if any.
fn pod(name: &str, on: &str, cpu: &str, extra: Value) -> Arc<Pod> {
    let mut spec = json!({"nodeName": on, "containers": [{"name": "c"}]});
    if !cpu.is_empty() {
        spec["containers"][0]["resources"]["requests"]["cpu"] = cpu.into();
    }
    for (key, value) in extra.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    object(json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": name, "resourceVersion": "1", "labels": {"app": "app"},
            "creationTimestamp": "2026-11-25T11:00:00Z",
        },
        "spec": spec,
    }))
}

/// `pod -> node` or `pod: why not`, for every pod that waits.
fn outcome(pods: &[Arc<Pod>], nodes: &[Arc<Node>]) -> Vec<String> {
    let namespace: Arc<Namespace> =
        object(json!({"metadata": {"name": "default", "labels": {"team": "a"}}}));
    let writes = schedule(pods, nodes, &[namespace], at("2026-11-25T12:00:00Z"));
    let text = |write: &Write| {
        let text = write.to_string();
        let body: Value = serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
        let name = text.split('/').nth(6).unwrap();
        match body["target"]["name"].as_str() {
            Some(node) => format!("{name} -> {node}"),
            None => {
                let conditions = body["status"]["conditions"].as_array().unwrap();
                let last = conditions.last().unwrap();
                format!("{name}: {}", last["message"].as_str().unwrap())
            }
        }
    };
    writes.iter().map(text).collect()
}

fn no_node(reason: &str) -> String {
    format!("p: 0/1 nodes are available: 1 {reason}.")
}

#[test]
fn a_pod_goes_only_where_it_fits() {
    let tainted = |taint: Value| node("w", json!({}), json!({ "taints": [taint] }));
    let port = |host_port: i32, address: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": host_port, "hostIP": address}]}]});
    let selector = json!({"nodeSelector": {"disk": "ssd"}});
    let cordoned = node("w", json!({}), json!({"unschedulable": true}));
    let everything = json!({"tolerations": [{"operator": "Exists"}]});
    let sick = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    let soft = json!({"key": "k", "effect": "PreferNoSchedule"});
    let none: Value = json!({});
    let fits = "p -> w".to_owned();
    type Case<'a> = (&'a str, Arc<Node>, Vec<Arc<Pod>>, Arc<Pod>, String);
    let cases: Vec<Case<'_>> = vec![
        (
            "an empty node",
            plain("w"),
            vec![],
            pod("p", "", "", none.clone()),
            fits.clone(),
        ),
        (
            "cordoned",
            cordoned.clone(),
            vec![],
            pod("p", "", "", none.clone()),
            no_node("node(s) were unschedulable"),
        ),
        (
            "tolerated",
            cordoned,
            vec![],
            pod("p", "", "", everything.clone()),
            fits.clone(),
        ),
        (
            "tainted",
            tainted(sick.clone()),
            vec![],
            pod("p", "", "", none.clone()),
            no_node("node(s) had untolerated taint {node.kubernetes.io/not-ready: }"),
        ),
        (
            "tolerated taint",
            tainted(sick),
            vec![],
            pod("p", "", "", everything),
            fits.clone(),
        ),
        (
            "soft taint",
            tainted(soft),
            vec![],
            pod("p", "", "", none.clone()),
            fits.clone(),
        ),
        (
            "another label",
            plain("w"),
            vec![],
            pod("p", "", "", selector.clone()),
            no_node("node(s) didn't match Pod's node affinity/selector"),
        ),
        (
            "the label",
            node("w", json!({"disk": "ssd"}), json!({})),
            vec![],
            pod("p", "", "", selector),
            fits.clone(),
        ),
        (
            "too big",
            plain("w"),
            vec![],
            pod("p", "", "4100m", none.clone()),
            no_node("Insufficient cpu"),
        ),
        (
            "together too big",
            plain("w"),
            vec![pod("q", "w", "3", none.clone())],
            pod("p", "", "1500m", none.clone()),
            no_node("Insufficient cpu"),
        ),
        (
            "just fits",
            plain("w"),
            vec![pod("q", "w", "3", none.clone())],
            pod("p", "", "1", none.clone()),
            fits.clone(),
        ),
        (
            "full",
            plain("w"),
            (0..10)
                .map(|n| pod(&format!("q{n}"), "w", "", none.clone()))
                .collect(),
            pod("p", "", "", none.clone()),
            no_node("Too many pods"),
        ),
        (
            "a port in use",
            plain("w"),
            vec![pod("q", "w", "", port(80, ""))],
            pod("p", "", "", port(80, "10.0.0.1")),
            no_node("node(s) didn't have free ports for the requested pod ports"),
        ),
        (
            "the port of another address",
            plain("w"),
            vec![pod("q", "w", "", port(80, "10.0.0.2"))],
            pod("p", "", "", port(80, "10.0.0.1")),
            fits,
        ),
    ];
    for (name, node, running, pod, expected) in cases {
        let pods: Vec<_> = running.into_iter().chain([pod]).collect();
        assert_eq!(outcome(&pods, &[node]), [expected], "{name}");
    }
}

#[test]
fn reasons_are_counted_over_nodes() {
    let nodes = [
        node("a", json!({}), json!({"unschedulable": true})),
        node("b", json!({}), json!({"unschedulable": true})),
        plain("c"),
    ];
    assert_eq!(
        outcome(&[pod("p", "", "5", json!({}))], &nodes),
        ["p: 0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable."]
    );
    assert_eq!(
        outcome(&[pod("p", "", "", json!({}))], &[]),
        ["p: no nodes available to schedule pods"]
    );
}

#[test]
fn the_best_node_wins() {
    let none = json!({});
    let soft = json!({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]});
    let wish = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 10, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}},
    ]}}});
    let busy = pod("q", "a", "2", none.clone());
    assert_eq!(
        outcome(
            &[busy.clone(), pod("p", "", "", none.clone())],
            &[plain("a"), plain("b")]
        ),
        ["p -> b"]
    );
    let fast = node("a", json!({"disk": "ssd"}), json!({}));
    assert_eq!(
        outcome(&[busy, pod("p", "", "", wish)], &[fast, plain("b")]),
        ["p -> a"]
    );
    assert_eq!(
        outcome(
            &[pod("p", "", "", none.clone())],
            &[node("a", json!({}), soft), plain("b")]
        ),
        ["p -> b"]
    );
    // Placements of one round count for the next ones.
    let three: Vec<_> = ["p", "q", "r"]
        .map(|name| pod(name, "", "", none.clone()))
        .into();
    assert_eq!(
        outcome(&three, &[plain("a"), plain("b"), plain("c")]),
        ["p -> a", "q -> b", "r -> c"]
    );
}

#[test]
fn priority_goes_first() {
    let low = pod("low", "", "3", json!({}));
    let high = pod("high", "", "3", json!({"priority": 1000}));
    assert_eq!(
        outcome(&[low, high], &[plain("a")]),
        [
            "high -> a",
            "low: 0/1 nodes are available: 1 Insufficient cpu."
        ]
    );
}

#[test]
fn pods_keep_near_to_or_away_from_each_other() {
    let term = |app: &str| json!([{"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "kubernetes.io/hostname"}]);
    let near = |app: &str| json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term(app)}}});
    let away = |app: &str| json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term(app)}}});
    let running = |extra: Value| pod("q", "a", "", extra);
    let two = [plain("a"), plain("b")];
    let run = |pods: &[Arc<Pod>]| outcome(pods, &two).join("; ");
    assert_eq!(
        run(&[running(json!({})), pod("p", "", "", near("app"))]),
        "p -> a"
    );
    assert_eq!(
        run(&[pod("p", "", "", near("app"))]),
        "p -> a",
        "the first of its kind"
    );
    assert_eq!(
        run(&[pod("p", "", "", near("db"))]),
        "p: 0/2 nodes are available: 2 node(s) didn't match pod affinity rules."
    );
    assert_eq!(
        run(&[running(json!({})), pod("p", "", "", away("app"))]),
        "p -> b"
    );
    assert_eq!(
        run(&[running(away("app")), pod("p", "", "", json!({}))]),
        "p -> b"
    );
    let three: Vec<_> = ["p", "q", "r"]
        .map(|name| pod(name, "", "", away("app")))
        .into();
    assert_eq!(
        run(&three),
        "p -> a; q -> b; r: 0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules."
    );
}

#[test]
fn pods_spread_over_domains() {
    let spread = json!({"topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "app"}},
    }]});
    let zone = |name: &str, zone: &str| node(name, json!({"zone": zone}), json!({}));
    let nodes = [
        zone("a", "1"),
        zone("b", "1"),
        node("c", json!({"zone": "2"}), json!({"unschedulable": true})),
        plain("d"),
    ];
    let pods: Vec<_> = ["p", "q"]
        .map(|name| pod(name, "", "", spread.clone()))
        .into();
    assert_eq!(
        outcome(&pods, &nodes),
        [
            "p -> a",
            "q: 0/4 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required \
             label), 1 node(s) were unschedulable, 2 node(s) didn't match pod topology spread constraints."
        ]
    );
}

#[test]
fn only_waiting_pods_are_ours() {
    let other = pod("p", "", "", json!({"schedulerName": "mine"}));
    assert!(!waits(&other));
    assert!(!waits(&pod("p", "w", "", json!({}))));
    let mut gone = (*pod("p", "", "", json!({}))).clone();
    gone.metadata.deletion_timestamp = Some(Time(at("2026-11-25T12:00:00Z")));
    assert!(!waits(&gone));
    let gated = pod("p", "", "", json!({"schedulingGates": [{"name": "x"}]}));
    assert_eq!(
        outcome(&[gated], &[plain("a")]),
        ["p: Scheduling is blocked due to non-empty scheduling gates"]
    );
}

#[test]
fn a_reason_is_told_once() {
    let mut pod = (*pod("p", "", "", json!({}))).clone();
    let reason = Unplaced::Unschedulable("no".into());
    let first = explain(&pod, &reason, at("2026-11-25T12:00:00Z"))
        .unwrap()
        .to_string();
    let body: Value = serde_json::from_str(&first[first.find('{').unwrap()..]).unwrap();
    pod.status = serde_json::from_value(body["status"].clone()).unwrap();
    assert_eq!(explain(&pod, &reason, at("2026-11-25T12:00:09Z")), None);
    let other = explain(
        &pod,
        &Unplaced::Unschedulable("other".into()),
        at("2026-11-25T12:00:09Z"),
    );
    let other = other.unwrap().to_string();
    assert!(
        other.contains("2026-11-25T12:00:00Z") && other.contains("other"),
        "{other}"
    );
}
