//! The store as authorizers and admission read it.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    attributes::Objects,
    store::{Collection, Key, Store},
};

/// Stored objects by group and plural name.
pub(super) struct StoredObjects(pub Arc<dyn Store>);

impl Objects for StoredObjects {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let key = Key::new(Collection::new(group, resource), namespace, name);
        self.0.get(&key).map(|object| object.value)
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let snapshot = self.0.list(&Collection::new(group, resource), namespace);
        let objects = snapshot.objects.into_iter();
        objects.map(|object| object.value).collect()
    }
}
