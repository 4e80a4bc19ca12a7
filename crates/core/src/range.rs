//! The pod ranges of nodes: each node gets one subnet of every cluster range (`Node.spec.podCIDRs`).
//!
//! A cluster range is cut into slots of the per-node prefix length. The allocator only remembers which slots are
//! taken, so it is rebuilt at any time from the nodes that exist, whatever made their ranges: a range of another
//! size, left over from another configuration, takes every slot it touches. New slots are searched after the last
//! one given, so that a deleted node's range is used again as late as possible and stale routes do no harm.
//!
//! Both families are one code path: an address is its distance from the start of the cluster range.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use ipnet::IpNet;

/// Prefix length of a node's IPv4 range unless told otherwise (kubeadm's default).
pub const DEFAULT_NODE_PREFIX_V4: u8 = 24;
/// Prefix length of a node's IPv6 range unless told otherwise (kubeadm's default).
pub const DEFAULT_NODE_PREFIX_V6: u8 = 64;

/// One cluster range and how large a piece of it every node gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterRange {
    /// The whole range.
    pub cluster: IpNet,
    /// Prefix length of one node's piece.
    pub node_prefix: u8,
}

impl ClusterRange {
    /// A cluster range with its family's default prefix length per node.
    pub fn new(cluster: IpNet) -> Self {
        let node_prefix = match cluster {
            IpNet::V4(_) => DEFAULT_NODE_PREFIX_V4,
            IpNet::V6(_) => DEFAULT_NODE_PREFIX_V6,
        };
        Self {
            cluster,
            node_prefix,
        }
    }

    /// How many nodes fit; saturates.
    pub fn capacity(&self) -> u128 {
        let bits = u32::from(self.node_prefix.saturating_sub(self.cluster.prefix_len()));
        1u128.checked_shl(bits).unwrap_or(u128::MAX)
    }
}

/// Why ranges cannot be used or given out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Configuration without any range.
    #[error("no pod range is configured: give one range per address family")]
    NoRange,
    /// Two ranges of one family.
    #[error(
        "pod ranges {0} and {1} are of the same family: give at most one IPv4 and one IPv6 range"
    )]
    SameFamily(IpNet, IpNet),
    /// The per-node prefix does not fit into the cluster range.
    #[error(
        "pod range {cluster} cannot be cut into /{node_prefix} ranges for nodes: the prefix length per node must be \
         between {} and {max}", .cluster.prefix_len()
    )]
    Prefix {
        /// The cluster range.
        cluster: IpNet,
        /// The per-node prefix length asked for.
        node_prefix: u8,
        /// Longest prefix length that leaves room for pods.
        max: u8,
    },
    /// Two named ranges share addresses.
    #[error(
        "the {first_name} range {first} overlaps the {second_name} range {second}: choose ranges that share no address"
    )]
    Overlap {
        /// What the first range is for.
        first_name: String,
        /// First range.
        first: IpNet,
        /// What the second range is for.
        second_name: String,
        /// Second range.
        second: IpNet,
    },
    /// Every slot is taken.
    #[error(
        "no free /{node_prefix} range is left in the pod range {cluster}: it fits {capacity} nodes and all are taken; \
         delete nodes that are gone, or configure a larger pod range"
    )]
    Exhausted {
        /// The range that is full.
        cluster: IpNet,
        /// Its prefix length per node.
        node_prefix: u8,
        /// How many nodes fit.
        capacity: u128,
    },
}

/// Allocator of node ranges over at most one cluster range per family.
#[derive(Clone, Debug)]
pub struct NodeRanges {
    families: Vec<FamilySlots>,
}

impl NodeRanges {
    /// An allocator with every slot free. The order of `ranges` is the order of every node's ranges.
    ///
    /// # Errors
    /// When there is no range, two are of one family, or a prefix length does not fit.
    pub fn new(ranges: &[ClusterRange]) -> Result<Self, RangeError> {
        if ranges.is_empty() {
            return Err(RangeError::NoRange);
        }
        let mut families: Vec<FamilySlots> = Vec::with_capacity(ranges.len());
        for range in ranges {
            let slots = FamilySlots::new(*range)?;
            let same = |f: &&FamilySlots| {
                f.range.cluster.addr().is_ipv4() == range.cluster.addr().is_ipv4()
            };
            if let Some(other) = families.iter().find(same) {
                return Err(RangeError::SameFamily(other.range.cluster, range.cluster));
            }
            families.push(slots);
        }
        Ok(Self { families })
    }

    /// How many nodes fit: the smallest family decides.
    pub fn capacity(&self) -> u128 {
        self.families
            .iter()
            .map(|f| f.range.capacity())
            .min()
            .unwrap_or(0)
    }

    /// The cluster ranges, in the order given.
    pub fn clusters(&self) -> impl Iterator<Item = &ClusterRange> {
        self.families.iter().map(|f| &f.range)
    }

    /// Marks a range that a node has. Returns false when part of it was taken already or when it lies outside of
    /// every cluster range (so nothing of it can be given out anyway).
    pub fn occupy(&mut self, range: IpNet) -> bool {
        self.families
            .iter_mut()
            .find_map(|f| f.occupy(range))
            .unwrap_or(false)
    }

    /// Gives back a range that [`occupy`](Self::occupy) or [`allocate`](Self::allocate) took. Unknown ranges are ignored.
    pub fn release(&mut self, range: IpNet) {
        self.families.iter_mut().for_each(|f| f.release(range));
    }

    /// Takes one free range of every family.
    ///
    /// # Errors
    /// [`RangeError::Exhausted`] when any family is full; then nothing is taken.
    pub fn allocate(&mut self) -> Result<Vec<IpNet>, RangeError> {
        let found: Vec<u128> = self
            .families
            .iter()
            .map(FamilySlots::next_free)
            .collect::<Result<_, _>>()?;
        Ok(self
            .families
            .iter_mut()
            .zip(found)
            .map(|(family, slot)| family.take(slot))
            .collect())
    }
}

/// Checks that no two of the named ranges share an address.
///
/// # Errors
/// [`RangeError::Overlap`] names the first pair that does.
pub fn check_disjoint(named: &[(&str, IpNet)]) -> Result<(), RangeError> {
    for (index, (first_name, first)) in named.iter().enumerate() {
        for (second_name, second) in &named[index + 1..] {
            if overlaps(*first, *second) {
                return Err(RangeError::Overlap {
                    first_name: (*first_name).to_owned(),
                    first: *first,
                    second_name: (*second_name).to_owned(),
                    second: *second,
                });
            }
        }
    }
    Ok(())
}

/// Whether two ranges share an address. Ranges of different families never do.
pub fn overlaps(a: IpNet, b: IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The slots of one cluster range. `taken` maps the first slot of a run to its last.
#[derive(Clone)]
struct FamilySlots {
    range: ClusterRange,
    taken: BTreeMap<u128, u128>,
    /// Where the search for a free slot starts.
    cursor: u128,
}

impl FamilySlots {
    fn new(range: ClusterRange) -> Result<Self, RangeError> {
        let range = ClusterRange {
            cluster: range.cluster.trunc(),
            ..range
        };
        // A node needs room for a pod besides the network's own address.
        let max = range.cluster.max_prefix_len() - 2;
        if range.node_prefix < range.cluster.prefix_len() || range.node_prefix > max {
            return Err(RangeError::Prefix {
                cluster: range.cluster,
                node_prefix: range.node_prefix,
                max,
            });
        }
        Ok(Self {
            range,
            taken: BTreeMap::new(),
            cursor: 0,
        })
    }

    /// First and last slot that `range` touches, when it lies in this cluster range or covers it.
    fn slots_of(&self, range: IpNet) -> Option<(u128, u128)> {
        if !overlaps(self.range.cluster, range) {
            return None;
        }
        if range.prefix_len() <= self.range.cluster.prefix_len() {
            return Some((0, self.range.capacity() - 1));
        }
        let shift = u32::from(self.range.cluster.max_prefix_len() - self.range.node_prefix);
        let base = number(self.range.cluster.network());
        let first = (number(range.network()) - base) >> shift;
        let last = (number(range.broadcast()) - base) >> shift;
        Some((first, last))
    }

    fn occupy(&mut self, range: IpNet) -> Option<bool> {
        let (first, last) = self.slots_of(range)?;
        let clash = self
            .taken
            .range(..=last)
            .next_back()
            .is_some_and(|(_, end)| *end >= first);
        let end = self.taken.get(&first).map_or(last, |end| (*end).max(last));
        self.taken.insert(first, end);
        self.cursor = self.cursor.max(last + 1);
        Some(!clash)
    }

    fn release(&mut self, range: IpNet) {
        if let Some((first, last)) = self.slots_of(range)
            && self.taken.get(&first) == Some(&last)
        {
            self.taken.remove(&first);
        }
    }

    /// The first free slot at or after the cursor, else from the start.
    fn next_free(&self) -> Result<u128, RangeError> {
        let capacity = self.range.capacity();
        let start = if self.cursor < capacity {
            self.cursor
        } else {
            0
        };
        let found = self.free_from(start).filter(|slot| *slot < capacity);
        let found = found.or_else(|| self.free_from(0).filter(|slot| *slot < start));
        found.ok_or(RangeError::Exhausted {
            cluster: self.range.cluster,
            node_prefix: self.range.node_prefix,
            capacity,
        })
    }

    /// The first free slot at or after `from`, which may lie beyond the range.
    fn free_from(&self, from: u128) -> Option<u128> {
        let mut slot = from;
        // Runs that start before may reach over `slot`: they are few, and sorted by their start.
        for (first, last) in &self.taken {
            if *first > slot {
                break;
            }
            if *last >= slot {
                slot = last.checked_add(1)?;
            }
        }
        Some(slot)
    }

    fn take(&mut self, slot: u128) -> IpNet {
        self.taken.insert(slot, slot);
        self.cursor = slot + 1;
        let shift = u32::from(self.range.cluster.max_prefix_len() - self.range.node_prefix);
        let address = number(self.range.cluster.network()) + (slot << shift);
        subnet(address, &self.range)
    }
}

impl fmt::Debug for FamilySlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{} taken {:?} cursor {}",
            self.range.cluster, self.range.node_prefix, self.taken, self.cursor
        )
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The node range that starts at `address` (inside the cluster range, so the number fits its family).
fn subnet(address: u128, range: &ClusterRange) -> IpNet {
    let address: IpAddr = match range.cluster {
        IpNet::V4(_) => IpAddr::V4((address as u32).into()),
        IpNet::V6(_) => IpAddr::V6(address.into()),
    };
    IpNet::new_assert(address, range.node_prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a range")
    }

    fn ranges(list: &[(&str, u8)]) -> NodeRanges {
        let list: Vec<_> = list
            .iter()
            .map(|(c, p)| ClusterRange {
                cluster: net(c),
                node_prefix: *p,
            })
            .collect();
        NodeRanges::new(&list).expect("valid ranges")
    }

    #[test]
    fn gives_ranges_of_both_families_in_order() {
        let mut r = ranges(&[("10.244.0.0/16", 24), ("fd00:10:244::/56", 64)]);
        assert_eq!(r.capacity(), 256);
        assert_eq!(
            r.allocate(),
            Ok(vec![net("10.244.0.0/24"), net("fd00:10:244::/64")])
        );
        assert_eq!(
            r.allocate(),
            Ok(vec![net("10.244.1.0/24"), net("fd00:10:244:1::/64")])
        );
    }

    #[test]
    fn a_deleted_nodes_range_is_used_again_last() {
        let mut r = ranges(&[("10.0.0.0/22", 24)]);
        let first = r.allocate().expect("free")[0];
        r.release(first);
        let mut seen: Vec<_> = (0..4).map(|_| r.allocate().expect("free")[0]).collect();
        assert_eq!(seen.pop(), Some(first));
    }

    #[test]
    fn exhaustion_says_how_many_fit() {
        let mut r = ranges(&[("10.0.0.0/23", 24), ("fd00::/56", 64)]);
        r.allocate().expect("first");
        r.allocate().expect("second");
        let text = r.allocate().expect_err("full").to_string();
        assert!(
            text.contains("10.0.0.0/23") && text.contains("fits 2 nodes"),
            "{text}"
        );
    }

    #[test]
    fn a_full_family_takes_nothing_of_the_other() {
        let mut r = ranges(&[("fd00::/56", 64), ("10.0.0.0/24", 24)]);
        r.allocate().expect("first");
        r.allocate().expect_err("full");
        r.release(net("10.0.0.0/24"));
        assert_eq!(
            r.allocate(),
            Ok(vec![net("fd00:0:0:1::/64"), net("10.0.0.0/24")])
        );
    }

    #[test]
    fn foreign_sizes_take_every_slot_they_touch() {
        let mut r = ranges(&[("10.0.0.0/22", 24)]);
        assert!(r.occupy(net("10.0.0.0/23")));
        assert!(r.occupy(net("10.0.2.16/28")));
        assert!(!r.occupy(net("10.0.1.0/24")), "overlap is reported");
        assert!(!r.occupy(net("192.168.0.0/24")), "outside");
        assert_eq!(r.allocate(), Ok(vec![net("10.0.3.0/24")]));
        r.allocate().expect_err("full");
    }

    #[test]
    fn bad_configuration_is_refused() {
        let one = |c: &str, p| ClusterRange {
            cluster: net(c),
            node_prefix: p,
        };
        let table: &[(&[ClusterRange], &str)] = &[
            (&[], "no pod range"),
            (&[one("10.0.0.0/26", 24)], "cannot be cut into /24"),
            (&[one("10.0.0.0/24", 31)], "between 24 and 30"),
            (&[one("fd00::/120", 127)], "between 120 and 126"),
            (
                &[one("10.0.0.0/16", 24), one("10.1.0.0/16", 24)],
                "same family",
            ),
        ];
        for (list, wanted) in table {
            let text = NodeRanges::new(list).expect_err("refused").to_string();
            assert!(text.contains(wanted), "{text}");
        }
    }

    #[test]
    fn overlap_names_both() {
        let text = check_disjoint(&[("pod", net("10.0.0.0/8")), ("service", net("10.96.0.0/16"))])
            .expect_err("overlap")
            .to_string();
        assert!(
            text.contains("pod range 10.0.0.0/8 overlaps the service range 10.96.0.0/16"),
            "{text}"
        );
        check_disjoint(&[
            ("pod", net("10.244.0.0/16")),
            ("service", net("10.96.0.0/16")),
            ("v6", net("::/0")),
        ])
        .expect("disjoint");
    }

    proptest! {
        /// Whatever nodes come and go, and however often the allocator is rebuilt from what exists, no two existing
        /// ranges overlap, all lie in the cluster range, and exhaustion is real.
        #[test]
        fn never_overlaps_and_is_restart_safe(
            steps in proptest::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..80),
            v6 in any::<bool>(),
        ) {
            let (cluster, prefix) = if v6 { ("fd00::/60", 64) } else { ("10.0.0.0/20", 24) };
            let fresh = || ranges(&[(cluster, prefix)]);
            let mut allocator = fresh();
            let mut held: Vec<IpNet> = Vec::new();
            for (step, index) in steps {
                match step {
                    0 if !held.is_empty() => {
                        let gone = held.swap_remove(index.index(held.len()));
                        allocator.release(gone);
                    }
                    1 => {
                        allocator = fresh();
                        for range in &held {
                            prop_assert!(allocator.occupy(*range));
                        }
                    }
                    _ => match allocator.allocate() {
                        Ok(new) => {
                            prop_assert!(net(cluster).contains(&new[0]));
                            prop_assert!(held.iter().all(|h| !overlaps(*h, new[0])));
                            held.push(new[0]);
                        }
                        Err(_) => prop_assert_eq!(held.len(), 16),
                    },
                }
            }
        }

        #[test]
        fn odd_ranges_never_panic(bits in any::<u128>(), prefix in 0u8..=128, v4 in any::<bool>()) {
            let range = if v4 {
                IpNet::new(IpAddr::V4((bits as u32).into()), prefix.min(32))
            } else {
                IpNet::new(IpAddr::V6(bits.into()), prefix)
            };
            let range = range.expect("valid prefix length");
            let mut r = ranges(&[("0.0.0.0/0", 30), ("::/0", 126)]);
            r.occupy(range);
            let _ = r.allocate();
            r.release(range);
        }
    }
}
