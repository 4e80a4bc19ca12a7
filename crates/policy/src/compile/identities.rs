//! Identities: the sets of tokens that are true of some address, by number.
use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;

use crate::maps::NO_IDENTITY;

/// A set of tokens, sorted.
pub type Signature = Vec<u32>;

/// The identities in use, and which addresses have them.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    last: u32,
    numbers: HashMap<Signature, u32>,
    known: BTreeMap<u32, Identity>,
    by_token: HashMap<u32, BTreeSet<u32>>,
    addresses: BTreeMap<IpNet, u32>,
}

#[derive(Clone, Debug)]
struct Identity {
    signature: Signature,
    members: BTreeSet<IpNet>,
}

impl Identities {
    /// The number of a signature, and whether it is new. The empty one is [`NO_IDENTITY`].
    pub fn intern(&mut self, signature: Signature) -> (u32, bool) {
        if signature.is_empty() {
            return (NO_IDENTITY, false);
        }
        if let Some(number) = self.numbers.get(&signature) {
            return (*number, false);
        }
        self.last += 1;
        for token in &signature {
            self.by_token.entry(*token).or_default().insert(self.last);
        }
        self.numbers.insert(signature.clone(), self.last);
        let members = BTreeSet::new();
        self.known
            .insert(self.last, Identity { signature, members });
        (self.last, true)
    }

    /// The identity that an address has.
    pub fn of(&self, prefix: &IpNet) -> Option<u32> {
        self.addresses.get(prefix).copied()
    }

    /// Give an address an identity, or none.
    pub fn assign(&mut self, prefix: IpNet, number: Option<u32>) {
        let before = match number {
            Some(number) => self.addresses.insert(prefix, number),
            None => self.addresses.remove(&prefix),
        };
        for (number, joins) in before
            .map(|n| (n, false))
            .into_iter()
            .chain(number.map(|n| (n, true)))
        {
            if let Some(identity) = self.known.get_mut(&number) {
                match joins {
                    true => identity.members.insert(prefix),
                    false => identity.members.remove(&prefix),
                };
            }
        }
    }

    /// Forget an identity that no address has. Whether it was one.
    pub fn retire(&mut self, number: u32) -> bool {
        if self
            .known
            .get(&number)
            .is_none_or(|identity| !identity.members.is_empty())
        {
            return false;
        }
        let Some(identity) = self.known.remove(&number) else {
            return false;
        };
        for token in &identity.signature {
            if let Some(numbers) = self.by_token.get_mut(token) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.by_token.remove(token);
                }
            }
        }
        self.numbers.remove(&identity.signature);
        true
    }

    /// The tokens of an identity.
    pub fn signature(&self, number: u32) -> &[u32] {
        self.known
            .get(&number)
            .map_or(&[], |identity| &identity.signature)
    }

    /// The identities of which a token is true.
    pub fn with_token(&self, token: u32) -> impl Iterator<Item = u32> + use<'_> {
        self.by_token.get(&token).into_iter().flatten().copied()
    }

    /// The addresses of which a token is true.
    pub fn members_with_token(&self, token: u32) -> impl Iterator<Item = IpNet> + use<'_> {
        self.with_token(token)
            .filter_map(|number| self.known.get(&number))
            .flat_map(|i| &i.members)
            .copied()
    }

    /// Every address that has an entry, with its identity.
    pub fn addresses(&self) -> &BTreeMap<IpNet, u32> {
        &self.addresses
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }
}
