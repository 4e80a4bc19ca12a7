//! What rules select by: normalized, comparable, so that equal selectors of different policies are one.
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{Invalid, Problems};
use crate::{
    model::{Labels, Namespace, Pod, Transport},
    mutant::mutant,
};

/// One thing that can be true of a peer. A peer's identity is the set of those that are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Token {
    /// A pod that is selected.
    Pods(PodSelector),
    /// An address of a node whose labels match.
    Nodes(Matcher),
    /// An address in the block.
    Block(Block),
    /// An address in any of the blocks. The compiler makes one of all blocks of a rule, for they need not be told apart.
    AnyBlock(Arc<BTreeSet<Block>>),
    /// A pod that names this port so. In force with the name, by whichever rule.
    Port {
        /// The name.
        name: String,
        /// The protocol.
        protocol: Transport,
        /// The number.
        port: u16,
    },
    /// An address of the node whose tables these are.
    OwnNode,
    /// An address of the pods' ranges that nobody known has.
    UnknownPod,
}

/// Pods by namespace, labels and service account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodSelector {
    /// Where.
    pub namespace: NamespaceMatch,
    /// Which.
    pub labels: Matcher,
    /// As whom; absent: whoever.
    pub accounts: Option<BTreeSet<String>>,
}

/// Namespaces by name or by labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceMatch {
    /// The one.
    Named(String),
    /// Those that exist and match.
    Labels(Matcher),
}

/// Conditions that all hold; none: everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Matcher(BTreeSet<Requirement>);

/// One condition on labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// The label has one of the values.
    In(String, BTreeSet<String>),
    /// The label has none of the values, or is not there.
    NotIn(String, BTreeSet<String>),
    /// The label is there.
    Exists(String),
    /// It is not.
    Absent(String),
}

/// A range of addresses with holes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// The range.
    pub cidr: IpNet,
    /// The holes.
    pub except: BTreeSet<IpNet>,
}

impl Matcher {
    /// The conditions, in the order of their kinds.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.0.iter()
    }

    /// Whether there is no condition.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the labels meet every condition.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Requirement::NotIn(key, values) => match labels.get(key) {
                Some(value) => !values.contains(value),
                None => !mutant!(NotInNeedsLabel),
            },
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => labels.contains_key(key) == mutant!(AbsentIsPresent),
        })
    }

    /// From a selector's two halves.
    pub(super) fn read(
        selector: &LabelSelector,
        field: &str,
        problems: &mut Problems,
    ) -> Result<Self, Invalid> {
        let labels = selector.match_labels.iter().flatten();
        let mut all: BTreeSet<_> = labels
            .map(|(key, value)| Requirement::In(key.clone(), BTreeSet::from([value.clone()])))
            .collect();
        for (index, item) in selector.match_expressions.iter().flatten().enumerate() {
            let values: BTreeSet<_> = item.values.iter().flatten().cloned().collect();
            let key = item.key.clone();
            all.insert(match (item.operator.as_str(), values.is_empty()) {
                ("In", false) => Requirement::In(key, values),
                ("NotIn", false) => Requirement::NotIn(key, values),
                ("Exists", true) => Requirement::Exists(key),
                ("DoesNotExist", true) => Requirement::Absent(key),
                (operator @ ("In" | "NotIn"), true) => {
                    let field = format!("{field}.matchExpressions[{index}].values");
                    return Err(problems.note(
                        &field,
                        format!("operator {operator} needs at least one value"),
                    ));
                }
                (operator @ ("Exists" | "DoesNotExist"), false) => {
                    let field = format!("{field}.matchExpressions[{index}].values");
                    return Err(
                        problems.note(&field, format!("operator {operator} takes no values"))
                    );
                }
                (operator, _) => {
                    let field = format!("{field}.matchExpressions[{index}].operator");
                    let message =
                        format!("\"{operator}\" is none of In, NotIn, Exists and DoesNotExist");
                    return Err(problems.note(&field, message));
                }
            });
        }
        Ok(Self(all))
    }
}

impl NamespaceMatch {
    /// Whether pods of a namespace are meant; `None`: the namespace is not known (yet, or no more).
    pub fn matches(&self, name: &str, namespace: Option<&Namespace>) -> bool {
        match self {
            Self::Named(wanted) => wanted == name,
            Self::Labels(matcher) => namespace.is_some_and(|n| matcher.matches(&n.labels)),
        }
    }
}

impl PodSelector {
    /// Whether the pod is selected, its namespace aside.
    pub fn matches_in_namespace(&self, pod: &Pod) -> bool {
        let account = |names: &BTreeSet<String>| {
            names.contains(&pod.service_account) || mutant!(ServiceAccountIgnored)
        };
        self.accounts.as_ref().is_none_or(account) && self.labels.matches(&pod.labels)
    }

    /// Whether the pod is selected.
    pub fn matches(&self, pod: &Pod, namespace: Option<&Namespace>) -> bool {
        self.namespace.matches(&pod.namespace, namespace) && self.matches_in_namespace(pod)
    }
}

impl Token {
    /// The blocks, if that is what it is about.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        let (one, many) = match self {
            Self::Block(block) => (Some(block), None),
            Self::AnyBlock(blocks) => (None, Some(blocks)),
            _ => (None, None),
        };
        one.into_iter()
            .chain(many.into_iter().flat_map(|blocks| blocks.iter()))
    }
}

impl Block {
    /// Whether everything of a prefix is in the block. A prefix that is cut by a hole is not.
    pub fn contains(&self, prefix: &IpNet) -> bool {
        let in_hole = self.except.iter().any(|hole| hole.contains(prefix));
        self.cidr.contains(prefix) && (!in_hole || mutant!(ExceptIgnored))
    }

    /// The range and the holes: where something changes.
    pub fn boundaries(&self) -> impl Iterator<Item = IpNet> {
        std::iter::once(self.cidr).chain(self.except.iter().copied())
    }

    /// From the texts of a range and its holes.
    pub(super) fn read(
        cidr: &str,
        except: &[String],
        field: &str,
        problems: &mut Problems,
    ) -> Result<Self, Invalid> {
        let net = |text: &str, field: &str, problems: &mut Problems| {
            let parsed: Result<IpNet, _> = text.parse();
            let remedy = "is no range of addresses; write one like 10.0.0.0/8 or fd00::/8";
            parsed
                .map(|net| net.trunc())
                .map_err(|_| problems.note(field, format!("\"{text}\" {remedy}")))
        };
        let cidr = net(cidr, &format!("{field}.cidr"), problems)?;
        let mut holes = BTreeSet::new();
        for (index, text) in except.iter().enumerate() {
            let field = format!("{field}.except[{index}]");
            let hole = net(text, &field, problems)?;
            if !cidr.contains(&hole) || hole == cidr {
                return Err(problems.note(&field, format!("{hole} is not a strict part of {cidr}")));
            }
            holes.insert(hole);
        }
        Ok(Self {
            cidr,
            except: holes,
        })
    }
}

/// The prefix of one address.
pub fn host_prefix(address: IpAddr) -> IpNet {
    IpNet::from(address)
}
