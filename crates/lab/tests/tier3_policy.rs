//! Network policy in the whole system: three namespaces with three pods each, on three nodes, each pod to each, on two
//! ports, in two protocols and two families. What has to pass is written down for every case by hand.
mod common;

use std::collections::BTreeMap;
use std::fmt::Write;

use common::{Lab, until};

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const NAMES: [&str; 3] = ["a", "b", "c"];
/// What every pod serves. UDP answers with an echo.
const DOORS: [(&str, u16); 3] = [("tcp", 80), ("tcp", 81), ("udp", 80)];

/// A pod: namespace and name.
type Pod = (&'static str, &'static str);

/// What has to pass: from, to, protocol and port.
type Truth = fn(Pod, Pod, (&str, u16)) -> bool;

struct World {
    lab: Lab,
    /// Its addresses, one of each family.
    addresses: BTreeMap<Pod, Vec<String>>,
}

fn pods() -> impl Iterator<Item = Pod> {
    NAMESPACES
        .into_iter()
        .flat_map(|namespace| NAMES.map(|name| (namespace, name)))
}

/// Not every pod of a name, and not every pod of a namespace, on one node.
fn node_of(number: usize) -> String {
    format!("node{}", (number + number / 3) % 3 + 1)
}

fn manifest() -> String {
    let mut text = String::new();
    for namespace in NAMESPACES {
        let labels = format!("{{ns: '{namespace}'}}");
        writeln!(text, "---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: '{namespace}', labels: {labels}}}}}").unwrap();
    }
    for (number, (namespace, name)) in pods().enumerate() {
        let node = node_of(number);
        write!(
            text,
            r#"---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: '{namespace}', labels: {{pod: {name}}}}}
spec:
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  terminationGracePeriodSeconds: 1
  containers:
  - name: server
    image: malha
    command: [/usr/bin/malha, lab, serve, --http, "80", --tcp, "81", --udp, "80"]
    ports: [{{name: web, containerPort: 80}}]
    readinessProbe: {{httpGet: {{path: /healthz, port: 80}}, periodSeconds: 1}}
"#
        )
        .unwrap();
    }
    text
}

fn bracketed(address: &str) -> String {
    match address.contains(':') {
        true => format!("[{address}]"),
        false => address.to_owned(),
    }
}

impl World {
    fn new() -> Self {
        let lab = Lab::up(&[]);
        lab.apply(&manifest());
        let addresses = pods().map(|(namespace, name)| {
            let read = || lab.kubectl(&["get", "pod", "-n", namespace, name, "-o", "jsonpath={.status.podIPs[*].ip} {.status.conditions[?(@.type==\"Ready\")].status}"]);
            until(&format!("{namespace}/{name} is ready"), || read().ends_with("True"));
            let all: Vec<String> = read().split_whitespace().map(str::to_owned).collect();
            ((namespace, name), all[..2].to_vec())
        });
        let addresses = addresses.collect();
        Self { lab, addresses }
    }

    fn exec(&self, (namespace, name): Pod, words: &[&str]) -> String {
        let exec = ["exec", "-n", namespace, name, "--", "/usr/bin/malha", "lab"];
        self.lab.kubectl(&[&exec, words].concat())
    }

    /// What one pod reaches of all others.
    fn reached(&self, from: Pod) -> Vec<(Pod, (&'static str, u16), String)> {
        let mut doors = Vec::new();
        for to in pods() {
            for address in &self.addresses[&to] {
                let host = bracketed(address);
                doors.extend(DOORS.map(|door| (to, door, format!("{}:{host}:{}", door.0, door.1))));
            }
        }
        let texts: Vec<&str> = doors.iter().map(|(_, _, text)| text.as_str()).collect();
        let heard = self.exec(
            from,
            &[&["reach", "--timeout", "1"], texts.as_slice()].concat(),
        );
        let words = heard
            .lines()
            .map(|line| line.rsplit_once(' ').unwrap().1.to_owned());
        doors
            .into_iter()
            .zip(words)
            .map(|((to, door, _), word)| (to, door, word))
            .collect()
    }

    /// What is not as it should be, in lines.
    fn differences(&self, truth: Truth) -> Vec<String> {
        let differ = |from: Pod| {
            let wrong = move |(to, door, word): (Pod, (&'static str, u16), String)| {
                let wanted = if from == to || truth(from, to, door) {
                    "OK"
                } else {
                    "TIMEOUT"
                };
                (word != wanted)
                    .then(|| format!("{from:?} -> {to:?} {door:?}: {word}, not {wanted}"))
            };
            self.reached(from)
                .into_iter()
                .filter_map(wrong)
                .collect::<Vec<_>>()
        };
        std::thread::scope(|scope| {
            let asking: Vec<_> = pods()
                .map(|from| scope.spawn(move || differ(from)))
                .collect();
            asking
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        })
    }

    /// A policy comes into force within a moment; then it holds.
    fn holds(&self, what: &str, truth: Truth) {
        let last = std::cell::RefCell::new(Vec::new());
        let begun = std::time::Instant::now();
        while {
            *last.borrow_mut() = self.differences(truth);
            !last.borrow().is_empty()
        } {
            let late = begun.elapsed() > std::time::Duration::from_secs(20);
            assert!(!late, "{what}:\n{}", last.borrow().join("\n"));
        }
        assert_eq!(
            self.differences(truth),
            Vec::<String>::new(),
            "{what}, and later"
        );
    }

    /// A node looks after its pods, whatever their policies.
    fn nodes_reach_their_pods(&self) {
        for (number, pod) in pods().enumerate() {
            for address in &self.addresses[&pod] {
                let target = format!("tcp:{}:80", bracketed(address));
                let reach = ["malha", "lab", "reach", target.as_str()];
                let heard = self.lab.on(&node_of(number), &reach);
                assert!(heard.ends_with(" OK\n"), "{pod:?}: {heard}");
            }
        }
    }

    fn apply(&self, namespace: &str, name: &str, spec: &str) {
        self.lab.apply(&format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: '{namespace}'}}\nspec: {spec}\n"
        ));
    }

    fn delete(&self, namespace: &str, name: &str) {
        self.lab
            .kubectl(&["delete", "networkpolicy", "-n", namespace, name]);
    }
}

/// Namespace, name of the policy, its spec, and what has to pass.
const CASES: [(&str, &str, &str, Truth); 7] = [
    ("x", "deny-all", "{podSelector: {}}", |_, to, _| to.0 != "x"),
    (
        "x",
        "allow-b-of-y-to-web",
        "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}, podSelector: {matchLabels: {pod: b}}}], ports: [{port: web}]}]}",
        |from, to, door| to != ("x", "a") || (from == ("y", "b") && door == ("tcp", 80)),
    ),
    (
        "y",
        "only-out-to-z",
        "{podSelector: {matchExpressions: [{key: pod, operator: NotIn, values: [c]}]}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchExpressions: [{key: ns, operator: In, values: [z]}]}}], ports: [{protocol: UDP, port: 80}]}]}",
        |from, to, door| from.0 != "y" || from.1 == "c" || (to.0 == "z" && door.0 == "udp"),
    ),
    (
        "z",
        "a-range-of-ports",
        "{podSelector: {matchLabels: {pod: c}}, ingress: [{ports: [{port: 81, endPort: 90}]}]}",
        |_, to, door| to != ("z", "c") || door == ("tcp", 81),
    ),
    (
        "z",
        "everything-and-nothing",
        "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}]}",
        |from, _, _| from.0 != "z",
    ),
    (
        "x",
        "all-pods-of-this-namespace",
        "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}",
        |from, to, _| to.0 != "x" || from.0 == "x",
    ),
    (
        "y",
        "the-world-but-pods",
        "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.244.0.0/16]}}]}]}",
        |_, to, _| to != ("y", "a"),
    ),
];

#[test]
fn every_case_holds_alone_and_goes_without_a_trace() {
    let world = World::new();
    world.holds("without policies", |_, _, _| true);
    for (namespace, name, spec, truth) in CASES {
        world.apply(namespace, name, spec);
        world.holds(name, truth);
        world.nodes_reach_their_pods();
        world.delete(namespace, name);
    }
    world.holds("without policies again", |_, _, _| true);
    // Labels count as they are now.
    world.apply("x", "only-friends", "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {friend: 'yes'}}, namespaceSelector: {}}]}]}");
    world.holds("nobody is a friend", |_, to, _| to != ("x", "a"));
    world
        .lab
        .kubectl(&["label", "pod", "-n", "z", "b", "friend=yes"]);
    world.holds("one friend", |from, to, _| {
        to != ("x", "a") || from == ("z", "b")
    });
    // Agents that start anew find what they need, and until then nothing opens.
    world.lab.kubectl(&[
        "delete",
        "pods",
        "-n",
        "kube-system",
        "-l",
        "app.kubernetes.io/name=malha",
        "--wait=false",
    ]);
    world.holds("with other agents", |from, to, _| {
        to != ("x", "a") || from == ("z", "b")
    });
    world
        .lab
        .kubectl(&["label", "pod", "-n", "z", "b", "friend-"]);
    world.holds("no friend any more", |_, to, _| to != ("x", "a"));
}
