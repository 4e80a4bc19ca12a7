//! Random policies, now and then invalid ones.
use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule,
        NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use proptest::{collection::vec, option, prelude::*};

use super::generate::{ACCOUNTS, NAMESPACES, selector};
use crate::{
    api::{
        Action, AddressBlock, AddressSet, AddressSetSpec, ClusterNetworkPolicy,
        ClusterNetworkPolicySpec, ClusterPeer, ClusterRule, MalhaAction, MalhaPeer, MalhaPods,
        MalhaPolicy, MalhaPolicySpec, MalhaRule, MalhaSubject, NamespacedPod, PolicyTier, Port,
        PortRange, Protocol, ProtocolMatch, STAGED_ANNOTATION, Subject,
    },
    model::Policy,
};

const CIDRS: [&str; 12] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/29",
    "10.0.0.2/32",
    "172.20.0.0/16",
    "192.0.2.0/24",
    "192.0.2.128/25",
    "::/0",
    "fd00::/64",
    "fd00::2/128",
    "2001:db8::/32",
    "10.0.0.0/30",
];

fn maybe<T: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    option::of(value)
}

fn rarely() -> impl Strategy<Value = bool> {
    prop_oneof![19 => Just(false), 1 => Just(true)]
}

fn block() -> impl Strategy<Value = AddressBlock> {
    (
        prop_oneof![1 => Just(1usize), 2 => 0..CIDRS.len()],
        vec(0..CIDRS.len(), 0..3),
        rarely(),
    )
        .prop_map(|(cidr, except, broken)| {
            let outer: ipnet::IpNet = CIDRS[cidr].parse().expect("a range");
            let inside = |text: &&str| {
                let inner: ipnet::IpNet = text.parse().expect("a range");
                broken || (outer.contains(&inner) && inner != outer)
            };
            let except: Vec<String> = except
                .into_iter()
                .map(|i| CIDRS[i])
                .filter(inside)
                .map(str::to_owned)
                .collect();
            AddressBlock {
                cidr: CIDRS[cidr].into(),
                except: Some(except).filter(|list| !list.is_empty()),
            }
        })
}

fn metadata(name: String, staged: bool) -> ObjectMeta {
    let annotation = || BTreeMap::from([(STAGED_ANNOTATION.to_owned(), "true".to_owned())]);
    ObjectMeta {
        name: Some(name),
        annotations: staged.then(annotation),
        ..ObjectMeta::default()
    }
}

fn is_staged() -> impl Strategy<Value = bool> {
    prop_oneof![5 => Just(false), 1 => Just(true)]
}

fn np_peer() -> impl Strategy<Value = NetworkPolicyPeer> {
    let selectors =
        (maybe(selector()), maybe(selector())).prop_map(|(pod_selector, namespace_selector)| {
            NetworkPolicyPeer {
                pod_selector,
                namespace_selector,
                ip_block: None,
            }
        });
    let ip_block = block().prop_map(|b| NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: b.cidr,
            except: b.except,
        }),
        ..NetworkPolicyPeer::default()
    });
    prop_oneof![3 => selectors, 2 => ip_block]
}

fn np_port() -> impl Strategy<Value = NetworkPolicyPort> {
    let protocol = prop_oneof![
        8 => Just(None), 8 => Just(Some("TCP")), 8 => Just(Some("UDP")), 8 => Just(Some("SCTP")), 1 => Just(Some("ICMP")),
    ];
    let port = prop_oneof![
        Just(None),
        Just(Some(IntOrString::Int(80))),
        Just(Some(IntOrString::Int(53))),
        Just(Some(IntOrString::Int(79))),
        Just(Some(IntOrString::String("http".into()))),
        Just(Some(IntOrString::String("dns".into()))),
    ];
    let end = prop_oneof![6 => Just(None), 2 => Just(Some(81)), 1 => Just(Some(8080)), 1 => Just(Some(65535)), 1 => Just(Some(7))];
    (protocol, port, end, rarely()).prop_map(|(protocol, port, end, broken)| {
        let numbered = matches!(port, Some(IntOrString::Int(_)));
        NetworkPolicyPort {
            protocol: protocol.map(str::to_owned),
            end_port: end.filter(|_| numbered || broken),
            port,
        }
    })
}

fn np_rule() -> impl Strategy<
    Value = (
        Option<Vec<NetworkPolicyPeer>>,
        Option<Vec<NetworkPolicyPort>>,
    ),
> {
    (maybe(vec(np_peer(), 0..3)), maybe(vec(np_port(), 0..3)))
}

fn network_policy() -> impl Strategy<Value = Policy> {
    let types = prop_oneof![
        Just(None),
        Just(Some(vec![])),
        Just(Some(vec!["Ingress"])),
        Just(Some(vec!["Egress"])),
        Just(Some(vec!["Ingress", "Egress"])),
        Just(None),
    ];
    let rules = || maybe(vec(np_rule(), 0..3));
    let head = (0..NAMESPACES.len(), 0..3u8, is_staged());
    (head, selector(), types, rules(), rules()).prop_map(
        |((namespace, name, staged), pods, types, ingress, egress)| {
            let ingress = ingress.map(|list| {
                list.into_iter()
                    .map(|(from, ports)| NetworkPolicyIngressRule { from, ports })
                    .collect()
            });
            let egress = egress.map(|list| {
                list.into_iter()
                    .map(|(to, ports)| NetworkPolicyEgressRule { to, ports })
                    .collect()
            });
            Policy::Namespaced(NetworkPolicy {
                metadata: ObjectMeta {
                    namespace: Some(NAMESPACES[namespace].into()),
                    ..metadata(format!("np{name}"), staged)
                },
                spec: Some(NetworkPolicySpec {
                    pod_selector: Some(pods),
                    policy_types: types.map(|list| list.into_iter().map(str::to_owned).collect()),
                    ingress,
                    egress,
                }),
            })
        },
    )
}

fn protocols() -> impl Strategy<Value = Option<Vec<ProtocolMatch>>> {
    let port = prop_oneof![
        2 => Just(None),
        3 => Just(Some(Port { number: Some(80), range: None })),
        3 => Just(Some(Port { number: None, range: Some(PortRange { start: 79, end: 8080 }) })),
        1 => Just(Some(Port { number: Some(0), range: None })),
    ];
    let numbered = (0..3u8, port).prop_map(|(protocol, destination_port)| {
        let it = Some(Protocol { destination_port });
        match protocol {
            0 => ProtocolMatch {
                tcp: it,
                ..ProtocolMatch::default()
            },
            1 => ProtocolMatch {
                udp: it,
                ..ProtocolMatch::default()
            },
            _ => ProtocolMatch {
                sctp: it,
                ..ProtocolMatch::default()
            },
        }
    });
    let named = prop_oneof![Just("http"), Just("dns")].prop_map(|name| ProtocolMatch {
        destination_named_port: Some(name.into()),
        ..ProtocolMatch::default()
    });
    let one = prop_oneof![12 => numbered, 4 => named, 1 => Just(ProtocolMatch::default())];
    prop_oneof![6 => Just(None), 8 => vec(one, 1..3).prop_map(Some), 1 => Just(Some(Vec::new()))]
}

fn pods() -> impl Strategy<Value = NamespacedPod> {
    (selector(), selector()).prop_map(|(namespace_selector, pod_selector)| NamespacedPod {
        namespace_selector,
        pod_selector,
    })
}

fn cluster_rules(egress: bool) -> impl Strategy<Value = Option<Vec<ClusterRule>>> {
    let peer = prop_oneof![
        4 => selector().prop_map(|s| ClusterPeer { namespaces: Some(s), ..ClusterPeer::default() }),
        4 => pods().prop_map(|p| ClusterPeer { pods: Some(p), ..ClusterPeer::default() }),
        2 => selector().prop_map(move |s| match egress {
            true => ClusterPeer { nodes: Some(s), ..ClusterPeer::default() },
            false => ClusterPeer { namespaces: Some(s), ..ClusterPeer::default() },
        }),
        3 => vec(block(), 1..3).prop_map(move |list| match egress {
            true => ClusterPeer { networks: Some(list.into_iter().map(|b| b.cidr).collect()), ..ClusterPeer::default() },
            false => ClusterPeer { namespaces: Some(Default::default()), ..ClusterPeer::default() },
        }),
        1 => Just(ClusterPeer::default()),
        1 => Just(ClusterPeer { nodes: Some(Default::default()), ..ClusterPeer::default() }),
    ];
    let action = prop_oneof![Just(Action::Accept), Just(Action::Deny), Just(Action::Pass)];
    let peers = prop_oneof![15 => vec(peer, 1..3), 1 => Just(Vec::new())];
    let rule = (action, peers, protocols()).prop_map(|(action, peers, protocols)| ClusterRule {
        name: None,
        action,
        peers,
        protocols,
    });
    maybe(vec(rule, 0..4))
}

fn cluster_policy() -> impl Strategy<Value = Policy> {
    let tier = prop_oneof![Just(PolicyTier::Admin), Just(PolicyTier::Baseline)];
    let subject = prop_oneof![
        8 => selector().prop_map(|s| Subject { namespaces: Some(s), pods: None }),
        8 => pods().prop_map(|p| Subject { namespaces: None, pods: Some(p) }),
        1 => Just(Subject::default()),
    ];
    let head = (0..4u8, is_staged(), tier, 0..3i32);
    (head, subject, cluster_rules(false), cluster_rules(true)).prop_map(
        |((name, staged, tier, priority), subject, ingress, egress)| {
            Policy::Cluster(ClusterNetworkPolicy {
                metadata: metadata(format!("cnp{name}"), staged),
                spec: ClusterNetworkPolicySpec {
                    tier,
                    priority,
                    subject,
                    ingress,
                    egress,
                },
            })
        },
    )
}

fn malha_pods() -> impl Strategy<Value = MalhaPods> {
    let accounts = prop_oneof![
        4 => Just(None), 3 => (0..ACCOUNTS.len()).prop_map(|i| Some(vec![ACCOUNTS[i].to_owned()])),
        1 => Just(Some(Vec::new())),
    ];
    (pods(), accounts).prop_map(|(labels, service_accounts)| MalhaPods {
        labels,
        service_accounts,
    })
}

fn malha_rules() -> impl Strategy<Value = Option<Vec<MalhaRule>>> {
    let peer = prop_oneof![
        4 => malha_pods().prop_map(|p| MalhaPeer { pods: Some(p), ..MalhaPeer::default() }),
        2 => selector().prop_map(|s| MalhaPeer { nodes: Some(s), ..MalhaPeer::default() }),
        3 => vec(block(), 1..3).prop_map(|b| MalhaPeer { networks: Some(b), ..MalhaPeer::default() }),
        5 => prop_oneof![6 => Just("s0"), 6 => Just("s1"), 1 => Just("none")]
            .prop_map(|name| MalhaPeer { address_sets: Some(vec![name.into()]), ..MalhaPeer::default() }),
        1 => Just(MalhaPeer::default()),
    ];
    let peers = prop_oneof![4 => Just(None), 10 => vec(peer, 1..3).prop_map(Some), 1 => Just(Some(Vec::new()))];
    let action = prop_oneof![
        Just(MalhaAction::Allow),
        Just(MalhaAction::Deny),
        Just(MalhaAction::Pass)
    ];
    let rule =
        (action, peers, protocols(), any::<bool>()).prop_map(|(action, peers, protocols, log)| {
            MalhaRule {
                name: None,
                action,
                peers,
                protocols,
                log,
            }
        });
    maybe(vec(rule, 0..4))
}

fn malha_policy() -> impl Strategy<Value = Policy> {
    let subject = prop_oneof![
        8 => malha_pods().prop_map(|p| MalhaSubject { pods: Some(p), nodes: None }),
        6 => selector().prop_map(|s| MalhaSubject { pods: None, nodes: Some(s) }),
        1 => Just(MalhaSubject::default()),
    ];
    (
        (0..4u8, is_staged(), -1..2i32),
        subject,
        malha_rules(),
        malha_rules(),
    )
        .prop_map(|((name, staged, order), subject, ingress, egress)| {
            Policy::Malha(MalhaPolicy {
                metadata: metadata(format!("mp{name}"), false),
                spec: MalhaPolicySpec {
                    order,
                    staged,
                    subject,
                    ingress,
                    egress,
                },
            })
        })
}

pub fn policies() -> impl Strategy<Value = Vec<Policy>> {
    (
        vec(network_policy(), 0..5),
        vec(cluster_policy(), 0..4),
        vec(malha_policy(), 0..3),
    )
        .prop_map(|(a, b, c)| a.into_iter().chain(b).chain(c).collect())
}

pub fn address_sets() -> impl Strategy<Value = BTreeMap<String, AddressSet>> {
    vec(maybe(vec(block(), 0..3)), 2).prop_map(|list| {
        let named = list
            .into_iter()
            .enumerate()
            .filter_map(|(i, blocks)| Some((format!("s{i}"), blocks?)));
        named
            .map(|(name, blocks)| {
                let set = AddressSet {
                    metadata: metadata(name.clone(), false),
                    spec: AddressSetSpec { blocks },
                };
                (name, set)
            })
            .collect()
    })
}
