//! What translates on a node besides us: rules as kube-proxy and port mappers write them, and a look at what the stack
//! forwards.
use std::net::{IpAddr, SocketAddr};

use super::{Namespace, Node};

/// The rules of one node.
#[derive(Default)]
pub struct Rules {
    translations: Vec<(Match, SocketAddr)>,
}

/// Which packets, and whether they get the node's address as source, as kube-proxy marks them.
#[derive(Clone, Copy)]
pub struct Match {
    /// The address and port that clients ask for.
    pub to: SocketAddr,
    /// Whose packets are masqueraded.
    pub masquerade: From,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum From {
    Nobody,
    Anybody,
    /// The backend itself.
    Backend,
}

impl Rules {
    /// A service: only packets that the backend sends to itself are masqueraded.
    pub fn service(self, to: SocketAddr, backend: SocketAddr) -> Self {
        self.with(to, backend, From::Backend)
    }

    pub fn with(mut self, to: SocketAddr, backend: SocketAddr, masquerade: From) -> Self {
        self.translations.push((Match { to, masquerade }, backend));
        self
    }

    /// Put them in force, in place of earlier ones. `extra` goes into postrouting.
    pub fn apply(&self, node: &Node, extra: &str) {
        let rules: String = self.translations.iter().map(translation).collect();
        // As kube-proxy does, packets that connection tracking cannot place are dropped: a stack that sees one half of a
        // flow would be found out.
        let text = format!(
            "table inet proxy {{}}
             delete table inet proxy
             table inet proxy {{
               chain services {{
                 {rules}
               }}
               chain prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
               chain output {{ type nat hook output priority -100; jump services; }}
               chain postrouting {{
                 type nat hook postrouting priority srcnat;
                 meta mark & 0x4000 == 0x4000 masquerade fully-random
                 {extra}
               }}
               chain forward {{
                 type filter hook forward priority filter;
                 ct state invalid counter drop
                 meta l4proto {{ tcp, udp }} counter
               }}
             }}"
        );
        let path = std::env::temp_dir().join(format!(
            "malha-rules-{}-{}",
            std::process::id(),
            node.number
        ));
        std::fs::write(&path, text).unwrap();
        node.namespace
            .sh(&format!("nft -f {0}; rm {0}", path.display()));
    }
}

fn translation((what, backend): &(Match, SocketAddr)) -> String {
    let (to, port) = (what.to.ip(), what.to.port());
    let family = if to.is_ipv4() { "ip" } else { "ip6" };
    let condition = format!("{family} daddr {to} meta l4proto {{ tcp, udp }} th dport {port}");
    let mark = match what.masquerade {
        From::Nobody => String::new(),
        From::Anybody => format!("{condition} meta mark set 0x4000\n"),
        From::Backend => format!(
            "{condition} {family} saddr {} meta mark set 0x4000\n",
            backend.ip()
        ),
    };
    format!("{mark}{condition} dnat {family} to {backend}\n")
}

/// TCP and UDP packets that the node's stack has forwarded.
pub fn forwarded(node: &Node) -> u64 {
    counter(node, "th")
}

/// Packets that connection tracking could not place.
pub fn invalid(node: &Node) -> u64 {
    counter(node, "invalid")
}

fn counter(node: &Node, which: &str) -> u64 {
    let text = node.namespace.sh("nft list chain inet proxy forward");
    let line = match which {
        "invalid" => text.lines().find(|line| line.contains("ct state invalid")),
        _ => text.lines().find(|line| line.contains("l4proto")),
    };
    let mut words = line.unwrap_or_else(|| panic!("{text}")).split_whitespace();
    words.find(|word| *word == "packets").unwrap();
    words.next().unwrap().parse().unwrap()
}

/// A host beyond a node, on a link of its own.
pub struct Outside {
    pub namespace: Namespace,
    /// Its addresses.
    pub addresses: [IpAddr; 2],
    /// The node's addresses on the link.
    pub node: [IpAddr; 2],
}

impl Outside {
    pub fn new(node: &Node) -> Self {
        let (namespace, n) = (Namespace::new(), node.number);
        let parse = |text: String| text.parse::<IpAddr>().unwrap();
        let address = |host: u8| {
            [
                parse(format!("192.0.{n}.{host}")),
                parse(format!("2001:db8:{n}::{host}")),
            ]
        };
        let (addresses, of_node) = (address(1), address(2));
        node.namespace.sh(&format!(
            "ip link add eth1 type veth peer name eth0 netns {}
             ip addr add {}/24 dev eth1; ip addr add {}/64 dev eth1 nodad; ip link set eth1 up",
            namespace.path(),
            of_node[0],
            of_node[1],
        ));
        namespace.sh(&format!(
            "ip addr add {}/24 dev eth0; ip addr add {}/64 dev eth0 nodad; ip link set eth0 up
             ip route add default via {}; ip route add default via {}",
            addresses[0], addresses[1], of_node[0], of_node[1],
        ));
        node.namespace
            .enter(|| node.datapath.attach_uplink("eth1").unwrap());
        for address in of_node {
            super::eventually("the outside sees its node", || namespace.pings(address));
        }
        Self {
            namespace,
            addresses,
            node: of_node,
        }
    }
}
