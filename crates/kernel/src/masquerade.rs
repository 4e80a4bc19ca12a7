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
//! One chain for the node and nothing for a pod: no rule can leak. Each change replaces chain and sets in one
//! transaction, so packets see the old rules or the new ones; connections keep the address they were given. The table
//! also holds the port mappings, see [`crate::ports`].
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

const CHAIN: &str = "postrouting";

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
        with_connection("apply masquerade", async |connection| {
            let chain = Chain::new(TABLE, CHAIN)?
                .family(Family::Inet)
                .base(BaseChain::nat(NatHook::Postrouting, Priority::SrcNat));
            let transaction = connection
                .transaction()
                .update_table(TABLE, Family::Inet, 0)
                .update_chain(chain)
                .flush_chain(TABLE, CHAIN, Family::Inet);
            let mut transaction = own_sets(&connection)
                .await?
                .iter()
                .fold(transaction, |transaction, set| {
                    transaction.del_set(TABLE, set, Family::Inet)
                });
            for family in [V4, V6] {
                transaction = self.add_family(transaction, &family)?;
            }
            transaction.commit(&connection).await
        })
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
        let [pods_name, inside_name] = set_names(family);
        let (pods_set, inside_set) = (set(pods_name.clone()), set(inside_name.clone()));
        let pods = elements(pods)?;
        let inside = elements(aggregate(inside, family))?;
        let rule = Rule::new(TABLE, CHAIN)
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

/// Whether the table is there, in the calling thread's network namespace.
///
/// # Errors
/// [`Error::Nftables`], [`Error::Privilege`].
pub fn is_present() -> Result<bool> {
    let ask = async |connection: Connection<Nftables>| -> nlink::Result<bool> {
        let tables = connection.list_tables_in(Family::Inet).await?;
        Ok(tables.iter().any(|table| table.name == TABLE))
    };
    with_connection("list nftables tables", ask)
}

/// Masquerade nothing any more; port mappings stay. Absent is fine.
///
/// # Errors
/// [`Error::Nftables`], [`Error::Privilege`].
pub fn disable() -> Result<()> {
    with_connection("switch masquerade off", async |connection| {
        let chains = if_any(connection.list_chains_in(TABLE, Family::Inet).await)?;
        let ours = |chain: &&nlink::netlink::nftables::ChainInfo| chain.name == CHAIN;
        if chains.iter().find(ours).is_none() {
            return Ok(());
        }
        let transaction = connection.transaction();
        if chains.len() == 1 {
            let transaction = transaction.del_table(TABLE, Family::Inet);
            return transaction.commit(&connection).await;
        }
        let sets = own_sets(&connection).await?;
        let transaction = transaction
            .flush_chain(TABLE, CHAIN, Family::Inet)
            .del_chain(TABLE, CHAIN, Family::Inet);
        let transaction = sets.iter().fold(transaction, |transaction, set| {
            transaction.del_set(TABLE, set, Family::Inet)
        });
        transaction.commit(&connection).await
    })
}

/// Remove the table, port mappings and all, from the calling thread's network namespace. Absent is fine.
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

fn set_names(family: &Ip) -> [String; 2] {
    ["pods", "inside"].map(|name| format!("{name}_{}", family.name))
}

/// The sets that are there.
async fn own_sets(connection: &Connection<Nftables>) -> nlink::Result<Vec<String>> {
    let names: Vec<String> = [V4, V6].iter().flat_map(set_names).collect();
    let sets = if_any(connection.list_sets_in(TABLE, Family::Inet).await)?;
    let ours = sets.into_iter().map(|set| set.name);
    Ok(ours.filter(|name| names.contains(name)).collect())
}

/// What is listed in a table; nothing if there is no such table.
pub(crate) fn if_any<T>(listed: nlink::Result<Vec<T>>) -> nlink::Result<Vec<T>> {
    match listed {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        other => other,
    }
}

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

fn commit(
    what: &'static str,
    transaction: impl FnOnce(&Connection<Nftables>) -> nlink::Result<Transaction> + Send,
) -> Result<()> {
    with_connection(what, async |connection| {
        transaction(&connection)?.commit(&connection).await?;
        Ok(())
    })
}

pub(crate) fn with_connection<T: Send>(
    what: &'static str,
    act: impl AsyncFnOnce(Connection<Nftables>) -> nlink::Result<T> + Send,
) -> Result<T> {
    in_runtime(what, async || act(Connection::<Nftables>::new()?).await)
}

/// On a thread of its own, which may be asked to run a runtime even when the caller already has one.
pub(crate) fn in_runtime<T: Send>(
    what: &'static str,
    act: impl AsyncFnOnce() -> nlink::Result<T> + Send,
) -> Result<T> {
    let run = || -> std::result::Result<T, Box<dyn std::error::Error + Send + Sync>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(runtime.block_on(act())?)
    };
    let result = std::thread::scope(|scope| {
        let thread = scope.spawn(run);
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    result.map_err(|source| Error::Nftables { what, source })
}
