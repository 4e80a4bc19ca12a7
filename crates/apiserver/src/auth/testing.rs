//! A little object store for tests.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::fields::text;
use crate::attributes::{Attributes, Objects, UserInfo};

type Key = (String, String, String, String);

/// Objects by group, resource, namespace and name.
#[derive(Default)]
pub(crate) struct Memory(BTreeMap<Key, Arc<Value>>);

impl Memory {
    /// A store with the default RBAC objects and the system namespaces.
    pub fn with_defaults() -> Self {
        let mut memory = Self::default();
        for object in super::default_objects() {
            let group = text(&object, "/apiVersion")
                .rsplit_once('/')
                .map_or("", |(group, _)| group)
                .to_owned();
            let resource = match text(&object, "/kind") {
                "PriorityClass" => "priorityclasses".to_owned(),
                kind => format!("{}s", kind.to_lowercase()),
            };
            memory.put(&group, &resource, object);
        }
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            memory.put(
                "",
                "namespaces",
                json!({"metadata": {"name": name}, "status": {"phase": "Active"}}),
            );
        }
        memory
    }

    pub fn put(&mut self, group: &str, resource: &str, object: Value) {
        let key = key(
            group,
            resource,
            text(&object, "/metadata/namespace"),
            text(&object, "/metadata/name"),
        );
        self.0.insert(key, Arc::new(object));
    }

    pub fn remove(&mut self, group: &str, resource: &str, namespace: &str, name: &str) {
        self.0.remove(&key(group, resource, namespace, name));
    }
}

fn key(group: &str, resource: &str, namespace: &str, name: &str) -> Key {
    (
        group.to_owned(),
        resource.to_owned(),
        namespace.to_owned(),
        name.to_owned(),
    )
}

impl Objects for Memory {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.0.get(&key(group, resource, namespace, name)).cloned()
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let wanted = |key: &Key| {
            key.0 == group && key.1 == resource && (namespace.is_empty() || key.2 == namespace)
        };
        self.0
            .iter()
            .filter(|(key, _)| wanted(key))
            .map(|(_, object)| object.clone())
            .collect()
    }
}

/// A user with groups (the authenticated group is added).
pub(crate) fn user(name: &str, groups: &[&str]) -> UserInfo {
    let groups = groups.iter().chain(&[super::AUTHENTICATED]);
    UserInfo {
        name: name.to_owned(),
        groups: groups.map(|group| (*group).to_owned()).collect(),
        ..UserInfo::default()
    }
}

/// The identity of a node.
pub(crate) fn node(name: &str) -> UserInfo {
    user(&format!("system:node:{name}"), &["system:nodes"])
}

/// `"get pods/log default/p1"`, `"list secrets.apps kube-system/"`, `"get nodes w1"`, `"get /version"`.
pub(crate) fn attributes(text: &str) -> Attributes {
    let mut words = text.split(' ');
    let verb = words.next().unwrap_or("").to_owned();
    let what = words.next().unwrap_or("");
    if what.starts_with('/') {
        return Attributes {
            verb,
            path: what.to_owned(),
            ..Attributes::default()
        };
    }
    let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let (namespace, name) = match words.next().unwrap_or("") {
        place if place.contains('/') => place.split_once('/').unwrap_or(("", "")),
        name => ("", name),
    };
    Attributes {
        verb,
        group: group.to_owned(),
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        path: String::new(),
    }
}
