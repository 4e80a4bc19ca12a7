//! Who asks for what: the vocabulary that routing, authorization and admission share.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

/// The authenticated user of a request (`authentication.k8s.io/v1 UserInfo`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// `system:anonymous`, `system:node:NAME`, `system:serviceaccount:NS:NAME`, …
    pub name: String,
    /// Empty where the authenticator knows none.
    pub uid: String,
    /// Includes `system:authenticated` or `system:unauthenticated`.
    pub groups: Vec<String>,
    /// For example `authentication.kubernetes.io/pod-name` of a bound service account token.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a request asks for, in the authorizer's words (`authorization.k8s.io/v1`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `get list watch create update patch delete deletecollection`, or the HTTP method in lower case for a path.
    pub verb: String,
    /// API group; empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource name; empty for a non-resource request.
    pub resource: String,
    /// For example `status`, `log`, `approval`; empty for the object itself.
    pub subresource: String,
    /// Empty for cluster scope and for lists over all namespaces.
    pub namespace: String,
    /// Empty where the request names none; for list and watch, the name pinned by `fieldSelector=metadata.name=…`.
    pub name: String,
    /// The URL's path: all there is of a non-resource request.
    pub path: String,
}

/// Read access to stored objects for authorizers and admission; one consistent snapshot is not promised between calls.
pub trait Objects: Send + Sync {
    /// One object, or none.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// All objects of a resource; an empty namespace means every namespace.
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>>;
}
