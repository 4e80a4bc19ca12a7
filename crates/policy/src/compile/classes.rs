//! Port classes: equal rows of different tables and peers are one.
use std::collections::HashMap;

use super::rows::Rows;
use crate::maps::{Op, PeerValue, PortKey};

/// The classes in use.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    last: u32,
    numbers: HashMap<Rows, u32>,
    known: HashMap<u32, (Rows, usize)>,
}

impl Classes {
    /// The value that stands for these rows, with the operations that make it good. One more row refers to it.
    pub fn acquire(&mut self, rows: &Rows, ops: &mut Vec<Op>) -> PeerValue {
        if let [(_, verdict)] = rows.as_slice() {
            return PeerValue::Fixed(*verdict);
        }
        if let Some(number) = self.numbers.get(rows) {
            if let Some((_, count)) = self.known.get_mut(number) {
                *count += 1;
            }
            return PeerValue::Class(*number);
        }
        self.last += 1;
        let class = self.last;
        ops.extend(rows.iter().map(|(prefix, verdict)| {
            let key = PortKey {
                class,
                prefix: *prefix,
            };
            Op::SetPort(key, *verdict)
        }));
        self.numbers.insert(rows.clone(), class);
        self.known.insert(class, (rows.clone(), 1));
        PeerValue::Class(class)
    }

    /// One row less refers to it.
    pub fn release(&mut self, value: PeerValue, ops: &mut Vec<Op>) {
        let PeerValue::Class(class) = value else {
            return;
        };
        if let Some((_, count)) = self.known.get_mut(&class) {
            *count -= 1;
            if *count > 0 {
                return;
            }
        }
        if let Some((rows, _)) = self.known.remove(&class) {
            self.numbers.remove(&rows);
            let keys = rows
                .into_iter()
                .map(|(prefix, _)| PortKey { class, prefix });
            ops.extend(keys.map(Op::DeletePort));
        }
    }

    /// The rows of a class.
    pub fn rows(&self, class: u32) -> Option<&Rows> {
        self.known.get(&class).map(|(rows, _)| rows)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }
}
