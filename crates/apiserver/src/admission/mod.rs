//! Admission: what an authorized write must still satisfy, and what the server fills in.
//!
//! [`admit`] runs after authorization and before validation and storage, on the whole new object: for an update the
//! merged one, for a deletion null (the stored object is in `old`). Each step is one of Kubernetes' admission plug-ins,
//! in Kubernetes' order; the first refusal wins. Webhooks do not exist here.

mod certificates;
mod escalation;
mod namespaces;
mod nodes;
mod pods;
mod service_account;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    attributes::{Attributes, Objects, UserInfo},
    auth::{fields::text, refuse},
    status::Status,
};

/// Priority of `system-node-critical`.
pub const NODE_CRITICAL: i64 = 2_000_001_000;
/// Priority of `system-cluster-critical`.
pub const CLUSTER_CRITICAL: i64 = 2_000_000_000;

/// One write, as admission sees it.
pub struct Request<'a> {
    /// Who writes.
    pub user: &'a UserInfo,
    /// What was authorized: verb, resource, subresource, namespace, name.
    pub attributes: &'a Attributes,
    /// The stored object; none for a creation.
    pub old: Option<&'a Value>,
    /// Everything else that is stored.
    pub objects: &'a dyn Objects,
    /// The server's clock.
    pub now: Timestamp,
}

/// What a write does to an object, whichever verb asked for it (a patch may create).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Create,
    Update,
    Delete,
}

/// Checks a write and completes the object; call it for create, update, patch, delete and every object of a
/// deletecollection, and for creations through subresources (`binding`, `eviction`, `token`).
///
/// # Errors
/// 403 with the plug-in's text, 404 for a namespace that does not exist, 422 for a change of what cannot change.
pub fn admit(request: &Request<'_>, object: &mut Value) -> Result<(), Status> {
    namespaces::admit(request, object)?;
    service_account::admit(request, object)?;
    nodes::restrict(request, object)?;
    nodes::taint_new(request, object);
    pods::set_priority(request, object)?;
    pods::default_tolerations(request, object);
    certificates::admit(request, object)?;
    escalation::admit(request, object)
}

impl Request<'_> {
    fn operation(&self) -> Operation {
        match (self.attributes.verb.as_str(), self.old) {
            ("delete" | "deletecollection", _) => Operation::Delete,
            (_, None) => Operation::Create,
            (_, Some(_)) => Operation::Update,
        }
    }

    /// Whether the write is about this resource itself, not a subresource.
    fn is(&self, group: &str, resource: &str) -> bool {
        self.is_part(group, resource, "")
    }

    fn is_part(&self, group: &str, resource: &str, subresource: &str) -> bool {
        let a = self.attributes;
        a.group == group && a.resource == resource && a.subresource == subresource
    }

    fn creates(&self, group: &str, resource: &str) -> bool {
        self.operation() == Operation::Create && self.is(group, resource)
    }

    /// 403 that names the object the way Kubernetes does, also when the server is still to choose its name.
    fn forbid(&self, object: &Value, why: impl AsRef<str>) -> Status {
        let a = self.attributes;
        let candidates = [
            a.name.as_str(),
            text(object, "/metadata/name"),
            text(object, "/metadata/generateName"),
        ];
        let name = candidates.into_iter().find(|name| !name.is_empty());
        refuse(
            &a.group,
            &a.resource,
            name.unwrap_or("Unknown"),
            why.as_ref(),
        )
    }
}

#[cfg(test)]
mod tests;
