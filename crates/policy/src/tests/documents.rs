//! Examples from the documentation of Kubernetes, of the policy working group, and of Kubernetes' own e2e suite, each
//! by name: three namespaces x, y, z with three pods a, b, c, and a table of who reaches whom.
use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::check;
use crate::{
    api::{AddressSet, ClusterNetworkPolicy, MalhaPolicy},
    model::{Cluster, Flow, NamedPort, Namespace, Node, Pod, Policy, Transport},
    oracle::{self, View},
};

const NAMES: [&str; 9] = [
    "x/a", "x/b", "x/c", "y/a", "y/b", "y/c", "z/a", "z/b", "z/c",
];

/// The e2e suite's cluster: ports 80 and 81 of TCP, UDP and SCTP, named serve-80-tcp and so on; each pod on a node of
/// its own, so that nobody is let in for being a neighbour.
pub fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for (n, name) in NAMES.into_iter().enumerate() {
        let (namespace, pod) = name.split_once('/').expect("a name");
        let labels = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        cluster
            .namespaces
            .entry(namespace.into())
            .or_insert_with(|| Namespace {
                name: namespace.into(),
                labels: labels("ns", namespace),
            });
        let port = |(protocol, port): (Transport, u16)| NamedPort {
            name: format!("serve-{port}-{}", protocol.name().to_lowercase()),
            protocol,
            port,
        };
        let ports = Transport::ALL
            .into_iter()
            .flat_map(|t| [(t, 80), (t, 81)])
            .map(port);
        let pod = Pod {
            namespace: namespace.into(),
            name: pod.into(),
            labels: labels("pod", pod),
            service_account: if pod == "a" {
                "reader".into()
            } else {
                "default".into()
            },
            node: format!("node{n}"),
            host_network: false,
            addresses: vec![
                address(n),
                format!("fd00::{}", n + 1).parse().expect("an address"),
            ],
            ports: ports.collect(),
        };
        cluster.pods.insert(pod.key(), pod);
        let node = Node {
            name: format!("node{n}"),
            labels: labels("zone", if n < 5 { "west" } else { "east" }),
            addresses: vec![format!("172.20.0.{}", n + 1).parse().expect("an address")],
        };
        cluster.nodes.insert(node.name.clone(), node);
    }
    cluster
}

fn address(n: usize) -> std::net::IpAddr {
    format!("10.0.0.{}", n + 1).parse().expect("an address")
}

/// Add the objects of a YAML text, documents apart by `---`.
pub fn with(mut cluster: Cluster, yaml: &str) -> Cluster {
    for document in yaml.split("---\n").filter(|text| !text.trim().is_empty()) {
        fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
            serde_saphyr::from_str(text).expect("an object")
        }
        if document.contains("kind: NetworkPolicy") {
            cluster.set_policy(Policy::Namespaced(read::<NetworkPolicy>(document)));
        } else if document.contains("kind: ClusterNetworkPolicy") {
            cluster.set_policy(Policy::Cluster(read::<ClusterNetworkPolicy>(document)));
        } else if document.contains("kind: MalhaPolicy") {
            cluster.set_policy(Policy::Malha(read::<MalhaPolicy>(document)));
        } else {
            let set = read::<AddressSet>(document);
            cluster
                .address_sets
                .insert(set.metadata.name.clone().expect("a name"), set);
        }
    }
    cluster
}

/// Who reaches whom on a port: a row for each sender, `.` for yes and `X` for no. Oracle and tables must agree.
pub fn table(cluster: &Cluster, protocol: Transport, port: u16) -> String {
    let compiled = check::Compiled::new(cluster);
    let row = |from: usize| -> String {
        let cell = |to: usize| {
            let flow = Flow {
                source: address(from),
                destination: address(to),
                protocol: protocol.number(),
                port,
            };
            check::flow(cluster, &compiled, &flow).expect("agreement");
            if oracle::verdict(cluster, &flow, View::Enforced).is_allowed() {
                '.'
            } else {
                'X'
            }
        };
        (0..NAMES.len()).map(cell).collect()
    };
    (0..NAMES.len()).map(row).collect::<Vec<_>>().join(" ")
}

fn spec(kind: &str, namespace: &str, spec: &str) -> String {
    format!("kind: {kind}\nmetadata: {{name: p, namespace: {namespace}}}\nspec: {spec}\n")
}

/// One policy, and the table of TCP port 80 that it makes.
const EXAMPLES: &[(&str, &str, &str, &str, &str)] = &[
    (
        "docs: default deny all ingress",
        "NetworkPolicy",
        "x",
        "{podSelector: {}, policyTypes: [Ingress]}",
        ".XX...... X.X...... XX....... XXX...... XXX...... XXX...... XXX...... XXX...... XXX......",
    ),
    (
        "docs: allow all ingress",
        "NetworkPolicy",
        "x",
        "{podSelector: {}, ingress: [{}], policyTypes: [Ingress]}",
        "......... ......... ......... ......... ......... ......... ......... ......... .........",
    ),
    (
        "docs: default deny all egress",
        "NetworkPolicy",
        "x",
        "{podSelector: {}, policyTypes: [Egress]}",
        ".XXXXXXXX X.XXXXXXX XX.XXXXXX ......... ......... ......... ......... ......... .........",
    ),
    (
        "docs: default deny all",
        "NetworkPolicy",
        "x",
        "{podSelector: {}, policyTypes: [Ingress, Egress]}",
        ".XXXXXXXX X.XXXXXXX XX.XXXXXX XXX...... XXX...... XXX...... XXX...... XXX...... XXX......",
    ),
    (
        "e2e: client a of the server's namespace",
        "NetworkPolicy",
        "x",
        "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}",
        "......... ......... X........ X........ X........ X........ X........ X........ X........",
    ),
    (
        "e2e: namespaces by label",
        "NetworkPolicy",
        "x",
        "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]}",
        "......... X........ X........ ......... ......... ......... X........ X........ X........",
    ),
    (
        "e2e: namespace AND pod in one peer",
        "NetworkPolicy",
        "x",
        "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [x]}]}, podSelector: {matchLabels: {pod: b}}}]}]}",
        "......... X........ X........ X........ ......... X........ X........ ......... X........",
    ),
    (
        "e2e: namespace OR pod in two peers",
        "NetworkPolicy",
        "x",
        "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}, {podSelector: {matchLabels: {pod: b}}}]}]}",
        "......... ......... X........ ......... ......... ......... X........ X........ X........",
    ),
    (
        "e2e: only port 81",
        "NetworkPolicy",
        "x",
        "{podSelector: {}, ingress: [{ports: [{port: 81}]}]}",
        ".XX...... X.X...... XX....... XXX...... XXX...... XXX...... XXX...... XXX...... XXX......",
    ),
    (
        "e2e: named port serve-80-tcp",
        "NetworkPolicy",
        "x",
        "{podSelector: {}, ingress: [{ports: [{port: serve-80-tcp}]}]}",
        "......... ......... ......... ......... ......... ......... ......... ......... .........",
    ),
    (
        "e2e: named port of another protocol",
        "NetworkPolicy",
        "x",
        "{podSelector: {}, ingress: [{ports: [{port: serve-80-tcp, protocol: UDP}]}]}",
        ".XX...... X.X...... XX....... XXX...... XXX...... XXX...... XXX...... XXX...... XXX......",
    ),
    (
        "e2e: endPort",
        "NetworkPolicy",
        "x",
        "{podSelector: {}, egress: [{ports: [{port: 79, endPort: 80}]}], policyTypes: [Egress]}",
        "......... ......... ......... ......... ......... ......... ......... ......... .........",
    ),
    (
        "e2e: ipBlock with except",
        "NetworkPolicy",
        "x",
        "{podSelector: {matchLabels: {pod: a}}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/24, except: [10.0.0.4/30]}}]}], policyTypes: [Egress]}",
        "...XXXX.. ......... ......... ......... ......... ......... ......... ......... .........",
    ),
    (
        "e2e: except of one block is in another",
        "NetworkPolicy",
        "x",
        "{podSelector: {matchLabels: {pod: a}}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/24, except: [10.0.0.4/30]}}, {ipBlock: {cidr: 10.0.0.4/32}}]}], policyTypes: [Egress]}",
        "....XXX.. ......... ......... ......... ......... ......... ......... ......... .........",
    ),
    (
        "0.0.0.0/0 with except",
        "NetworkPolicy",
        "x",
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.8/29]}}]}]}",
        "......... ......... ......... ......... ......... ......... ......... XXX...... XXX......",
    ),
    (
        "empty from means everybody",
        "NetworkPolicy",
        "x",
        "{podSelector: {}, ingress: [{from: [], ports: []}]}",
        "......... ......... ......... ......... ......... ......... ......... ......... .........",
    ),
    (
        "empty list of rules means nobody",
        "NetworkPolicy",
        "x",
        "{podSelector: {}, ingress: []}",
        ".XX...... X.X...... XX....... XXX...... XXX...... XXX...... XXX...... XXX...... XXX......",
    ),
    (
        "empty namespaceSelector means every namespace",
        "NetworkPolicy",
        "x",
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}",
        "......... ......... ......... ......... ......... ......... ......... ......... .........",
    ),
    (
        "egress rules imply the type",
        "NetworkPolicy",
        "y",
        "{podSelector: {matchLabels: {pod: c}}, egress: [{to: [{podSelector: {}}]}]}",
        ".....X... .....X... .....X... .....X... .....X... XXX...XXX .....X... .....X... .....X...",
    ),
    (
        "selector that matches nothing",
        "NetworkPolicy",
        "x",
        "{podSelector: {matchLabels: {pod: none}}}",
        "......... ......... ......... ......... ......... ......... ......... ......... .........",
    ),
    (
        "working group: Admin denies from a namespace",
        "ClusterNetworkPolicy",
        "''",
        "{tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {ns: x}}}, ingress: [{action: Deny, from: [{namespaces: {matchLabels: {ns: z}}}]}]}",
        "......... ......... ......... ......... ......... ......... XXX...... XXX...... XXX......",
    ),
    (
        "working group: Pass before Deny",
        "ClusterNetworkPolicy",
        "''",
        "{tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {ns: x}}}, ingress: [{action: Pass, from: [{pods: {namespaceSelector: {matchLabels: {ns: z}}, podSelector: {matchLabels: {pod: a}}}}]}, {action: Deny, from: [{namespaces: {matchLabels: {ns: z}}}]}]}",
        "......... ......... ......... ......... ......... ......... ......... XXX...... XXX......",
    ),
    (
        "working group: range of ports",
        "ClusterNetworkPolicy",
        "''",
        "{tier: Baseline, priority: 1, subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {pod: a}}}}, egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {range: {start: 1, end: 80}}}}]}]}",
        ".XXXXXXXX ......... ......... XXX.XXXXX ......... ......... XXXXXX.XX ......... .........",
    ),
    (
        "working group: unknown peer of an Accept rule",
        "ClusterNetworkPolicy",
        "''",
        "{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{future: {}}]}]}",
        "......... ......... ......... ......... ......... ......... ......... ......... .........",
    ),
    (
        "working group: unknown peer of a Pass rule denies all",
        "ClusterNetworkPolicy",
        "''",
        "{tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {ns: x}}}, ingress: [{action: Pass, from: [{future: {}}]}]}",
        ".XX...... X.X...... XX....... XXX...... XXX...... XXX...... XXX...... XXX...... XXX......",
    ),
    (
        "MalhaPolicy: service accounts",
        "MalhaPolicy",
        "''",
        "{subject: {pods: {namespaceSelector: {matchLabels: {ns: x}}, podSelector: {}}}, ingress: [{action: Allow, peers: [{pods: {namespaceSelector: {}, podSelector: {}, serviceAccounts: [reader]}}]}, {action: Deny}]}",
        "......... X.X...... XX....... ......... XXX...... XXX...... ......... XXX...... XXX......",
    ),
    (
        "MalhaPolicy: an address set that is not there denies",
        "MalhaPolicy",
        "''",
        "{subject: {pods: {namespaceSelector: {matchLabels: {ns: x}}, podSelector: {}}}, egress: [{action: Deny, peers: [{addressSets: [none]}]}]}",
        ".XXXXXXXX X.XXXXXXX XX.XXXXXX ......... ......... ......... ......... ......... .........",
    ),
];

#[test]
fn examples() {
    for (name, kind, namespace, text, wanted) in EXAMPLES {
        let cluster = with(cluster(), &spec(kind, namespace, text));
        assert_eq!(&table(&cluster, Transport::Tcp, 80), wanted, "{name}");
    }
}

/// kubernetes.io, "Network Policies", the first example, with its own addresses.
#[test]
fn the_example_of_the_documentation() {
    let yaml = "
kind: NetworkPolicy
metadata: {name: test-network-policy, namespace: x}
spec:
  podSelector: {matchLabels: {pod: a}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}
    - namespaceSelector: {matchLabels: {ns: y}}
    - podSelector: {matchLabels: {pod: b}}
    ports: [{protocol: TCP, port: 6379}]
  egress:
  - to:
    - ipBlock: {cidr: 10.9.0.0/24}
    ports: [{protocol: TCP, port: 5978}]
";
    let cluster = with(cluster(), yaml);
    let compiled = check::Compiled::new(&cluster);
    for (source, destination, port, wanted) in [
        ("172.17.0.9", "10.0.0.1", 6379, true),
        ("172.17.1.9", "10.0.0.1", 6379, false),
        ("172.17.0.9", "10.0.0.1", 6380, false),
        ("10.0.0.5", "10.0.0.1", 6379, true),
        ("10.0.0.2", "10.0.0.1", 6379, true),
        ("10.0.0.3", "10.0.0.1", 6379, false),
        ("10.0.0.8", "10.0.0.1", 6379, false),
        ("10.0.0.1", "10.9.0.200", 5978, true),
        ("10.0.0.1", "10.9.1.1", 5978, false),
        ("172.20.0.1", "10.0.0.1", 1, true),
        ("172.20.0.2", "10.0.0.1", 1, false),
    ] {
        let flow = Flow {
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
            protocol: 6,
            port,
        };
        check::flow(&cluster, &compiled, &flow).expect("agreement");
        assert_eq!(
            oracle::verdict(&cluster, &flow, View::Enforced).is_allowed(),
            wanted,
            "{flow}"
        );
    }
}

/// The definitions that are installed name the kinds as the types do.
#[test]
fn definitions_of_the_kinds() {
    use k8s_openapi::{
        Resource, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    };
    let yaml = include_str!("../../crds/malha.yaml");
    let read =
        |text| serde_saphyr::from_str::<CustomResourceDefinition>(text).expect("a definition");
    let told: Vec<_> = yaml
        .split("---\n")
        .map(|text| {
            let spec = read(text).spec;
            (
                spec.group,
                spec.versions[0].name.clone(),
                spec.names.kind,
                spec.names.plural,
            )
        })
        .collect();
    fn named<T: Resource>() -> (String, String, String, String) {
        let parts = [T::GROUP, T::VERSION, T::KIND, T::URL_PATH_SEGMENT].map(str::to_owned);
        let [group, version, kind, plural] = parts;
        (group, version, kind, plural)
    }
    assert_eq!(told, [named::<MalhaPolicy>(), named::<AddressSet>()]);
}
