//! Input that is contradictory, enormous or wrong.
use super::{
    check::{self, Compiled},
    documents::{cluster, table, with},
    scenario::change,
};
use crate::{
    compile::{Change, Engine, changes},
    diff::diff,
    explain::explain,
    maps::Maps,
    model::{Cluster, Flow, Transport},
    oracle::{self, View},
    read,
};

fn flow(source: &str, destination: &str, protocol: u8, port: u16) -> Flow {
    Flow {
        source: source.parse().expect("an address"),
        destination: destination.parse().expect("an address"),
        protocol,
        port,
    }
}

fn agreed(cluster: &Cluster, flow: &Flow) -> bool {
    check::flow(cluster, &Compiled::new(cluster), flow).expect("agreement");
    oracle::verdict(cluster, flow, View::Enforced).is_allowed()
}

fn problems(cluster: &Cluster) -> Vec<String> {
    let read = cluster
        .policies
        .values()
        .flat_map(|p| read::read(p, &cluster.address_sets).1);
    read.map(|problem| problem.to_string()).collect()
}

/// The same tier, the same priority, the opposite: the first by name holds, on every node alike.
#[test]
fn contradictory_policies() {
    let one = |name: &str, action: &str| {
        format!(
            "kind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{tier: Admin, priority: 5, subject: \
             {{namespaces: {{}}}}, ingress: [{{action: {action}, from: [{{namespaces: {{}}}}]}}]}}\n"
        )
    };
    let yaml = format!("{}---\n{}", one("a", "Deny"), one("b", "Accept"));
    assert!(!agreed(
        &with(cluster(), &yaml),
        &flow("10.0.0.1", "10.0.0.2", 6, 80)
    ));
    let yaml = format!("{}---\n{}", one("b", "Deny"), one("a", "Accept"));
    assert!(agreed(
        &with(cluster(), &yaml),
        &flow("10.0.0.1", "10.0.0.2", 6, 80)
    ));
}

#[test]
fn ten_thousand_peers() {
    let mut yaml = String::from(
        "kind: NetworkPolicy\nmetadata: {name: many, namespace: x}\nspec:\n  podSelector: {}\n  ingress:\n  - from:\n",
    );
    for n in 0..10_000 {
        yaml.push_str(&format!(
            "    - ipBlock: {{cidr: 100.64.{}.{}/32}}\n",
            n / 250,
            n % 250
        ));
    }
    let cluster = with(cluster(), &yaml);
    let compiled = Compiled::new(&cluster);
    for (source, wanted) in [
        ("100.64.0.0", true),
        ("100.64.39.249", true),
        ("100.64.40.0", false),
    ] {
        let flow = flow(source, "10.0.0.1", 6, 80);
        check::flow(&cluster, &compiled, &flow).expect("agreement");
        assert_eq!(
            oracle::verdict(&cluster, &flow, View::Enforced).is_allowed(),
            wanted,
            "{source}"
        );
    }
    // The blocks of a rule need not be told apart: one identity for them all.
    let (engine, _) = &compiled.nodes["node0"];
    let sizes = engine.sizes();
    assert_eq!(
        (sizes.tables, sizes.peers),
        (1, 3),
        "nobody in particular, the blocks, the own node"
    );
}

#[test]
fn ten_thousand_ports() {
    let mut yaml = String::from(
        "kind: NetworkPolicy\nmetadata: {name: many, namespace: x}\nspec:\n  podSelector: {}\n  ingress:\n  - ports:\n",
    );
    (0..10_000).for_each(|n| yaml.push_str(&format!("    - port: {}\n", 2 * n + 1)));
    let cluster = with(cluster(), &yaml);
    assert!(agreed(&cluster, &flow("10.0.0.5", "10.0.0.1", 6, 19_999)));
    assert!(!agreed(&cluster, &flow("10.0.0.5", "10.0.0.1", 6, 19_998)));
}

#[test]
fn a_port_name_that_some_pods_lack() {
    let yaml = "kind: NetworkPolicy\nmetadata: {name: named, namespace: x}\nspec: {podSelector: {}, egress: [{ports: [{port: web}]}], policyTypes: [Egress]}";
    let mut cluster = with(cluster(), yaml);
    let pod = cluster
        .pods
        .get_mut(&("y".into(), "b".into()))
        .expect("a pod");
    pod.ports = vec![crate::model::NamedPort {
        name: "web".into(),
        protocol: Transport::Tcp,
        port: 8443,
    }];
    assert!(agreed(&cluster, &flow("10.0.0.1", "10.0.0.5", 6, 8443)));
    assert!(!agreed(&cluster, &flow("10.0.0.1", "10.0.0.6", 6, 8443)));
    assert!(!agreed(&cluster, &flow("10.0.0.1", "8.8.8.8", 6, 8443)));
}

/// Policies and pods outlive their namespace for a while. What its labels allowed is closed at once.
#[test]
fn a_namespace_is_deleted() {
    let yaml = "kind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]}";
    let mut cluster = with(cluster(), yaml);
    let flow = flow("10.0.0.5", "10.0.0.1", 6, 80);
    let mut compiled = Compiled::new(&cluster);
    assert!(oracle::verdict(&cluster, &flow, View::Enforced).is_allowed());
    let gone = Change::Namespace("y".into(), None);
    change(&mut cluster, &gone);
    compiled.apply(&[gone]);
    check::flow(&cluster, &compiled, &flow).expect("agreement");
    assert!(!oracle::verdict(&cluster, &flow, View::Enforced).is_allowed());
}

#[test]
fn everything_goes_and_nothing_is_left() {
    let yaml = "kind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}], ports: [{port: 80}]}], egress: [{ports: [{port: serve-80-tcp}]}]}";
    let cluster = with(cluster(), yaml);
    let mut engine = Engine::new("node0", cluster.settings.clone());
    let mut maps = Maps::default();
    maps.apply(&engine.apply(changes(&cluster)).ops);
    assert_ne!(maps, Maps::default());
    let gone = changes(&cluster).into_iter().map(|item| match item {
        Change::Namespace(key, _) => Change::Namespace(key, None),
        Change::Pod(key, _) => Change::Pod(key, None),
        Change::Node(key, _) => Change::Node(key, None),
        Change::Policy(key, _) => Change::Policy(key, None),
        Change::AddressSet(key, _) => Change::AddressSet(key, None),
    });
    maps.apply(&engine.apply(gone).ops);
    assert_eq!(maps, Maps::default());
}

#[test]
fn a_change_that_changes_nothing_costs_nothing() {
    let yaml = "kind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: {podSelector: {}, ingress: []}";
    let cluster = with(cluster(), yaml);
    let mut engine = Engine::new("node0", cluster.settings.clone());
    engine.apply(changes(&cluster));
    assert_eq!(engine.apply(changes(&cluster)).ops, []);
    // A label that no rule asks for.
    let mut pod = cluster.pods[&("y".into(), "b".into())].clone();
    pod.labels.insert("build".into(), "7".into());
    assert_eq!(engine.apply([Change::Pod(pod.key(), Some(pod))]).ops, []);
}

/// Each invalid field is named, and what it would have allowed is closed.
#[test]
fn invalid_policies_are_named_and_closed() {
    for (rule, wanted) in [
        (
            "from: [{ipBlock: {cidr: 10.0.0.300/8}}]",
            "spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0.300/8\" is no range",
        ),
        (
            "from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}}]",
            "ipBlock.except[0]: 11.0.0.0/9 is not a strict part",
        ),
        ("from: [{}]", "spec.ingress[0].from[0]: one of podSelector"),
        (
            "from: [{podSelector: {matchExpressions: [{key: a, operator: In}]}}]",
            "podSelector.matchExpressions[0].values: operator In needs",
        ),
        (
            "from: [{podSelector: {matchExpressions: [{key: a, operator: is}]}}]",
            "operator: \"is\" is none of In",
        ),
        (
            "from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]",
            "ipBlock cannot stand beside",
        ),
        (
            "ports: [{protocol: ICMP}]",
            "spec.ingress[0].ports[0].protocol: \"ICMP\" is none of",
        ),
        ("ports: [{port: 80, endPort: 79}]", "79 is below 80"),
        (
            "ports: [{port: web, endPort: 90}]",
            "endPort: needs a port that is a number",
        ),
        ("ports: [{port: 65536}]", "65536 is no port"),
    ] {
        let yaml = format!(
            "kind: NetworkPolicy\nmetadata: {{name: bad, namespace: x}}\nspec: {{podSelector: {{}}, ingress: [{{{rule}}}]}}"
        );
        let cluster = with(cluster(), &yaml);
        let told = problems(&cluster);
        assert!(
            told.iter()
                .any(|t| t.starts_with("NetworkPolicy x/bad: ") && t.contains(wanted)),
            "{rule}: {told:?}"
        );
        assert!(
            table(&cluster, Transport::Tcp, 80).starts_with(".XX...... X.X......"),
            "{rule} is open"
        );
    }
}

/// A policy for nodes that denies everything leaves the fail-safe ports open, and one that cannot be read does nothing.
#[test]
fn nobody_locks_themselves_out() {
    let policy = |nodes: &str| {
        format!(
            "kind: MalhaPolicy\nmetadata: {{name: shut}}\nspec: {{subject: {{nodes: {nodes}}}, ingress: [{{action: Deny}}], egress: [{{action: Deny}}]}}"
        )
    };
    let shut = with(cluster(), &policy("{matchLabels: {zone: west}}"));
    assert!(agreed(&shut, &flow("8.8.8.8", "172.20.0.1", 6, 22)));
    assert!(agreed(&shut, &flow("172.20.0.1", "8.8.8.8", 17, 53)));
    assert!(!agreed(&shut, &flow("8.8.8.8", "172.20.0.1", 6, 80)));
    assert!(agreed(&shut, &flow("8.8.8.8", "172.20.0.9", 6, 80)));
    let unread = with(
        cluster(),
        &policy("{matchExpressions: [{key: zone, operator: is}]}"),
    );
    assert!(agreed(&unread, &flow("8.8.8.8", "172.20.0.1", 6, 80)));
    assert_eq!(problems(&unread).len(), 1);
}

#[test]
fn an_explanation_names_the_nearest_miss() {
    let yaml = "kind: NetworkPolicy\nmetadata: {name: web, namespace: x}\nspec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: c}}}]}, {from: [{namespaceSelector: {matchLabels: {ns: y}}}], ports: [{port: 443}]}]}";
    let cluster = with(cluster(), yaml);
    let told = explain(&cluster, &flow("10.0.0.5", "10.0.0.1", 6, 80));
    assert!(!told.allowed);
    let text = told.to_string();
    assert!(
        text.starts_with("denied: pod y/b (10.0.0.5) to pod x/a (10.0.0.1), port 80/TCP\n"),
        "{text}"
    );
    assert!(
        text.contains(
            "isolation: NetworkPolicy x/web selects the pod, and no ingress rule matches"
        ),
        "{text}"
    );
    assert!(text.contains("nearest miss: NetworkPolicy x/web, spec.ingress[1]: the port does not match: the rule is for 443/TCP"), "{text}");
    let told = explain(&cluster, &flow("10.0.0.5", "10.0.0.1", 6, 443)).to_string();
    assert!(
        told.contains("ingress: allowed by NetworkPolicy x/web, spec.ingress[1]"),
        "{told}"
    );
}

#[test]
fn a_difference_names_who_loses_and_gains() {
    let old = "kind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: 80}]}]}";
    let new = "kind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: c}}}], ports: [{port: 80, endPort: 90}]}]}";
    let found = diff(&with(cluster(), old), &with(cluster(), new));
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        ["loses  x/b -> x/a  80/TCP", "gains  x/c -> x/a  80-90/TCP"]
    );
}

/// A staged policy changes nothing but says what it would.
#[test]
fn staged_policies_are_told_and_not_enforced() {
    let yaml = "kind: NetworkPolicy\nmetadata: {name: p, namespace: x, annotations: {malha.dev/staged: 'true'}}\nspec: {podSelector: {}}";
    let cluster = with(cluster(), yaml);
    let flow = flow("10.0.0.5", "10.0.0.1", 6, 80);
    assert!(agreed(&cluster, &flow));
    let told = explain(&cluster, &flow).to_string();
    assert!(
        told.contains("with the staged policies it would be denied"),
        "{told}"
    );
}
