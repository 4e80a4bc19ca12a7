//! Port mappings: ports of the node that lead to ports of pods (Kubernetes' `hostPort`), in masquerade's table.
//!
//! ```text
//! table inet malha {
//!   map ports_v4    { type inet_proto . inet_service : ipv4_addr . inet_service }               # at every address
//!   map ports_at_v4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }   # at one address
//!   set callers_v4  { type ipv4_addr . ipv4_addr }   # pods that have mappings, twice
//!   …_v6 likewise
//!   chain ports_in   { type nat hook prerouting priority dstnat; fib daddr type local jump ports }
//!   chain ports_out  { type nat hook output priority dstnat; ip6 daddr ::1 return; fib daddr type local jump ports }
//!   chain ports      { dnat ip to ip daddr . meta l4proto . th dport map @ports_at_v4; … }
//!   chain ports_back { type nat hook postrouting priority srcnat; … masquerade }
//! }
//! ```
//! A mapping is one element, whatever else there is: no chain or rule for a pod. Nothing of this is there until the first
//! mapping is added, and it stays when the last is removed. Two kinds of client get the node's address, because the answer
//! would not find the way back through the node: a pod that calls itself (its two addresses are alike, which the set is
//! for: nftables cannot compare them), and the node's own processes at 127.0.0.1. The latter also need `route_localnet`
//! of the pod's link. IPv6 has no such setting: `::1` is left alone.
//!
//! UDP has no end of a connection, and its tracking entries live as long as the client sends. So an entry that has been
//! made before the mapping was, or that leads to a pod whose mapping is gone, is deleted.
use std::net::{IpAddr, SocketAddr};

use nlink::netlink::netfilter::{ConntrackFilter, IpProtocol};
use nlink::netlink::nftables::{
    BaseChain, Chain, CmpOp, Expr, Family, FibFlags, LookupExpr, MetaKey, NatHook, NatStatement,
    PacketField, PayloadBase, Priority, Register, Rule, Set, SetDataType, SetElement,
    SetElementData, SetKeyType, Transaction, Verdict,
};
use nlink::netlink::types::route::RouteType;
use nlink::netlink::{Connection, Netfilter, Nftables};

use crate::error::Result;
use crate::handle::Handle;
use crate::masquerade::{TABLE, if_any, in_runtime, with_connection};

/// UDP's protocol number.
const UDP: u8 = 17;

/// A port of the node that leads to a port of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortMapping {
    /// The node's address; None: all of them.
    pub address: Option<IpAddr>,
    /// IP protocol number: TCP, UDP or SCTP.
    pub protocol: u8,
    /// The node's port.
    pub port: u16,
    /// The pod's address, of the same family, and its port.
    pub target: SocketAddr,
}

/// Add mappings in the calling thread's network namespace, all or none. There already is fine; another one of the same
/// port at the same address is an error.
///
/// # Errors
/// [`crate::Error::Nftables`], [`crate::Error::Privilege`].
pub fn add(mappings: &[PortMapping]) -> Result<()> {
    with_connection("add port mappings", async |connection| {
        let add = |transaction| write(transaction, mappings, Transaction::add_set_elements);
        let first = add(connection.transaction()).commit(&connection).await;
        match first {
            Err(error) if error.is_not_found() => {
                let transaction = set_up(&connection).await?;
                add(transaction).commit(&connection).await
            }
            other => other,
        }
    })?;
    for mapping in mappings.iter().filter(|mapping| mapping.protocol == UDP) {
        forget_untranslated(mapping)?;
    }
    Ok(())
}

/// Remove mappings from the calling thread's network namespace. Absent is fine. A pod's are removed all together.
///
/// # Errors
/// [`crate::Error::Nftables`], [`crate::Error::Privilege`].
pub fn remove(mappings: &[PortMapping]) -> Result<()> {
    let present = list()?;
    let is_present = |mapping: &&PortMapping| present.contains(mapping);
    let there: Vec<PortMapping> = mappings.iter().filter(is_present).copied().collect();
    if !there.is_empty() {
        with_connection("remove port mappings", async |connection| {
            let transaction = write(
                connection.transaction(),
                &there,
                Transaction::del_set_elements,
            );
            transaction.commit(&connection).await
        })?;
    }
    for mapping in mappings.iter().filter(|mapping| mapping.protocol == UDP) {
        forget_translated(mapping)?;
    }
    Ok(())
}

/// Every mapping in the calling thread's network namespace.
///
/// # Errors
/// [`crate::Error::Nftables`], [`crate::Error::Privilege`].
pub fn list() -> Result<Vec<PortMapping>> {
    with_connection("list port mappings", async |connection| {
        let mut mappings = Vec::new();
        for family in [V4, V6] {
            for name in [family.ports(), family.ports_at()] {
                let elements = connection
                    .list_set_elements(TABLE, &name, Family::Inet)
                    .await;
                let elements = if_any(elements)?;
                mappings.extend(elements.iter().filter_map(|element| family.read(element)));
            }
        }
        mappings.sort();
        Ok(mappings)
    })
}

/// One family.
struct Ip {
    suffix: &'static str,
    family: Family,
    /// NFPROTO_*.
    number: u8,
    address: SetKeyType,
    /// Bytes of an address.
    length: usize,
    /// Where the destination address is in the header.
    destination: u32,
    fields: [PacketField; 2],
}

const V4: Ip = Ip {
    suffix: "v4",
    family: Family::Ip,
    number: 2,
    address: SetKeyType::Ipv4Addr,
    length: 4,
    destination: 16,
    fields: [PacketField::Ip4Saddr, PacketField::Ip4Daddr],
};

const V6: Ip = Ip {
    suffix: "v6",
    family: Family::Ip6,
    number: 10,
    address: SetKeyType::Ipv6Addr,
    length: 16,
    destination: 24,
    fields: [PacketField::Ip6Saddr, PacketField::Ip6Daddr],
};

/// Chains: the two that begin, the one that translates, the one that masquerades.
const IN: &str = "ports_in";
const OUT: &str = "ports_out";
const PORTS: &str = "ports";
const BACK: &str = "ports_back";

/// The first of the registers that hold an element's value; those before are for its key.
const VALUE: usize = 8;

impl Ip {
    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { V4 } else { V6 }
    }

    fn ports(&self) -> String {
        format!("ports_{}", self.suffix)
    }

    fn ports_at(&self) -> String {
        format!("ports_at_{}", self.suffix)
    }

    fn callers(&self) -> String {
        format!("callers_{}", self.suffix)
    }

    fn sets(&self) -> [(String, Set); 3] {
        let port = [SetKeyType::InetProto, SetKeyType::InetService];
        let port_at = [vec![self.address.clone()], port.to_vec()].concat();
        let value = vec![self.address.clone(), SetKeyType::InetService];
        let set = |name: &str, key| {
            Set::new(TABLE, name)
                .family(Family::Inet)
                .key_type(SetKeyType::Concat(key))
        };
        let map = |name: &str, key| {
            set(name, key).map(SetDataType::Value(SetKeyType::Concat(value.clone())))
        };
        let [ports, ports_at, callers] = [self.ports(), self.ports_at(), self.callers()];
        let twice = vec![self.address.clone(); 2];
        [
            (ports.clone(), map(&ports, port.to_vec())),
            (ports_at.clone(), map(&ports_at, port_at)),
            (callers.clone(), set(&callers, twice)),
        ]
    }

    /// `dnat ip to [ip daddr .] meta l4proto . th dport map @NAME`.
    fn translation(&self, name: String, at: bool) -> nlink::Result<Rule> {
        let words_of_address = self.length / 4;
        let words = if at { words_of_address } else { 0 };
        let guard = [
            Expr::Meta {
                dreg: word(0),
                key: MetaKey::NfProto,
            },
            Expr::Cmp {
                sreg: word(0),
                op: CmpOp::Eq,
                data: vec![self.number],
            },
        ];
        let address = at.then_some(Expr::Payload {
            dreg: word(0),
            base: PayloadBase::Network,
            offset: self.destination,
            len: self.length as u32,
        });
        let port = [
            Expr::Meta {
                dreg: word(words),
                key: MetaKey::L4Proto,
            },
            Expr::Payload {
                dreg: word(words + 1),
                base: PayloadBase::Transport,
                offset: 2,
                len: 2,
            },
            LookupExpr::new(name, word(0)).dreg(word(VALUE)).into(),
            self.destination_from(word(VALUE), word(VALUE + words_of_address))?,
        ];
        let all = guard.into_iter().chain(address).chain(port);
        Ok(all.fold(rule(PORTS), Rule::then))
    }

    /// `dnat` to what is in registers. The library makes one only from addresses, but lets it be changed.
    fn destination_from(&self, address: Register, port: Register) -> nlink::Result<Expr> {
        let any: IpAddr = match self.family {
            Family::Ip => std::net::Ipv4Addr::UNSPECIFIED.into(),
            _ => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let model = rule(PORTS).nat(NatStatement::dnat(any).port(1)).into_spec();
        let change = |expression| match expression {
            Expr::NatRegs(mut registers) => {
                registers.addr = Some((address, address));
                registers.proto = Some((port, port));
                Some(Expr::NatRegs(registers))
            }
            _ => None,
        };
        let found = model.lower(Family::Inet)?.into_iter().find_map(change);
        found.ok_or_else(|| std::io::Error::other("no dnat in a rule with dnat").into())
    }

    /// What an element says; None: it is none of ours.
    fn read(&self, element: &SetElement) -> Option<PortMapping> {
        let key = element.key();
        let at = key.len().checked_sub(8)?;
        let address = (at > 0).then(|| address_of(key.get(..at)?)).flatten();
        let Some(SetElementData::Value(value)) = element.data() else {
            return None;
        };
        let port = |bytes: &[u8], at: usize| {
            Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
        };
        Some(PortMapping {
            address,
            protocol: *key.get(at)?,
            port: port(key, at + 4)?,
            target: SocketAddr::new(
                address_of(value.get(..self.length)?)?,
                port(value, self.length)?,
            ),
        })
    }
}

fn word(number: usize) -> Register {
    Register::word(number).unwrap_or(Register::Verdict)
}

fn rule(chain: &str) -> Rule {
    Rule::new(TABLE, chain).family(Family::Inet)
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn part(address: IpAddr) -> SetElement {
    match address {
        IpAddr::V4(address) => SetElement::ipv4(address),
        IpAddr::V6(address) => SetElement::ipv6(address),
    }
}

/// Elements of all mappings, to be added or deleted.
fn write(
    mut transaction: Transaction,
    mappings: &[PortMapping],
    act: impl Fn(Transaction, &Set, &[SetElement]) -> Transaction,
) -> Transaction {
    for family in [V4, V6] {
        let ours = mappings
            .iter()
            .filter(|mapping| Ip::of(mapping.target.ip()).number == family.number);
        let (mut anywhere, mut at, mut callers) = (Vec::new(), Vec::new(), Vec::new());
        for mapping in ours {
            let port = [
                SetElement::inet_proto(mapping.protocol),
                SetElement::port(mapping.port),
            ];
            let target = mapping.target;
            let value = SetElement::concat([part(target.ip()), SetElement::port(target.port())]);
            match mapping.address {
                None => anywhere.push(SetElement::concat(port).value(value)),
                Some(address) => {
                    let key = [part(address)].into_iter().chain(port);
                    at.push(SetElement::concat(key).value(value));
                }
            }
            let caller = SetElement::concat([part(target.ip()), part(target.ip())]);
            if !callers.contains(&caller) {
                callers.push(caller);
            }
        }
        let elements = [anywhere, at, callers];
        for ((_, set), elements) in family.sets().iter().zip(&elements) {
            if !elements.is_empty() {
                transaction = act(transaction, set, elements);
            }
        }
    }
    transaction
}

/// Everything but the elements, whatever of it is there.
async fn set_up(connection: &Connection<Nftables>) -> nlink::Result<Transaction> {
    let present = if_any(connection.list_sets_in(TABLE, Family::Inet).await)?;
    let is_there = |name: &str| present.iter().any(|set| set.name == name);
    let mut transaction = connection
        .transaction()
        .update_table(TABLE, Family::Inet, 0);
    for (name, set) in [V4, V6].iter().flat_map(Ip::sets) {
        if !is_there(&name) {
            transaction = transaction.add_set(set);
        }
    }
    let base = |name, hook, priority| -> nlink::Result<Chain> {
        let chain = Chain::new(TABLE, name)?.family(Family::Inet);
        Ok(chain.base(BaseChain::nat(hook, priority)))
    };
    let chains = [
        Chain::new(TABLE, PORTS)?.family(Family::Inet),
        base(IN, NatHook::Prerouting, Priority::DstNat)?,
        base(OUT, NatHook::Output, Priority::DstNat)?,
        base(BACK, NatHook::Postrouting, Priority::SrcNat)?,
    ];
    for (name, chain) in [PORTS, IN, OUT, BACK].into_iter().zip(chains) {
        transaction = transaction
            .update_chain(chain)
            .flush_chain(TABLE, name, Family::Inet);
    }
    Ok(rules()?
        .into_iter()
        .fold(transaction, Transaction::add_rule))
}

fn rules() -> nlink::Result<Vec<Rule>> {
    let local = |chain| {
        rule(chain)
            .match_fib_type(FibFlags::DADDR, RouteType::Local)
            .try_jump(PORTS)
    };
    let masquerade = || NatStatement::masquerade().fully_random();
    let mut rules = vec![
        local(IN)?,
        rule(OUT)
            .match_daddr(std::net::Ipv6Addr::LOCALHOST.into(), 128)
            .then(Verdict::Return),
        local(OUT)?,
    ];
    for family in [V4, V6] {
        rules.push(family.translation(family.ports_at(), true)?);
        rules.push(family.translation(family.ports(), false)?);
        let itself = rule(BACK).match_concat_in_set(&family.fields, &family.callers());
        rules.push(itself.nat(masquerade()));
    }
    let loopback = rule(BACK)
        .match_saddr(std::net::Ipv4Addr::new(127, 0, 0, 0).into(), 8)
        .match_oif_not("lo");
    rules.push(loopback.nat(masquerade()));
    Ok(rules)
}

fn udp_to(mapping: &PortMapping) -> ConntrackFilter {
    let filter = ConntrackFilter::new()
        .proto(IpProtocol::Udp)
        .orig_dst_port(mapping.port);
    match mapping.address {
        Some(address) => filter.orig_dst(address),
        None => filter,
    }
}

/// Entries of clients that sent before the mapping was there.
fn forget_untranslated(mapping: &PortMapping) -> Result<()> {
    let node: Vec<IpAddr> = Handle::new()?
        .addresses()?
        .iter()
        .map(|address| address.address.addr())
        .collect();
    with_tracking(async |connection| {
        for entry in connection.get_conntrack_matching(&udp_to(mapping)).await? {
            let to_node = entry
                .orig
                .dst_ip
                .is_some_and(|address| node.contains(&address));
            if to_node && entry.orig.dst_ip == entry.reply.src_ip {
                if_there(connection.del_conntrack_entry(&entry).await)?;
            }
        }
        Ok(())
    })
}

/// Entries that lead to the pod.
fn forget_translated(mapping: &PortMapping) -> Result<()> {
    let filter = udp_to(mapping).reply_src(mapping.target.ip());
    with_tracking(async |connection| connection.del_conntrack_matching(&filter).await.map(drop))
}

fn if_there(deleted: nlink::Result<()>) -> nlink::Result<()> {
    match deleted {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

fn with_tracking(
    act: impl AsyncFnOnce(Connection<Netfilter>) -> nlink::Result<()> + Send,
) -> Result<()> {
    in_runtime("forget tracked connections", async || {
        act(Connection::<Netfilter>::new()?).await
    })
}
