//! Deletion: at once, after a grace period, or when the last finalizer is done.
//!
//! Only pods have a grace period: their node needs time to stop them and confirms with a deletion of grace zero. A
//! namespace goes when its content is gone, which its controller says by emptying `spec.finalizers`. Dependents are the
//! garbage collector's business; the finalizers `orphan` and `foregroundDeletion` ask it to act before the object goes.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    errors,
    json::child,
    meta::{generation, uid_conflict},
    resources::Resource,
};
use crate::{
    auth::fields::{items, strings, text},
    status::Status,
};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Seconds a pod gets that does not say.
const DEFAULT_GRACE: i64 = 30;

/// What becomes of the dependents of a deleted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They stay and lose their owner.
    Orphan,
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
}

/// `metav1.DeleteOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds until a pod is killed; zero removes it at once.
    pub grace_period_seconds: Option<i64>,
    /// Delete only the object with this uid.
    pub uid: Option<String>,
    /// Delete only this version of the object.
    pub resource_version: Option<String>,
    /// What becomes of dependents; none is the resource's default.
    pub propagation: Option<Propagation>,
    /// Everything but the deletion itself.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Reads a body (null if there is none), then the decoded query's parameters, which fill in what the body leaves
    /// out.
    ///
    /// # Errors
    /// 400 for a body that is no DeleteOptions, 422 for values that are not valid.
    pub fn parse(body: &Value, query: &[(String, String)]) -> Result<Self, Status> {
        let kind = text(body, "/kind");
        if !(body.is_null() || body.is_object()) || !["", "DeleteOptions"].contains(&kind) {
            return Err(Status::bad_request(
                "the body of a deletion must be a DeleteOptions object",
            ));
        }
        let first = |key: &str| query.iter().find(|(k, v)| k == key && !v.is_empty());
        let from_query = |key: &str| first(key).map(|(_, value)| value.as_str());
        let owned = |pointer: &str| match text(body, pointer) {
            "" => None,
            value => Some(value.to_owned()),
        };
        let grace = match body.get("gracePeriodSeconds").filter(|v| !v.is_null()) {
            Some(value) => Some(value.as_i64().ok_or_else(|| bad_grace(value))?),
            None => from_query("gracePeriodSeconds")
                .map(|text| text.parse().map_err(|_| bad_grace(&text.into())))
                .transpose()?,
        };
        let policy = owned("/propagationPolicy");
        let policy = policy.as_deref().or(from_query("propagationPolicy"));
        let orphan = body.get("orphanDependents").and_then(Value::as_bool);
        let orphan = orphan.or(from_query("orphanDependents").map(|text| text == "true"));
        let mut dry_run: Vec<&str> = strings(body, "/dryRun").collect();
        dry_run.extend(from_query("dryRun"));
        if let Some(other) = dry_run.iter().find(|value| **value != "All") {
            let error = errors::FieldError::not_supported("dryRun", &(*other).into(), &["All"]);
            return Err(invalid(&error));
        }
        Ok(Self {
            grace_period_seconds: grace,
            uid: owned("/preconditions/uid"),
            resource_version: owned("/preconditions/resourceVersion"),
            propagation: propagation(policy, orphan)?,
            dry_run: !dry_run.is_empty(),
        })
    }
}

fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Propagation>, Status> {
    Ok(Some(match (policy, orphan) {
        (Some("Orphan"), _) | (None, Some(true)) => Propagation::Orphan,
        (Some("Background"), _) | (None, Some(false)) => Propagation::Background,
        (Some("Foreground"), _) => Propagation::Foreground,
        (None, None) => return Ok(None),
        (Some(other), _) => {
            let supported = ["Foreground", "Background", "Orphan"];
            let field = "propagationPolicy";
            let error = errors::FieldError::not_supported(field, &other.into(), &supported);
            return Err(invalid(&error));
        }
    }))
}

fn bad_grace(value: &Value) -> Status {
    Status::bad_request(format!(
        "gracePeriodSeconds must be a whole number, not {value}"
    ))
}

fn invalid(error: &errors::FieldError) -> Status {
    let errors = std::slice::from_ref(error);
    errors::invalid("meta.k8s.io", "DeleteOptions", "", errors)
}

/// What a deletion does to the store.
#[derive(Debug, Clone, PartialEq)]
pub enum Deletion {
    /// The object goes now; answer with [`success`].
    Remove,
    /// The object stays, marked: store it and answer with it.
    Mark(Value),
    /// It is being deleted already and nothing changes: answer with the stored object.
    Pending,
}

/// Decides a deletion.
///
/// # Errors
/// 409 when a precondition does not hold.
pub fn delete(
    resource: &'static Resource,
    object: &Value,
    options: &DeleteOptions,
    now: Timestamp,
) -> Result<Deletion, Status> {
    preconditions(resource, object, options)?;
    let mut marked = object.clone();
    set_propagation(&mut marked, options.propagation);
    let grace = grace(resource, object, options);
    match deletion_time(object) {
        Some(_) if current_grace(object) <= grace => {}
        // A shorter grace counts from the moment of the first deletion.
        Some(time) => mark(&mut marked, time - seconds(current_grace(object)), grace),
        None => {
            mark(&mut marked, now, grace);
            if generation(object) > 0 {
                let next = generation(object) + 1;
                child(&mut marked, "metadata").insert("generation".to_owned(), next.into());
            }
        }
    }
    if resource.kind == "Namespace" {
        child(&mut marked, "status").insert("phase".to_owned(), "Terminating".into());
    }
    Ok(if is_finished(resource, &marked) {
        Deletion::Remove
    } else if marked == *object {
        Deletion::Pending
    } else {
        Deletion::Mark(marked)
    })
}

fn preconditions(
    resource: &'static Resource,
    object: &Value,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let name = text(object, "/metadata/name");
    let uid = text(object, "/metadata/uid");
    if let Some(asked) = options.uid.as_deref().filter(|asked| *asked != uid) {
        return Err(uid_conflict(resource, name, asked, uid));
    }
    let version = text(object, "/metadata/resourceVersion");
    match &options.resource_version {
        Some(asked) if asked != version => Err(errors::conflict(
            resource,
            name,
            &format!(
                "Precondition failed: ResourceVersion in precondition: {asked}, \
                 ResourceVersion in object meta: {version}"
            ),
        )),
        _ => Ok(()),
    }
}

/// Seconds until the object may go: zero for everything but pods that run.
fn grace(resource: &Resource, pod: &Value, options: &DeleteOptions) -> i64 {
    let ended = ["Succeeded", "Failed"].contains(&text(pod, "/status/phase"));
    let waits = resource.kind == "Pod" && !text(pod, "/spec/nodeName").is_empty() && !ended;
    if !waits {
        return 0;
    }
    let own = pod
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_i64);
    // Already on its way: only an explicit wish can make it shorter.
    let own = match deletion_time(pod) {
        Some(_) => Some(current_grace(pod)),
        None => own,
    };
    match options.grace_period_seconds.or(own) {
        None => DEFAULT_GRACE,
        // By definition of the API, a negative wish is the shortest one that still asks the node.
        Some(negative) if negative < 0 => 1,
        Some(grace) => grace,
    }
}

fn deletion_time(object: &Value) -> Option<Timestamp> {
    text(object, "/metadata/deletionTimestamp").parse().ok()
}

fn current_grace(object: &Value) -> i64 {
    let grace = object.pointer("/metadata/deletionGracePeriodSeconds");
    grace.and_then(Value::as_i64).unwrap_or(0)
}

/// Saturates where the client's number is beyond any calendar.
fn seconds(seconds: i64) -> SignedDuration {
    const CENTURY: i64 = 100 * 366 * 24 * 3600;
    SignedDuration::from_secs(seconds.clamp(0, CENTURY))
}

fn mark(object: &mut Value, since: Timestamp, grace: i64) {
    let metadata = child(object, "metadata");
    let time = format!("{:.0}", since + seconds(grace));
    metadata.insert("deletionTimestamp".to_owned(), time.into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
}

fn set_propagation(object: &mut Value, propagation: Option<Propagation>) {
    let wanted = match propagation {
        // Nothing said: what an earlier deletion asked for stays.
        None => return,
        Some(Propagation::Background) => None,
        Some(Propagation::Orphan) => Some(ORPHAN),
        Some(Propagation::Foreground) => Some(FOREGROUND),
    };
    let mut finalizers: Vec<String> = strings(object, "/metadata/finalizers")
        .filter(|f| ![ORPHAN, FOREGROUND].contains(f))
        .map(str::to_owned)
        .collect();
    finalizers.extend(wanted.map(str::to_owned));
    let metadata = child(object, "metadata");
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), finalizers.into());
    }
}

/// Whether an object that was just updated is to be removed instead of stored: it is being deleted and nothing holds it
/// any more.
pub fn is_finished(resource: &'static Resource, object: &Value) -> bool {
    let guarded = resource.kind == "Namespace" && !items(object, "/spec/finalizers").is_empty();
    deletion_time(object).is_some()
        && current_grace(object) == 0
        && items(object, "/metadata/finalizers").is_empty()
        && !guarded
}

/// The answer to a deletion that removed the object.
pub fn success(resource: &'static Resource, object: &Value) -> Value {
    let mut details = json!({
        "name": object["metadata"]["name"], "kind": resource.plural, "uid": object["metadata"]["uid"],
    });
    if !resource.group.is_empty() {
        details["group"] = resource.group.into();
    }
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    })
}

#[cfg(test)]
mod tests;
