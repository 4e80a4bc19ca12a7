//! Masquerade: pods' packets to the world outside leave with the node's address.
//!
//! ```text
//! table inet malha {
//!   set pods_v4   { type ipv4_addr; flags interval; elements = … }   # packets from here
//!   set inside_v4 { type ipv4_addr; flags interval; elements = … }   # to anywhere but here
//!   …_v6 likewise
//!   chain postrouting {
//!     type nat hook postrouting priority srcnat;
//!     oifname != "lo" ip  saddr @pods_v4 ip  daddr != @inside_v4 masquerade fully-random
//!     oifname != "lo" ip6 saddr @pods_v6 ip6 daddr != @inside_v6 masquerade fully-random
//!   }
//! }
//! ```
//! One table for the node and nothing for a pod: no rule can leak. Each change replaces the whole table in one
//! transaction, so packets see the old rules or the new ones; connections keep the address they were given.
//! `fully-random` spares two packets of one pod the race for one port (five seconds of lost DNS otherwise).
use ipnet::IpNet;
use nlink::netlink::nftables::{
    BaseChain, Chain, Family, NatHook, NatStatement, PacketField, Priority, Rule, Set, SetElement,
    SetKeyType, Transaction,
};
use nlink::netlink::{Connection, Nftables};

use crate::error::{Error, Result};

/// The name of the table.
pub const TABLE: &str = "malha";

/// Multicast is never masqueraded: its answers would go nowhere.
const MULTICAST: [&str; 2] = ["224.0.0.0/4", "ff00::/8"];

/// What to masquerade.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masquerade {
    /// Packets from these ranges: the cluster's pods.
    pub pods: Vec<IpNet>,
    /// Except to these: pods (those above need not be repeated) and nodes.
    pub inside: Vec<IpNet>,
}

impl Masquerade {
    /// Put it in force in the calling thread's network namespace, in place of what was. Again is fine.
    ///
    /// # Errors
    /// [`Error::Nftables`], [`Error::Privilege`]; then what was in force stays in force.
    pub fn apply(&self) -> Result<()> {
        let transaction = |connection: &Connection<Nftables>| -> nlink::Result<Transaction> {
            // "Add, delete, add" is how a table is replaced whether or not it is there, on every kernel.
            let mut transaction = connection
                .transaction()
                .update_table(TABLE, Family::Inet, 0)
                .del_table(TABLE, Family::Inet)
                .add_table(TABLE, Family::Inet)
                .add_chain(
                    Chain::new(TABLE, "postrouting")?
                        .family(Family::Inet)
                        .base(BaseChain::nat(NatHook::Postrouting, Priority::SrcNat)),
                );
            for family in [V4, V6] {
                transaction = self.add_family(transaction, &family)?;
            }
            Ok(transaction)
        };
        commit("apply masquerade", transaction)
    }

    fn add_family(&self, transaction: Transaction, family: &Ip) -> nlink::Result<Transaction> {
        let multicast = MULTICAST.iter().filter_map(|text| text.parse().ok());
        let inside = self
            .pods
            .iter()
            .chain(&self.inside)
            .copied()
            .chain(multicast);
        let pods = aggregate(self.pods.iter().copied(), family);
        if pods.is_empty() {
            return Ok(transaction);
        }
        let set = |name: String| {
            Set::new(TABLE, &name)
                .family(Family::Inet)
                .key_type(family.key.clone())
                .interval()
        };
        let (pods_name, inside_name) = (
            format!("pods_{}", family.name),
            format!("inside_{}", family.name),
        );
        let (pods_set, inside_set) = (set(pods_name.clone()), set(inside_name.clone()));
        let pods = elements(pods)?;
        let inside = elements(aggregate(inside, family))?;
        let rule = Rule::new(TABLE, "postrouting")
            .family(Family::Inet)
            .match_oif_not("lo")
            .match_in_set(family.source, &pods_name)
            .match_not_in_set(family.destination, &inside_name)
            .nat(NatStatement::masquerade().fully_random());
        Ok(transaction
            .add_set(pods_set.clone())
            .add_set_elements(&pods_set, &pods)
            .add_set(inside_set.clone())
            .add_set_elements(&inside_set, &inside)
            .add_rule(rule))
    }
}

/// Remove the table from the calling thread's network namespace. Absent is fine.
///
/// # Errors
/// [`Error::Nftables`], [`Error::Privilege`].
pub fn remove() -> Result<()> {
    commit("remove masquerade", |connection| {
        Ok(connection
            .transaction()
            .update_table(TABLE, Family::Inet, 0)
            .del_table(TABLE, Family::Inet))
    })
}

struct Ip {
    name: &'static str,
    v4: bool,
    key: SetKeyType,
    source: PacketField,
    destination: PacketField,
}

const V4: Ip = Ip {
    name: "v4",
    v4: true,
    key: SetKeyType::Ipv4Addr,
    source: PacketField::Ip4Saddr,
    destination: PacketField::Ip4Daddr,
};

const V6: Ip = Ip {
    name: "v6",
    v4: false,
    key: SetKeyType::Ipv6Addr,
    source: PacketField::Ip6Saddr,
    destination: PacketField::Ip6Daddr,
};

/// The family's ranges, those that another covers left out and neighbours joined: an interval set takes no overlap.
fn aggregate(ranges: impl Iterator<Item = IpNet>, family: &Ip) -> Vec<IpNet> {
    let ours: Vec<IpNet> = ranges
        .filter(|range| range.addr().is_ipv4() == family.v4)
        .collect();
    IpNet::aggregate(&ours)
}

fn elements(ranges: Vec<IpNet>) -> nlink::Result<Vec<SetElement>> {
    let element = |range| match range {
        IpNet::V4(range) => SetElement::ipv4_prefix(range.network(), range.prefix_len()),
        IpNet::V6(range) => SetElement::ipv6_prefix(range.network(), range.prefix_len()),
    };
    ranges.into_iter().map(element).collect()
}

/// On a thread of its own, which may be asked to run a runtime even when the caller already has one.
fn commit(
    what: &'static str,
    transaction: impl FnOnce(&Connection<Nftables>) -> nlink::Result<Transaction> + Send,
) -> Result<()> {
    let run = || -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let connection = Connection::<Nftables>::new()?;
            transaction(&connection)?.commit(&connection).await?;
            Ok(())
        })
    };
    let result = std::thread::scope(|scope| {
        let thread = scope.spawn(run);
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    result.map_err(|source| Error::Nftables { what, source })
}
