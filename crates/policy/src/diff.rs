//! What a change of policies means: who gains and who loses access.
//!
//! Asks the oracle before and after, for every pair of ends and for every span of ports that any policy tells apart.
//! Pods that no policy can tell apart are asked once.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use crate::{
    model::{Cluster, Flow, Labels, NamedPort, Pod, Transport},
    oracle::{self, View},
    read::{self, PortMatch, Program, Token},
};

/// Addresses that stand for all that no policy mentions (RFC 5737, RFC 3849).
const ELSEWHERE: [&str; 2] = ["203.0.113.1", "2001:db8::1"];
/// An IP protocol number that stands for those without ports: ICMP.
const WITHOUT_PORTS: u8 = 1;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Who sends; pods that are alike are one.
    pub source: String,
    /// Who receives.
    pub destination: String,
    /// The protocol; absent: those without ports.
    pub protocol: Option<Transport>,
    /// The ports, both ends included.
    pub ports: (u16, u16),
    /// It passes now and did not before; or the reverse.
    pub gained: bool,
}

/// An end to ask for.
struct End {
    name: String,
    addresses: Vec<IpAddr>,
    /// Another that is alike, to ask how they talk to each other.
    twin: Option<Vec<IpAddr>>,
    ports: Vec<NamedPort>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.gained { "gains" } else { "loses" };
        write!(f, "{word}  {} -> {}  ", self.source, self.destination)?;
        match (self.protocol, self.ports) {
            (None, _) => f.write_str("ICMP and others without ports"),
            (Some(protocol), (0 | 1, u16::MAX)) => write!(f, "{protocol}, every port"),
            (Some(protocol), (first, last)) if first == last => write!(f, "{first}/{protocol}"),
            (Some(protocol), (first, last)) => write!(f, "{first}-{last}/{protocol}"),
        }
    }
}

/// The differences between two policy sets. The clusters should have the same pods, nodes and namespaces; those of
/// `after` are asked for.
pub fn diff(before: &Cluster, after: &Cluster) -> Vec<Difference> {
    let programs: Vec<Program> = [before, after]
        .into_iter()
        .flat_map(|cluster| {
            cluster
                .policies
                .values()
                .map(|policy| read::read(policy, &cluster.address_sets).0)
        })
        .collect();
    let ends = ends(after, &programs);
    let mut found = BTreeSet::new();
    for source in &ends {
        for destination in &ends {
            let same = std::ptr::eq(source, destination);
            let to = match (same, &source.twin) {
                (true, None) => continue,
                (true, Some(twin)) => twin,
                (false, _) => &destination.addresses,
            };
            pair(
                before,
                after,
                (source, destination, to),
                &programs,
                &mut found,
            );
        }
    }
    found.into_iter().collect()
}

fn pair(
    before: &Cluster,
    after: &Cluster,
    (source, destination, to): (&End, &End, &[IpAddr]),
    programs: &[Program],
    found: &mut BTreeSet<Difference>,
) {
    for from in &source.addresses {
        let Some(to) = to.iter().find(|to| to.is_ipv4() == from.is_ipv4()) else {
            continue;
        };
        for protocol in Transport::ALL.map(Some).into_iter().chain([None]) {
            let mut open: Option<Difference> = None;
            for (first, last) in spans(protocol, &destination.ports, programs) {
                let flow = Flow {
                    source: *from,
                    destination: *to,
                    protocol: protocol.map_or(WITHOUT_PORTS, Transport::number),
                    port: first,
                };
                let allowed =
                    |cluster| oracle::verdict(cluster, &flow, View::Enforced).is_allowed();
                let (old, new) = (allowed(before), allowed(after));
                if let Some(last_one) = &mut open
                    && old != new
                    && last_one.gained == new
                {
                    last_one.ports.1 = last;
                    continue;
                }
                found.extend(open.take());
                open = (old != new).then(|| Difference {
                    source: source.name.clone(),
                    destination: destination.name.clone(),
                    protocol,
                    ports: (first, last),
                    gained: new,
                });
            }
            found.extend(open);
        }
    }
}

/// The ports of a protocol, cut wherever a rule may tell them apart.
fn spans(
    protocol: Option<Transport>,
    named: &[NamedPort],
    programs: &[Program],
) -> Vec<(u16, u16)> {
    let Some(protocol) = protocol else {
        return vec![(0, 0)];
    };
    let mut starts = BTreeSet::from([1u16]);
    let mut cut = |first: u16, last: u16| {
        starts.extend([first.max(1)]);
        starts.extend(last.checked_add(1));
    };
    let rules = programs
        .iter()
        .flat_map(|p| p.ingress.iter().chain(&p.egress).flatten());
    for port in rules.filter_map(|rule| rule.ports.as_ref()).flatten() {
        match port {
            PortMatch::Range {
                protocol: its,
                first,
                last,
            } if *its == protocol => cut(*first, *last),
            PortMatch::Range { .. } | PortMatch::Named { .. } => {}
        }
    }
    named
        .iter()
        .filter(|n| n.protocol == protocol)
        .for_each(|n| cut(n.port, n.port));
    let starts: Vec<u16> = starts.into_iter().collect();
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
    starts.iter().copied().zip(ends).collect()
}

fn ends(cluster: &Cluster, programs: &[Program]) -> Vec<End> {
    let mut alike: BTreeMap<(&str, &Labels, &str, &[NamedPort]), Vec<&Pod>> = BTreeMap::new();
    for pod in cluster
        .pods
        .values()
        .filter(|pod| !pod.host_network && !pod.addresses.is_empty())
    {
        let key = (
            pod.namespace.as_str(),
            &pod.labels,
            pod.service_account.as_str(),
            pod.ports.as_slice(),
        );
        alike.entry(key).or_default().push(pod);
    }
    let pods = alike.into_values().map(|pods| End {
        name: match pods.len() {
            1 => format!("{}/{}", pods[0].namespace, pods[0].name),
            several => format!(
                "{}/{} and {} alike",
                pods[0].namespace,
                pods[0].name,
                several - 1
            ),
        },
        addresses: pods[0].addresses.clone(),
        twin: pods.get(1).map(|pod| pod.addresses.clone()),
        ports: pods[0].ports.clone(),
    });
    let nodes = cluster.nodes.values().map(|node| End {
        name: format!("node {}", node.name),
        addresses: node.addresses.clone(),
        twin: None,
        ports: Vec::new(),
    });
    pods.chain(nodes).chain(world(cluster, programs)).collect()
}

/// An address for each block that a policy mentions, and one for all others.
fn world(cluster: &Cluster, programs: &[Program]) -> Vec<End> {
    let rules = programs
        .iter()
        .flat_map(|p| p.ingress.iter().chain(&p.egress).flatten());
    let tokens = rules.filter_map(|rule| rule.peers.as_ref()).flatten();
    let prefixes: BTreeSet<_> = tokens
        .filter_map(|token| match token {
            Token::Block(block) => Some(block.boundaries()),
            _ => None,
        })
        .flatten()
        .collect();
    let inside = prefixes.into_iter().filter_map(|prefix| {
        let address = prefix
            .hosts()
            .take(64)
            .find(|a| oracle::party(cluster, *a) == oracle::Party::World)?;
        Some((format!("{address} (of {prefix})"), address))
    });
    let elsewhere = ELSEWHERE
        .into_iter()
        .filter_map(|text| Some((format!("{text} (elsewhere)"), text.parse().ok()?)));
    let end = |(name, address)| End {
        name,
        addresses: vec![address],
        twin: None,
        ports: Vec::new(),
    };
    inside.chain(elsewhere).map(end).collect()
}
