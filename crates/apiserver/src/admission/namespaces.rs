//! NamespaceLifecycle: nothing is created in a namespace that does not exist or is going away, and three never go.

use serde_json::{Value, json};

use super::{Operation, Request};
use crate::{auth::fields::text, status::Status};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) fn admit(request: &Request<'_>, object: &Value) -> Result<(), Status> {
    let a = request.attributes;
    if request.is("", "namespaces") {
        let immortal =
            request.operation() == Operation::Delete && IMMORTAL.contains(&a.name.as_str());
        return match immortal {
            true => Err(request.forbid(object, "this namespace may not be deleted")),
            false => Ok(()),
        };
    }
    // Reviews live in a namespace but are never stored in it.
    let review = a.group == "authorization.k8s.io";
    if a.namespace.is_empty() || review || request.operation() != Operation::Create {
        return Ok(());
    }
    let namespace = request
        .objects
        .get("", "namespaces", "", &a.namespace)
        .ok_or_else(|| Status::not_found("namespaces", &a.namespace))?;
    let deleted = namespace
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|t| !t.is_null());
    if !deleted && text(&namespace, "/status/phase") != "Terminating" {
        return Ok(());
    }
    // What subresources make (an eviction, a token) is not content of the namespace.
    if !a.subresource.is_empty() {
        return Ok(());
    }
    let mut status = request.forbid(
        object,
        format!(
            "unable to create new content in namespace {} because it is being terminated",
            a.namespace
        ),
    );
    status.details["causes"] = json!([{
        "reason": "NamespaceTerminating",
        "message": format!("namespace {} is being terminated", a.namespace),
        "field": "metadata.namespace",
    }]);
    Err(status)
}
