//! Which objects of a kind were told of: a new list says by silence which of them are gone.

use std::collections::BTreeSet;

use crate::cluster::objects::Heard;

/// The names of a kind's objects.
#[derive(Debug)]
pub(crate) struct Known<K> {
    names: BTreeSet<K>,
    complete: bool,
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self {
            names: BTreeSet::new(),
            complete: false,
        }
    }
}

impl<K: Ord + Clone> Known<K> {
    /// Whether they were listed once.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Every object that was told of, by name; None: it is gone.
    pub fn take<T>(&mut self, heard: Heard<T>, name: impl Fn(&T) -> K) -> Vec<(K, Option<T>)> {
        let (objects, gone): (_, BTreeSet<K>) = match heard {
            Heard::Applied(object) => (vec![object], BTreeSet::new()),
            Heard::Deleted(object) => (Vec::new(), BTreeSet::from([name(&object)])),
            Heard::All(objects) => {
                self.complete = true;
                let there: BTreeSet<K> = objects.iter().map(&name).collect();
                let gone = self.names.difference(&there).cloned().collect();
                (objects, gone)
            }
        };
        self.names.retain(|name| !gone.contains(name));
        let mut each: Vec<_> = gone.into_iter().map(|name| (name, None)).collect();
        for object in objects {
            let name = name(&object);
            self.names.insert(name.clone());
            each.push((name, Some(object)));
        }
        each
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_by_silence_what_is_gone() {
        let mut known = Known::default();
        let mut take = |heard| -> Vec<(char, Option<&str>)> {
            known.take(heard, |text: &&str| text.chars().next().unwrap())
        };
        assert_eq!(take(Heard::Applied("a1")), [('a', Some("a1"))]);
        assert_eq!(take(Heard::Deleted("a1")), [('a', None)]);
        assert_eq!(
            take(Heard::All(vec!["b1", "c1"])),
            [('b', Some("b1")), ('c', Some("c1"))]
        );
        assert_eq!(
            take(Heard::All(vec!["c2"])),
            [('b', None), ('c', Some("c2"))]
        );
        assert_eq!(take(Heard::All(Vec::new())), [('c', None)]);
        assert!(known.is_complete());
    }
}
