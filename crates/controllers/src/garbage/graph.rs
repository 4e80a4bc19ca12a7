//! Who belongs to whom, and what follows from it: pure.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{FOREGROUND, ORPHAN};
use crate::{frame::Watched, pods};

/// An object with an owner, or one that is deleted and held by the collector's finalizers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    /// `v1/pods`.
    pub collection: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub version: String,
    pub owners: Vec<OwnerReference>,
    pub finalizers: Vec<String>,
    pub deleted: bool,
}

/// What is to be done about one item.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    /// These owners seem to be gone: ask, and delete the item if it has no other.
    Orphaned {
        item: Item,
        absent: Vec<OwnerReference>,
    },
    /// Its owner waits for it to go.
    DeleteFirst { item: Item, policy: &'static str },
    /// Its owner is deleted and leaves it behind.
    Disown { item: Item, owner: String },
    /// Nothing is left to do for this deleted owner.
    Release { item: Item, finalizer: &'static str },
}

impl Decision {
    pub fn item(&self) -> &Item {
        match self {
            Self::Orphaned { item, .. }
            | Self::DeleteFirst { item, .. }
            | Self::Disown { item, .. }
            | Self::Release { item, .. } => item,
        }
    }
}

/// The objects that matter to the collector.
pub(super) fn items(stores: &[Arc<dyn Watched>]) -> Vec<Item> {
    let mut items = Vec::new();
    for store in stores {
        store.each_meta(&mut |meta| items.extend(item(store.collection(), meta)));
    }
    items
}

fn item(collection: &str, meta: &ObjectMeta) -> Option<Item> {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let finalizers = meta.finalizers.as_deref().unwrap_or_default();
    let deleted = pods::is_terminating(meta);
    let held = deleted && finalizers.iter().any(|f| f == ORPHAN || f == FOREGROUND);
    (!owners.is_empty() || held).then(|| Item {
        collection: collection.to_owned(),
        namespace: pods::namespace(meta).to_owned(),
        name: pods::name(meta).to_owned(),
        uid: pods::uid(meta).to_owned(),
        version: meta.resource_version.clone().unwrap_or_default(),
        owners: owners.to_vec(),
        finalizers: finalizers.to_vec(),
        deleted,
    })
}

/// The uids among the items' owners that exist.
pub(super) fn existing(stores: &[Arc<dyn Watched>], items: &[Item]) -> HashSet<String> {
    let owners = items.iter().flat_map(|item| &item.owners);
    let wanted: HashSet<&str> = owners.map(|owner| owner.uid.as_str()).collect();
    let mut found = HashSet::new();
    for store in stores {
        store.each_meta(&mut |meta| {
            let uid = pods::uid(meta);
            if wanted.contains(uid) {
                found.insert(uid.to_owned());
            }
        });
    }
    found
}

/// What follows: at most one decision per item.
pub(super) fn decide(items: &[Item], exists: &HashSet<String>) -> Vec<Decision> {
    let mut dependents: HashMap<&str, Vec<&Item>> = HashMap::new();
    for item in items {
        for owner in &item.owners {
            dependents.entry(&owner.uid).or_default().push(item);
        }
    }
    let going = |finalizer: &'static str| {
        let held = items.iter().filter(move |item| item.is_going(finalizer));
        held.map(|item| item.uid.as_str()).collect::<HashSet<_>>()
    };
    let (leaving, waiting) = (going(ORPHAN), going(FOREGROUND));
    let known = Known {
        exists,
        leaving,
        waiting,
        dependents,
    };
    items.iter().filter_map(|item| known.about(item)).collect()
}

struct Known<'a> {
    exists: &'a HashSet<String>,
    /// Deleted owners that leave their dependents behind.
    leaving: HashSet<&'a str>,
    /// Deleted owners that wait for their dependents to go.
    waiting: HashSet<&'a str>,
    dependents: HashMap<&'a str, Vec<&'a Item>>,
}

impl Known<'_> {
    fn about(&self, item: &Item) -> Option<Decision> {
        if item.deleted {
            return self.release(item);
        }
        let left = item
            .owners
            .iter()
            .find(|owner| self.leaving.contains(owner.uid.as_str()));
        if let Some(owner) = left {
            return Some(Decision::Disown {
                item: item.clone(),
                owner: owner.uid.clone(),
            });
        }
        let absent = item
            .owners
            .iter()
            .filter(|owner| !self.exists.contains(&owner.uid));
        let absent: Vec<OwnerReference> = absent.cloned().collect();
        if !absent.is_empty() {
            return Some(Decision::Orphaned {
                item: item.clone(),
                absent,
            });
        }
        // It stays as long as one of its owners stays.
        let all_wait = item
            .owners
            .iter()
            .all(|owner| self.waiting.contains(owner.uid.as_str()));
        all_wait.then(|| Decision::DeleteFirst {
            item: item.clone(),
            policy: match self.dependents.contains_key(item.uid.as_str()) {
                true => "Foreground",
                false => "Background",
            },
        })
    }

    /// A deleted owner is let go when nothing of what it waits for is left.
    fn release(&self, item: &Item) -> Option<Decision> {
        let dependents = self
            .dependents
            .get(item.uid.as_str())
            .map(Vec::as_slice)
            .unwrap_or_default();
        let blocks = |dependent: &&Item| {
            let mut refs = dependent
                .owners
                .iter()
                .filter(|owner| owner.uid == item.uid);
            refs.any(|owner| owner.block_owner_deletion == Some(true))
        };
        let finalizer = if item.is_going(ORPHAN) && dependents.iter().all(|d| d.deleted) {
            ORPHAN
        } else if item.is_going(FOREGROUND) && !dependents.iter().any(blocks) {
            FOREGROUND
        } else {
            return None;
        };
        Some(Decision::Release {
            item: item.clone(),
            finalizer,
        })
    }
}

impl Item {
    fn is_going(&self, finalizer: &str) -> bool {
        self.deleted && self.finalizers.iter().any(|f| f == finalizer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name`, its owners (`*` after a name: blocks the owner's deletion), and, if it is deleted, its finalizers.
    fn thing(name: &str, owners: &[&str], deleted: Option<&[&str]>) -> Item {
        let owner = |text: &&str| OwnerReference {
            uid: text.trim_end_matches('*').to_owned(),
            block_owner_deletion: Some(text.ends_with('*')),
            ..OwnerReference::default()
        };
        Item {
            collection: "v1/things".into(),
            namespace: "default".into(),
            name: name.into(),
            uid: name.into(),
            version: "1".into(),
            owners: owners.iter().map(owner).collect(),
            finalizers: deleted
                .unwrap_or_default()
                .iter()
                .map(|f| (*f).to_owned())
                .collect(),
            deleted: deleted.is_some(),
        }
    }

    fn outcome(items: &[Item], exists: &[&str]) -> Vec<String> {
        let exists = exists.iter().map(|uid| (*uid).to_owned()).collect();
        let decisions = decide(items, &exists);
        let text = |decision: &Decision| match decision {
            Decision::Orphaned { item, absent } => {
                let absent: Vec<&str> = absent.iter().map(|owner| owner.uid.as_str()).collect();
                format!("{} misses {}", item.name, absent.join(","))
            }
            Decision::DeleteFirst { item, policy } => {
                format!("{} goes first ({policy})", item.name)
            }
            Decision::Disown { item, owner } => format!("{} loses {owner}", item.name),
            Decision::Release { item, finalizer } => {
                format!("{} is free of {finalizer}", item.name)
            }
        };
        decisions.iter().map(text).collect()
    }

    #[test]
    fn dependents_follow_their_owners() {
        let none: [&str; 0] = [];
        type Case<'a> = (&'a str, Vec<Item>, Vec<&'a str>, Vec<&'a str>);
        let cases: Vec<Case<'_>> = vec![
            (
                "an owner is there",
                vec![thing("pod", &["set"], None)],
                vec!["set"],
                none.to_vec(),
            ),
            (
                "an owner is gone",
                vec![thing("pod", &["set"], None)],
                vec![],
                vec!["pod misses set"],
            ),
            (
                "one of two is gone",
                vec![thing("pod", &["set", "other"], None)],
                vec!["other"],
                vec!["pod misses set"],
            ),
            (
                "it is going already",
                vec![thing("pod", &["set"], Some(&[]))],
                vec![],
                none.to_vec(),
            ),
            (
                "orphan: dependents first",
                vec![
                    thing("set", &[], Some(&["orphan"])),
                    thing("pod", &["set"], None),
                ],
                vec!["set"],
                vec!["pod loses set"],
            ),
            (
                "orphan: then the owner",
                vec![thing("set", &[], Some(&["orphan"]))],
                vec![],
                vec!["set is free of orphan"],
            ),
            (
                "foreground: dependents first",
                vec![
                    thing("set", &[], Some(&[FOREGROUND])),
                    thing("pod", &["set*"], None),
                ],
                vec!["set"],
                vec!["pod goes first (Background)"],
            ),
            (
                "foreground: in depth",
                vec![
                    thing("app", &[], Some(&[FOREGROUND])),
                    thing("set", &["app*"], None),
                    thing("pod", &["set*"], None),
                ],
                vec!["app", "set"],
                vec!["set goes first (Foreground)"],
            ),
            (
                "foreground: until they are gone",
                vec![
                    thing("set", &[], Some(&[FOREGROUND])),
                    thing("pod", &["set*"], Some(&[])),
                ],
                vec!["set"],
                none.to_vec(),
            ),
            (
                "foreground: those that do not block are not awaited",
                vec![
                    thing("set", &[], Some(&[FOREGROUND])),
                    thing("pod", &["set"], Some(&[])),
                ],
                vec!["set"],
                vec!["set is free of foregroundDeletion"],
            ),
            (
                "foreground: another owner keeps it",
                vec![
                    thing("set", &[], Some(&[FOREGROUND])),
                    thing("pod", &["set", "other"], None),
                ],
                vec!["set", "other"],
                vec!["set is free of foregroundDeletion"],
            ),
            (
                "other finalizers are not ours",
                vec![thing("set", &[], Some(&["x/y"]))],
                vec![],
                none.to_vec(),
            ),
        ];
        for (name, items, exists, expected) in cases {
            assert_eq!(outcome(&items, &exists), expected, "{name}");
        }
    }
}
