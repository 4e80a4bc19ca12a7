//! `delete` and `deletecollection`.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::{ATTEMPTS, Selection};
use crate::{
    api::{
        self,
        delete::{self, DeleteOptions, Deletion},
        errors,
    },
    attributes::Attributes,
    auth::fields::text,
    server::{Body, call::Call},
    status::Status,
    store::{Action, Change, Expect, Key},
};

/// `DELETE` of one object: 200 with a Status when it is gone, with the object when it stays for a while.
///
/// # Errors
/// 404, 409 when a precondition does not hold, and what admission refuses with.
pub async fn delete(call: &Call, body: Bytes) -> Result<Response<Body>, Status> {
    let options = options(call, &body)?;
    let removed = remove(call, &call.key(), &options, true).await?;
    Ok(match removed {
        Removed::Gone(object) => call.plain(200, &delete::success(call.resource, &object), &[]),
        Removed::Going(object) => call.answer(200, &object, &[]),
    })
}

/// `DELETE` of a collection: every selected object by itself, in no transaction.
///
/// # Errors
/// The first refusal; objects before it are gone.
pub async fn delete_collection(call: &Call, body: Bytes) -> Result<Response<Body>, Status> {
    let options = options(call, &body)?;
    let selection = Selection::of(call)?;
    let listed = call
        .inner
        .store
        .list(&call.collection(), call.target().namespace);
    let mut removed = Vec::new();
    for object in listed.objects {
        if !selection.matches(&object.value) {
            continue;
        }
        let place = |field| text(&object.value, field);
        let key = Key::new(
            call.collection(),
            place("/metadata/namespace"),
            place("/metadata/name"),
        );
        match remove(call, &key, &options, true).await {
            Ok(Removed::Gone(object) | Removed::Going(object)) => removed.push(object),
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let revision = call.inner.store.revision();
    let items = removed.iter().map(|object| &**object);
    let list = call.accept.list(call.resource, items, revision, call.now);
    Ok(call.plain(200, &list, &[]))
}

/// What became of an object.
pub enum Removed {
    /// It is not there any more; its last state.
    Gone(Arc<Value>),
    /// It is marked, and goes when its grace period or its finalizers are over.
    Going(Arc<Value>),
}

/// Deletes one object as far as it lets itself be deleted.
///
/// # Errors
/// 404, 409 when a precondition does not hold, and, with `admit`, what admission refuses with.
pub async fn remove(
    call: &Call,
    key: &Key,
    options: &DeleteOptions,
    admit: bool,
) -> Result<Removed, Status> {
    let name = key.place().rsplit('/').next().unwrap_or("");
    let attributes = Attributes {
        name: name.to_owned(),
        ..call.attributes.clone()
    };
    for _ in 0..ATTEMPTS {
        let current = call.inner.store.get(key);
        let current = current.ok_or_else(|| errors::not_found(call.resource, name))?;
        let old = &*current.value;
        if admit {
            call.admit_as(&attributes, Some(old), &mut Value::Null)?;
        }
        let deletion = delete::delete(call.resource, old, options, call.now)?;
        let dry = call.dry_run || options.dry_run;
        let (action, gone) = match deletion {
            Deletion::Pending => return Ok(Removed::Going(current.value)),
            Deletion::Remove if dry => return Ok(Removed::Gone(current.value)),
            Deletion::Mark(marked) if dry => return Ok(Removed::Going(Arc::new(marked))),
            Deletion::Remove => (Action::Delete(old.clone()), true),
            Deletion::Mark(marked) => (Action::Put(marked), false),
        };
        let change = Change {
            key: key.clone(),
            expect: Expect::Revision(current.revision),
            action,
        };
        match call.commit(change).await? {
            Ok(object) if gone => return Ok(Removed::Gone(object.value)),
            Ok(object) => return Ok(Removed::Going(object.value)),
            Err(_) => {}
        }
    }
    Err(errors::modified(call.resource, name))
}

fn options(call: &Call, body: &Bytes) -> Result<DeleteOptions, Status> {
    let body = api::negotiate::Body::read(call.content_type.as_deref(), body, "DeleteOptions")?;
    DeleteOptions::parse(&body.value, call.params.pairs())
}
