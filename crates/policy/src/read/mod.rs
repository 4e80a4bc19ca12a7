//! From policy objects to [`Program`]s: one shape for every kind, checked, with what is invalid closed.
//!
//! An invalid rule that would allow matches nothing; one that would deny or pass denies everything, as
//! policy.networking.k8s.io/v1alpha2 wants. A subject that cannot be read is every pod in reach (of the namespace, or of
//! the cluster) for isolation and for rules that deny, and nobody for the rest; except for nodes, which such a policy
//! leaves alone, for it would lock its author out. Every such thing is a [`Problem`].
mod cluster;
mod kubernetes;
mod malha;
mod parts;
mod selector;
mod text;

use std::collections::BTreeMap;

pub(crate) use selector::host_prefix;
pub use selector::{Block, Matcher, NamespaceMatch, PodSelector, Requirement, Token};

use crate::{
    api::AddressSet,
    model::{ObjectRef, Policy, Transport},
};

/// What is wrong with an object, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{object}: {field}: {message}")]
pub struct Problem {
    /// The object.
    pub object: ObjectRef,
    /// The field, as a path from the object's root.
    pub field: String,
    /// What is wrong, and what holds instead.
    pub message: String,
}

/// A policy of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The object it was read from.
    pub object: ObjectRef,
    /// Only counted.
    pub staged: bool,
    /// Where it stands among the others.
    pub tier: Tier,
    /// Place within the tier; equal ones go by object.
    pub order: i32,
    /// Whose traffic it decides.
    pub subject: ProgramSubject,
    /// Rules for what the subject receives; absent: no effect on it, not even isolation.
    pub ingress: Option<Vec<Rule>>,
    /// Rules for what the subject sends.
    pub egress: Option<Vec<Rule>>,
}

/// The tiers, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// `ClusterNetworkPolicy`, Admin.
    Admin,
    /// `MalhaPolicy`.
    Malha,
    /// `NetworkPolicy`: whom it selects is isolated.
    Namespaced,
    /// `ClusterNetworkPolicy`, Baseline.
    Baseline,
}

/// Whose traffic a program decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramSubject {
    /// Pods.
    Pods(PodSelector),
    /// Nodes, by their labels.
    Nodes(Matcher),
    /// Whatever pod, even one whose namespace is not known: the subject cannot be read.
    EveryPod,
    /// Nobody.
    Nobody,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleAction {
    /// Final.
    Allow,
    /// Final.
    Deny,
    /// On to the next tier.
    Pass,
}

/// A rule of any kind. Its index in the list is that in the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it does.
    pub action: RuleAction,
    /// The other end: any of these; absent: whoever; empty: nobody.
    pub peers: Option<Vec<Token>>,
    /// The ports: any of these; absent: whatever protocol; empty: none.
    pub ports: Option<Vec<PortMatch>>,
    /// Report as an event.
    pub log: bool,
}

/// A condition on the destination port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PortMatch {
    /// From the first to the last, both included.
    Range {
        /// The protocol.
        protocol: Transport,
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
    /// A port of the receiving pod, by its name.
    Named {
        /// The name.
        name: String,
        /// The protocol; absent: whichever the pod says.
        protocol: Option<Transport>,
    },
}

/// Read one policy. The program is always usable: what is invalid is closed, and listed.
pub fn read(policy: &Policy, sets: &BTreeMap<String, AddressSet>) -> (Program, Vec<Problem>) {
    let mut problems = Problems {
        object: policy.object(),
        list: Vec::new(),
    };
    let program = match policy {
        Policy::Namespaced(object) => kubernetes::read(object, &mut problems),
        Policy::Cluster(object) => cluster::read(object, &mut problems),
        Policy::Malha(object) => malha::read(object, sets, &mut problems),
    };
    let program = Program {
        staged: policy.is_staged(),
        ..program
    };
    (program, problems.list)
}

/// Something is invalid, and has been noted.
#[derive(Debug)]
struct Invalid;

/// Collects what is wrong with one object.
struct Problems {
    object: ObjectRef,
    list: Vec<Problem>,
}

impl Problems {
    fn note(&mut self, field: &str, message: impl Into<String>) -> Invalid {
        self.list.push(Problem {
            object: self.object.clone(),
            field: field.to_owned(),
            message: message.into(),
        });
        Invalid
    }

    /// A program with nothing in it.
    fn program(&self, tier: Tier, subject: ProgramSubject) -> Program {
        Program {
            object: self.object.clone(),
            staged: false,
            tier,
            order: 0,
            subject,
            ingress: None,
            egress: None,
        }
    }
}

impl Rule {
    /// The rule, or what stands in for an invalid one.
    fn or_closed(action: RuleAction, log: bool, parts: Result<Conditions, Invalid>) -> Self {
        let (action, (peers, ports)) = match (action, parts) {
            (_, Ok(conditions)) => (action, conditions),
            (RuleAction::Allow, Err(Invalid)) if crate::mutant::mutant!(InvalidAllowsAll) => {
                (action, (None, None))
            }
            (RuleAction::Allow, Err(Invalid)) => (action, (Some(Vec::new()), Some(Vec::new()))),
            (_, Err(Invalid)) if crate::mutant::mutant!(InvalidDenyIgnored) => {
                (action, (Some(Vec::new()), None))
            }
            (_, Err(Invalid)) => (RuleAction::Deny, (None, None)),
        };
        Self {
            action,
            peers,
            ports,
            log,
        }
    }

    /// Take from a rule what an unreadable subject takes: all but denial.
    fn void_unless_deny(&mut self, written: RuleAction) {
        if written != RuleAction::Deny {
            self.peers = Some(Vec::new());
        }
    }
}

/// Peers and ports of a rule.
type Conditions = (Option<Vec<Token>>, Option<Vec<PortMatch>>);
