//! The addresses of one prefix. Pure: takes the time.
//!
//! Addresses that were never given come first, then those that were given back and have rested, the longest rested first:
//! nobody gets an address that others still take for its last holder's. Each call takes constant time, however large the
//! prefix and however full.
use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::error::{Error, Result};

/// When this many wait, the longest rested is taken before one that was never given: memory stays bounded.
const RESTING_MAX: usize = 1024;

/// The network's own address, and the one that is kept for the node.
const RESERVED: u128 = 2;

/// How full a prefix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStatus {
    /// The prefix.
    pub prefix: IpNet,
    /// How many pods it takes.
    pub capacity: u128,
    /// Addresses in use.
    pub used: u128,
    /// Addresses that rest before they are used again, as far as others are left.
    pub resting: u128,
}

#[derive(Debug)]
pub struct Pool {
    prefix: IpNet,
    /// Offset of the last address that a pod may get.
    last: u128,
    /// Offset of the next address that was never given.
    fresh: u128,
    /// Offsets in use or at rest.
    taken: HashSet<u128>,
    /// Offsets at rest, and since when.
    resting: VecDeque<(u128, Instant)>,
}

impl Pool {
    pub fn new(prefix: IpNet) -> Result<Self> {
        let prefix = prefix.trunc();
        let bits = u32::from(prefix.max_prefix_len() - prefix.prefix_len());
        let size = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
        // IPv4 has a broadcast address.
        let excluded_at_end = if prefix.addr().is_ipv4() { 2 } else { 1 };
        let last = size.saturating_sub(excluded_at_end);
        if last < RESERVED {
            return Err(Error::TooSmall(prefix));
        }
        Ok(Self {
            prefix,
            last,
            fresh: RESERVED,
            taken: HashSet::new(),
            resting: VecDeque::new(),
        })
    }

    pub fn prefix(&self) -> IpNet {
        self.prefix
    }

    /// Whether there is an address to give.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn has_free(&self, now: Instant, rest: Duration) -> Result<()> {
        if self.has_rested(now, rest) || self.has_fresh() {
            return Ok(());
        }
        Err(Error::Full {
            prefix: self.prefix,
            capacity: self.capacity(),
            resting: self.resting.len(),
            rest,
        })
    }

    /// An address, for as long as it is not given back.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn allocate(&mut self, now: Instant, rest: Duration) -> Result<IpAddr> {
        self.has_free(now, rest)?;
        let crowded = self.resting.len() >= RESTING_MAX;
        let fresh = match crowded && self.has_rested(now, rest) {
            true => None,
            false => self.fresh(),
        };
        let rested = |pool: &mut Self| pool.resting.pop_front().map(|(offset, _)| offset);
        let offset = fresh.or_else(|| rested(self));
        Ok(self.address(offset.expect("one is free")))
    }

    /// Note that an address is in use. One outside the prefix is ignored.
    pub fn occupy(&mut self, address: IpAddr) {
        if let Some(offset) = self.offset(address) {
            self.taken.insert(offset);
            self.resting.retain(|(resting, _)| *resting != offset);
            self.skip_taken();
        }
    }

    /// Give an address back, to rest. One outside the prefix or not in use is ignored.
    pub fn release(&mut self, address: IpAddr, now: Instant) {
        if let Some(offset) = self.offset(address)
            && self.taken.contains(&offset)
        {
            self.resting.push_back((offset, now));
        }
    }

    /// Let an address rest, whether this pool has given it or not.
    pub fn rest(&mut self, address: IpAddr, since: Instant) {
        self.occupy(address);
        self.release(address, since);
    }

    pub fn status(&self) -> PoolStatus {
        let resting = self.resting.len() as u128;
        PoolStatus {
            prefix: self.prefix,
            capacity: self.capacity(),
            used: self.taken.len() as u128 - resting,
            resting,
        }
    }

    fn has_rested(&self, now: Instant, rest: Duration) -> bool {
        let longest = self.resting.front();
        longest.is_some_and(|(_, since)| now.duration_since(*since) >= rest)
    }

    fn has_fresh(&self) -> bool {
        self.fresh <= self.last
    }

    /// Takes the next offset that was never given.
    fn fresh(&mut self) -> Option<u128> {
        self.skip_taken();
        let offset = self.has_fresh().then_some(self.fresh)?;
        self.taken.insert(offset);
        self.fresh += 1;
        self.skip_taken();
        Some(offset)
    }

    /// What was found in use at the start was never given by this pool.
    fn skip_taken(&mut self) {
        while self.has_fresh() && self.taken.contains(&self.fresh) {
            self.fresh += 1;
        }
    }

    fn capacity(&self) -> u128 {
        self.last - RESERVED + 1
    }

    fn address(&self, offset: u128) -> IpAddr {
        match self.prefix.network() {
            IpAddr::V4(network) => IpAddr::V4((network.to_bits() + offset as u32).into()),
            IpAddr::V6(network) => IpAddr::V6((network.to_bits() + offset).into()),
        }
    }

    /// None: no pod's address.
    fn offset(&self, address: IpAddr) -> Option<u128> {
        if !self.prefix.contains(&address) {
            return None;
        }
        let offset = match (self.prefix.network(), address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                Some(u128::from(address.to_bits() - network.to_bits()))
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                Some(address.to_bits() - network.to_bits())
            }
            _ => None,
        };
        offset.filter(|offset| (RESERVED..=self.last).contains(offset))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const REST: Duration = Duration::from_secs(30);

    fn pool(prefix: &str) -> Pool {
        Pool::new(prefix.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_ends_of_a_prefix_are_not_given() {
        let now = Instant::now();
        let mut small = pool("10.0.0.4/30");
        assert_eq!(small.allocate(now, REST).unwrap().to_string(), "10.0.0.6");
        let error = small.allocate(now, REST).unwrap_err();
        assert!(matches!(error, Error::Full { capacity: 1, .. }), "{error}");
        assert_eq!(error.cni_code(), 11);
        assert_eq!(
            pool("fd00::/64").allocate(now, REST).unwrap().to_string(),
            "fd00::2"
        );
        assert_eq!(pool("fd00::/126").status().capacity, 2);
        assert_eq!(pool("10.244.0.0/24").status().capacity, 253);
        assert!(pool("::/0").status().capacity > 1 << 100);
        for too_small in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/127", "fd00::/128"] {
            assert!(
                matches!(
                    Pool::new(too_small.parse().unwrap()),
                    Err(Error::TooSmall(_))
                ),
                "{too_small}"
            );
        }
    }

    #[test]
    fn the_longest_rested_comes_back_first_and_only_when_rested() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut pool = pool("10.0.0.0/29");
        let given: Vec<_> = (0..3)
            .map(|_| pool.allocate(start, REST).unwrap())
            .collect();
        pool.release(given[1], later(0));
        pool.release(given[0], later(1));
        let mut take = |now| pool.allocate(now, REST).map(|address| address.to_string());
        assert_eq!(take(later(1)).unwrap(), "10.0.0.5");
        assert_eq!(take(later(1)).unwrap(), "10.0.0.6");
        let error = take(later(29)).unwrap_err();
        assert!(matches!(error, Error::Full { resting: 2, .. }), "{error}");
        assert!(error.to_string().contains("rest for 30 s"), "{error}");
        assert_eq!(take(later(30)).unwrap(), "10.0.0.3");
        take(later(30)).unwrap_err();
        assert_eq!(take(later(31)).unwrap(), "10.0.0.2");
        let error = take(later(99)).unwrap_err();
        assert!(error.to_string().contains("all 5 are in use;"), "{error}");
    }

    #[test]
    fn what_others_say_rests_is_given_after_that_and_the_ends_never() {
        let start = Instant::now();
        let mut pool = pool("10.0.0.0/29");
        for number in 0..8 {
            pool.rest(IpAddr::from([10, 0, 0, number]), start);
        }
        pool.rest(IpAddr::from([10, 0, 1, 3]), start);
        assert_eq!((pool.status().used, pool.status().resting), (0, 5));
        pool.allocate(start, REST).unwrap_err();
        let given: Vec<String> = (0..5)
            .map(|_| pool.allocate(start + REST, REST).unwrap().to_string())
            .collect();
        assert_eq!(
            given,
            [2, 3, 4, 5, 6].map(|number| format!("10.0.0.{number}"))
        );
        pool.allocate(start + REST, REST).unwrap_err();
    }

    #[test]
    fn what_is_found_in_use_is_not_given() {
        let now = Instant::now();
        let mut pool = pool("10.0.0.0/29");
        for number in [2, 3, 5, 6] {
            pool.occupy(IpAddr::from([10, 0, 0, number]));
        }
        assert_eq!(pool.allocate(now, REST).unwrap().to_string(), "10.0.0.4");
        pool.allocate(now, REST).unwrap_err();
    }

    #[test]
    fn a_large_prefix_uses_rested_addresses_again_before_memory_grows() {
        let start = Instant::now();
        let mut pool = pool("fd00::/64");
        for number in 0..4 * RESTING_MAX as u64 {
            let now = start + Duration::from_secs(number);
            let address = pool.allocate(now, REST).unwrap();
            pool.release(address, now);
        }
        assert!(pool.resting.len() <= RESTING_MAX && pool.taken.len() <= RESTING_MAX);
    }

    proptest! {
        /// Against the simplest model. Nothing is given twice or before it has rested, nothing is lost, and Full is said
        /// when it is true.
        #[test]
        fn nothing_is_given_twice_and_nothing_is_lost(steps in proptest::collection::vec((any::<bool>(), any::<u8>()), 1..200)) {
            let mut pool = pool("10.0.0.0/28");
            let mut held = BTreeSet::new();
            let mut rested = BTreeMap::new();
            let start = Instant::now();
            for (number, (take, which)) in steps.into_iter().enumerate() {
                let now = start + Duration::from_secs(number as u64);
                if take {
                    match pool.allocate(now, REST) {
                        Ok(address) => {
                            prop_assert!(held.insert(address), "{} given twice", address);
                            prop_assert!(rested.remove(&address).is_none_or(|since| now - since >= REST));
                        }
                        Err(_) => {
                            prop_assert_eq!(held.len() + rested.len(), 13);
                            prop_assert!(rested.values().all(|since| now - *since < REST));
                        }
                    }
                } else if let Some(address) = held.iter().nth(usize::from(which) % held.len().max(1)).copied() {
                    held.remove(&address);
                    rested.insert(address, now);
                    pool.release(address, now);
                }
                prop_assert_eq!(pool.status().used, held.len() as u128);
            }
        }
    }
}
