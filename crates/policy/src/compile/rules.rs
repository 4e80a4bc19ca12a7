//! Rules by number, as the kernel counts them.
use std::{collections::HashMap, fmt};

use crate::{
    maps::NO_RULE,
    model::{Direction, ObjectRef},
};

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleRef {
    /// No policy.
    Default,
    /// A pod and the node it runs on.
    OwnNode(Direction),
    /// A fail-safe port of the node.
    FailSafe(Direction),
    /// A rule, by its index in its direction.
    Rule {
        /// The policy.
        object: ObjectRef,
        /// The direction.
        direction: Direction,
        /// The index.
        index: usize,
    },
    /// The pod is isolated, and no rule matches.
    Isolated {
        /// The first by name of the policies that isolate it.
        object: ObjectRef,
        /// The direction.
        direction: Direction,
    },
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("no policy decides"),
            Self::OwnNode(direction) => write!(f, "{direction} of a pod and its own node"),
            Self::FailSafe(direction) => write!(f, "{direction} of a fail-safe port of the node"),
            Self::Rule {
                object,
                direction,
                index,
            } => write!(f, "{object}, {direction} rule {index}"),
            Self::Isolated { object, direction } => {
                write!(f, "isolated by {object}, no {direction} rule matches")
            }
        }
    }
}

/// Numbers of rules. A rule that comes again has its old number, so that counters go on.
#[derive(Clone, Debug)]
pub struct Rules {
    numbers: HashMap<RuleRef, u32>,
    list: Vec<RuleRef>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            numbers: HashMap::from([(RuleRef::Default, NO_RULE)]),
            list: vec![RuleRef::Default],
        }
    }
}

impl Rules {
    /// The rule's number.
    pub fn number(&mut self, rule: RuleRef) -> u32 {
        if let Some(number) = self.numbers.get(&rule) {
            return *number;
        }
        let number = self.list.len() as u32;
        self.list.push(rule.clone());
        self.numbers.insert(rule, number);
        number
    }

    /// The rule of a number.
    pub fn get(&self, number: u32) -> Option<&RuleRef> {
        self.list.get(number as usize)
    }
}
