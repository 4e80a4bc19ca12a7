//! Names of objects and of the collections they are in.

use std::{fmt, sync::Arc};

/// The objects of one resource, `group/resource`: `/pods`, `apps/daemonsets`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Collection(Arc<str>);

impl Collection {
    /// The collection of a resource; the core group is empty.
    pub fn new(group: &str, resource: &str) -> Self {
        Self(format!("{group}/{resource}").into())
    }

    /// A collection from its text.
    pub(super) fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// `group/resource`
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Where it is.
    pub collection: Collection,
    /// `namespace/name`; an object of cluster scope has an empty namespace.
    place: Box<str>,
}

impl Key {
    /// The key of an object; neither part may contain a slash, which names in the API cannot.
    pub fn new(collection: Collection, namespace: &str, name: &str) -> Self {
        let place = place(namespace, name).into();
        Self { collection, place }
    }

    /// `namespace/name` within the collection.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// How the key stands in the database: `group/resource/namespace/name`.
    pub(super) fn to_text(&self) -> String {
        format!("{}/{}", self.collection, self.place)
    }

    /// Reads [`Key::to_text`].
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let group = text.find('/')?;
        let resource = group + 1 + text[group + 1..].find('/')?;
        let (collection, place) = (&text[..resource], &text[resource + 1..]);
        place.contains('/').then(|| Self {
            collection: Collection::from_text(collection),
            place: place.into(),
        })
    }
}

/// `namespace/name`
pub(super) fn place(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}
