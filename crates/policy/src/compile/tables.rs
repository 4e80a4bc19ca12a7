//! Tables: for one chain of policies, what holds for each identity that its rules can tell from the rest.
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    chain::{Chain, ChainKey, Peer},
    classes::Classes,
    identities::Identities,
    rows::{Rows, rows},
    tokens::Tokens,
};
use crate::maps::{NO_IDENTITY, NO_TABLE, Op, PeerKey, PeerValue};

/// The tables in use.
#[derive(Debug, Default)]
pub struct Tables {
    last: u32,
    numbers: HashMap<ChainKey, u32>,
    known: BTreeMap<u32, Table>,
    by_token: HashMap<u32, BTreeSet<u32>>,
    by_port_name: HashMap<String, BTreeSet<u32>>,
    /// The classes of all rows.
    pub classes: Classes,
}

#[derive(Debug)]
struct Table {
    chain: Chain,
    tokens: BTreeSet<u32>,
    usual: Rows,
    rows: BTreeMap<u32, PeerValue>,
    endpoints: usize,
}

/// What tables are made of.
pub struct Sources<'a> {
    /// Identities that may have rows.
    pub identities: &'a Identities,
    /// What their signatures mean.
    pub tokens: &'a Tokens,
}

impl Tables {
    /// The table of a chain that exists.
    pub fn find(&self, key: &ChainKey) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// Make a table.
    pub fn create(&mut self, chain: Chain, sources: &Sources<'_>, ops: &mut Vec<Op>) -> u32 {
        self.last += 1;
        let number = self.last;
        let tokens = chain.tokens();
        let names = chain.peer_port_names();
        let ports = names
            .iter()
            .flat_map(|name| sources.tokens.ports_named(name));
        let told = tokens.iter().copied().chain(ports);
        let identities: BTreeSet<u32> = told
            .flat_map(|t| sources.identities.with_token(t))
            .collect();
        for token in &tokens {
            self.by_token.entry(*token).or_default().insert(number);
        }
        for name in names {
            self.by_port_name
                .entry(name.to_owned())
                .or_default()
                .insert(number);
        }
        self.numbers.insert(chain.key.clone(), number);
        let nobody = Peer {
            signature: &[],
            tokens: sources.tokens,
        };
        let usual = rows(&chain, &nobody);
        let value = self.classes.acquire(&usual, ops);
        ops.push(Op::SetPeer(
            PeerKey {
                table: number,
                identity: NO_IDENTITY,
            },
            value,
        ));
        let mut table = Table {
            chain,
            tokens,
            usual,
            rows: BTreeMap::from([(NO_IDENTITY, value)]),
            endpoints: 0,
        };
        // Many identities differ in tokens that mean nothing here: what is left decides, and is decided once.
        let mut known = HashMap::new();
        for identity in identities {
            let signature = table.relevant(sources, identity);
            let rows = known.entry(signature).or_insert_with_key(|s| {
                rows(
                    &table.chain,
                    &Peer {
                        signature: s,
                        tokens: sources.tokens,
                    },
                )
            });
            table.set(number, (identity, rows), &mut self.classes, ops);
        }
        self.known.insert(number, table);
        number
    }

    /// Give a new identity its rows in every table that exists.
    pub fn extend(&mut self, identity: u32, sources: &Sources<'_>, ops: &mut Vec<Op>) {
        let mut touched: BTreeSet<u32> = BTreeSet::new();
        for token in sources.identities.signature(identity) {
            touched.extend(self.by_token.get(token).into_iter().flatten());
            let named = sources
                .tokens
                .port(*token)
                .and_then(|port| self.by_port_name.get(&port.name));
            touched.extend(named.into_iter().flatten());
        }
        for number in touched {
            if let Some(table) = self.known.get_mut(&number) {
                let signature = table.relevant(sources, identity);
                let peer = Peer {
                    signature: &signature,
                    tokens: sources.tokens,
                };
                let rows = rows(&table.chain, &peer);
                table.set(number, (identity, &rows), &mut self.classes, ops);
            }
        }
    }

    /// Take the rows of identities that are no more.
    pub fn retire(&mut self, gone: &[u32], ops: &mut Vec<Op>) {
        if gone.is_empty() {
            return;
        }
        for (number, table) in &mut self.known {
            for identity in gone {
                if let Some(value) = table.rows.remove(identity) {
                    ops.push(Op::DeletePeer(PeerKey {
                        table: *number,
                        identity: *identity,
                    }));
                    self.classes.release(value, ops);
                }
            }
        }
    }

    /// One more endpoint has the table.
    pub fn acquire(&mut self, number: u32) {
        if let Some(table) = self.known.get_mut(&number) {
            table.endpoints += 1;
        }
    }

    /// One endpoint less has the table. The last one takes it along.
    pub fn release(&mut self, number: u32, ops: &mut Vec<Op>) {
        let Some(table) = self.known.get_mut(&number) else {
            return;
        };
        table.endpoints -= 1;
        if table.endpoints > 0 {
            return;
        }
        let Some(table) = self.known.remove(&number) else {
            return;
        };
        self.numbers.remove(&table.chain.key);
        for token in &table.tokens {
            forget(&mut self.by_token, token, number);
        }
        for name in table.chain.peer_port_names() {
            forget(&mut self.by_port_name, &name.to_owned(), number);
        }
        for (identity, value) in table.rows {
            ops.push(Op::DeletePeer(PeerKey {
                table: number,
                identity,
            }));
            self.classes.release(value, ops);
        }
    }

    /// What a table says of an identity: its rows, as numbers of rules are known to [`super::Engine::rule`].
    pub fn said(&self, number: u32, identity: u32) -> Option<Rows> {
        if number == NO_TABLE {
            return None;
        }
        let table = self.known.get(&number)?;
        let value = table
            .rows
            .get(&identity)
            .or_else(|| table.rows.get(&NO_IDENTITY))?;
        match value {
            PeerValue::Fixed(verdict) => Some(vec![(crate::maps::PortPrefix::ANY, *verdict)]),
            PeerValue::Class(class) => self.classes.rows(*class).cloned(),
        }
    }

    /// Numbers of tables and of their rows.
    pub fn sizes(&self) -> (usize, usize) {
        (
            self.known.len(),
            self.known.values().map(|table| table.rows.len()).sum(),
        )
    }
}

impl Table {
    /// The tokens of an identity that mean something to this table.
    fn relevant(&self, sources: &Sources<'_>, identity: u32) -> Vec<u32> {
        let names: HashSet<&str> = self.chain.peer_port_names().into_iter().collect();
        let means = |token: &&u32| {
            self.tokens.contains(token)
                || (!names.is_empty()
                    && sources
                        .tokens
                        .port(**token)
                        .is_some_and(|port| names.contains(port.name.as_str())))
        };
        sources
            .identities
            .signature(identity)
            .iter()
            .filter(means)
            .copied()
            .collect()
    }

    fn set(
        &mut self,
        number: u32,
        (identity, rows): (u32, &Rows),
        classes: &mut Classes,
        ops: &mut Vec<Op>,
    ) {
        if *rows == self.usual {
            return;
        }
        let value = classes.acquire(rows, ops);
        ops.push(Op::SetPeer(
            PeerKey {
                table: number,
                identity,
            },
            value,
        ));
        self.rows.insert(identity, value);
    }
}

fn forget<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeSet<u32>>, key: &K, number: u32) {
    if let Some(set) = map.get_mut(key) {
        set.remove(&number);
        if set.is_empty() {
            map.remove(key);
        }
    }
}
