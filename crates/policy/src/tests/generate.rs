//! Random clusters over a small vocabulary, so that selectors, addresses and ports meet often.
use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    generate_policies as policies,
    scenario::{History, Scenario},
};
use crate::{
    compile::{Change, changes},
    model::{
        Cluster, FailSafe, Flow, Labels, NamedPort, Namespace, Node, Pod, Settings, Transport,
    },
};

pub const NAMESPACES: [&str; 3] = ["one", "two", "three"];
pub const NODES: [&str; 2] = ["north", "south"];
pub const ACCOUNTS: [&str; 2] = ["default", "robot"];
/// Addresses of nobody; the last two are of pods that are not known, where the ranges are.
pub const OUTSIDE: [&str; 6] = [
    "192.0.2.1",
    "192.0.2.200",
    "8.8.8.8",
    "2001:db8::1",
    "10.0.0.77",
    "fd00::77",
];
pub const PORTS: [u16; 12] = [22, 53, 79, 80, 81, 82, 443, 8079, 8080, 8081, 32000, 65535];
pub const PROTOCOLS: [u8; 4] = [6, 17, 132, 1];

pub fn labels() -> impl Strategy<Value = Labels> {
    let value = || prop_oneof![Just(None), Just(Some("x")), Just(Some("y"))];
    (value(), value()).prop_map(|(a, b)| {
        let all = [("a", a), ("b", b)].into_iter();
        all.filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
            .collect()
    })
}

pub fn selector() -> impl Strategy<Value = LabelSelector> {
    let key = prop_oneof![Just("a"), Just("b")];
    let operator = prop_oneof![
        8 => Just(("In", true)), 8 => Just(("NotIn", true)), 8 => Just(("Exists", false)),
        8 => Just(("DoesNotExist", false)), 1 => Just(("in", true)), 1 => Just(("In", false)),
    ];
    let values = prop_oneof![Just(vec!["x"]), Just(vec!["y"]), Just(vec!["x", "y"])];
    let expression = (key, operator, values).prop_map(|(key, (operator, valued), values)| {
        let values = values.into_iter().map(str::to_owned).collect();
        LabelSelectorRequirement {
            key: key.into(),
            operator: operator.into(),
            values: Some(values).filter(|_| valued),
        }
    });
    let by_label = labels().prop_map(|labels| LabelSelector {
        match_labels: Some(labels).filter(|l| !l.is_empty()),
        match_expressions: None,
    });
    let by_expression = vec(expression, 1..3).prop_map(|list| LabelSelector {
        match_labels: None,
        match_expressions: Some(list),
    });
    prop_oneof![2 => Just(LabelSelector::default()), 3 => by_label, 3 => by_expression]
}

fn pod() -> impl Strategy<Value = Pod> {
    let port = (
        prop_oneof![Just("http"), Just("dns")],
        prop_oneof![3 => Just(0usize), 1 => Just(1), 1 => Just(2)],
        0..4usize,
    )
        .prop_map(|(name, protocol, port)| NamedPort {
            name: name.into(),
            protocol: Transport::ALL[protocol],
            port: [80, 8080, 53, 80][port],
        });
    let place = (0..NAMESPACES.len(), 0..NODES.len(), 0..ACCOUNTS.len());
    let network = prop_oneof![6 => Just(false), 1 => Just(true)];
    (place, labels(), network, vec(port, 0..3)).prop_map(
        |((namespace, node, account), labels, host_network, ports)| Pod {
            namespace: NAMESPACES[namespace].into(),
            labels,
            service_account: ACCOUNTS[account].into(),
            node: NODES[node].into(),
            host_network,
            ports,
            ..Pod::default()
        },
    )
}

fn parse(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn node(index: usize, labels: Labels) -> Node {
    let n = index + 1;
    Node {
        name: NODES[index].into(),
        labels,
        addresses: vec![
            parse(&format!("172.20.0.{n}")),
            parse(&format!("fd20::{n}")),
        ],
    }
}

pub fn cluster() -> impl Strategy<Value = Cluster> {
    let namespaces = vec(
        (labels(), prop_oneof![9 => Just(true), 1 => Just(false)]),
        NAMESPACES.len(),
    );
    let ranges = prop_oneof![1 => Just(vec![]), 2 => Just(vec!["10.0.0.0/24", "fd00::/64"])];
    let objects = (
        namespaces,
        vec(labels(), NODES.len()),
        vec(pod(), 1..7),
        ranges,
    );
    (objects, policies::address_sets(), policies::policies()).prop_map(
        |((namespaces, nodes, pods, ranges), address_sets, policies)| {
            let mut cluster = Cluster {
                address_sets,
                settings: Settings {
                    fail_safe: FailSafe {
                        ingress: vec![(Transport::Tcp, 22)],
                        egress: vec![(Transport::Udp, 53)],
                    },
                    pod_ranges: ranges.iter().map(|r| r.parse().expect("a range")).collect(),
                },
                ..Cluster::default()
            };
            for (name, (labels, exists)) in NAMESPACES.into_iter().zip(namespaces) {
                // A pod may be seen before its namespace is.
                if exists {
                    let name = name.to_owned();
                    cluster
                        .namespaces
                        .insert(name.clone(), Namespace { name, labels });
                }
            }
            for (index, labels) in nodes.into_iter().enumerate() {
                cluster
                    .nodes
                    .insert(NODES[index].into(), node(index, labels));
            }
            for (index, mut pod) in pods.into_iter().enumerate() {
                let n = index + 1;
                pod.name = format!("p{n}");
                pod.addresses = match pod.host_network {
                    true => cluster.nodes[&pod.node].addresses.clone(),
                    false => vec![parse(&format!("10.0.0.{n}")), parse(&format!("fd00::{n}"))],
                };
                cluster.pods.insert(pod.key(), pod);
            }
            policies
                .into_iter()
                .for_each(|policy| cluster.set_policy(policy));
            cluster
        },
    )
}

/// Every address that is something to the cluster, and some that are nothing.
pub fn addresses(cluster: &Cluster) -> Vec<IpAddr> {
    let pods = cluster.pods.values().flat_map(|p| &p.addresses);
    let nodes = cluster.nodes.values().flat_map(|n| &n.addresses);
    let mut all: Vec<IpAddr> = pods
        .chain(nodes)
        .copied()
        .chain(OUTSIDE.map(parse))
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// A cluster and about so many flows.
pub fn scenario(flows: usize) -> impl Strategy<Value = Scenario> {
    let flow = (
        any::<Index>(),
        any::<Index>(),
        any::<Index>(),
        any::<Index>(),
    );
    (cluster(), vec(flow, 1..2 * flows)).prop_map(|(cluster, picks)| {
        let all = addresses(&cluster);
        let flows = picks
            .into_iter()
            .map(|(source, destination, protocol, port)| {
                let source = all[source.index(all.len())];
                let same: Vec<_> = all
                    .iter()
                    .filter(|a| a.is_ipv4() == source.is_ipv4())
                    .collect();
                let destination = *same[destination.index(same.len())];
                let mut named = cluster
                    .pods
                    .values()
                    .filter(|p| p.addresses.contains(&destination))
                    .flat_map(|p| &p.ports);
                // Every other flow is for a port with a name, where there is one.
                let (protocol, port) = match named.next() {
                    Some(aimed) if port.index(2) == 0 => (aimed.protocol.number(), aimed.port),
                    _ => (
                        PROTOCOLS[protocol.index(PROTOCOLS.len())],
                        PORTS[port.index(PORTS.len())],
                    ),
                };
                let port = if protocol == 1 { 0 } else { port };
                Flow {
                    source,
                    destination,
                    protocol,
                    port,
                }
            });
        Scenario {
            flows: flows.collect(),
            cluster,
        }
    })
}

/// One cluster that becomes another of the same names, in a random order.
pub fn history() -> impl Strategy<Value = History> {
    let order = vec(any::<u16>(), 40);
    (cluster(), cluster(), order, vec(1..4usize, 1..4)).prop_map(|(first, last, order, batches)| {
        let mut changes = difference(&first, &last);
        let mut keyed: Vec<_> = changes.drain(..).zip(order.into_iter().cycle()).collect();
        keyed.sort_by_key(|(_, key)| *key);
        History {
            first,
            changes: keyed.into_iter().map(|(change, _)| change).collect(),
            batches,
        }
    })
}

/// What makes one cluster into another.
fn difference(first: &Cluster, last: &Cluster) -> Vec<Change> {
    fn gone<K: Ord + Clone, V, W>(
        a: &BTreeMap<K, V>,
        b: &BTreeMap<K, V>,
        make: impl Fn(K, Option<W>) -> Change,
    ) -> Vec<Change> {
        a.keys()
            .filter(|key| !b.contains_key(key))
            .map(|key| make(key.clone(), None))
            .collect()
    }
    let mut all = gone(&first.namespaces, &last.namespaces, Change::Namespace);
    all.extend(gone(&first.pods, &last.pods, Change::Pod));
    all.extend(gone(&first.nodes, &last.nodes, Change::Node));
    all.extend(gone(&first.policies, &last.policies, Change::Policy));
    all.extend(gone(
        &first.address_sets,
        &last.address_sets,
        Change::AddressSet,
    ));
    all.extend(changes(last));
    all
}
