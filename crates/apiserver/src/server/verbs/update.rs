//! `update` and `patch`: work out the new object on the stored one, and start over if that has changed meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::{ATTEMPTS, create::insert};
use crate::{
    api::{
        delete, errors, fields,
        patch::{self, PatchType},
        write::{self, Target},
    },
    attributes::Attributes,
    server::{Body, call::Call},
    status::Status,
    store::{self, Action, Expect},
};

/// `PUT` of an object or one of its parts.
///
/// # Errors
/// 404 when there is no such object (some kinds are created instead), 409 for a stale `resourceVersion`, and what
/// reading, admission and validation refuse with.
pub async fn update(call: &Call, body: Bytes) -> Result<Response<Body>, Status> {
    let input = call.read(&body)?;
    let changed = modify(call, call.target(), &mut |_| Ok(input.object.clone())).await?;
    if let Some(object) = changed {
        return Ok(call.answer(200, &object, &input.warnings));
    }
    if !call.resource.create_on_update || !call.attributes.subresource.is_empty() {
        return Err(call.not_found());
    }
    let object = create_instead(call, &input.object).await?;
    Ok(call.answer(201, &object, &input.warnings))
}

/// `PATCH` of an object or one of its parts.
///
/// # Errors
/// As [`update`], and 415 or 422 for the patch itself.
pub async fn patch(call: &Call, body: Bytes) -> Result<Response<Body>, Status> {
    let patch_type = PatchType::parse(call.content_type.as_deref())?;
    let mode = call.field_validation()?;
    let options = patch::Options {
        force: call.params.flag("force"),
        field_manager: call.params.get("fieldManager").unwrap_or(""),
    };
    let mut warnings = Vec::new();
    let mut patched = |current: Option<&Value>| {
        let patched = patch::apply(call.resource, patch_type, current, &body, options)?;
        let mut object = patched.object;
        warnings = patched.warnings;
        warnings.extend(fields::check(mode, &mut object, &patched.duplicates)?);
        Ok(object)
    };
    if let Some(object) = modify(call, call.target(), &mut |old| patched(Some(old))).await? {
        return Ok(call.answer(200, &object, &warnings));
    }
    if patch_type != PatchType::Apply || !call.attributes.subresource.is_empty() {
        return Err(call.not_found());
    }
    let object = write::accept(&call.target(), patched(None)?)?;
    let object = create_instead(call, &object).await?;
    Ok(call.answer(201, &object, &warnings))
}

/// A write to an object that does not exist makes it, if the user may create it.
async fn create_instead(call: &Call, object: &Value) -> Result<Arc<Value>, Status> {
    call.authorize(&Attributes {
        verb: "create".to_owned(),
        ..call.attributes.clone()
    })?;
    insert(call, object).await
}

/// Makes the new object of the stored one; called again when that has changed meanwhile.
pub type Change<'a> = &'a mut (dyn FnMut(&Value) -> Result<Value, Status> + Send);

/// Stores what `change` makes of the stored object; none if there is no such object.
///
/// # Errors
/// What `change`, admission and validation refuse with; 409 when other writes always come first.
pub async fn modify(
    call: &Call,
    target: Target<'_>,
    change: Change<'_>,
) -> Result<Option<Arc<Value>>, Status> {
    let key = call.key();
    for _ in 0..ATTEMPTS {
        let Some(current) = call.inner.store.get(&key) else {
            return Ok(None);
        };
        let old = &*current.value;
        let mut new = change(old)?;
        write::prepare_update(&target, old, &mut new)?;
        call.admit(Some(old), &mut new)?;
        let _addresses = call
            .inner
            .services
            .assign(call, Some(old), &mut new)
            .await?;
        write::finish_update(&target, old, &mut new)?;
        if write::is_unchanged(old, &new) {
            return Ok(Some(current.value));
        }
        if call.dry_run {
            return Ok(Some(Arc::new(new)));
        }
        let action = match delete::is_finished(call.resource, &new) {
            true => Action::Delete(new),
            false => Action::Put(new),
        };
        let change = store::Change {
            key: key.clone(),
            expect: Expect::Revision(current.revision),
            action,
        };
        if let Ok(object) = call.commit(change).await? {
            return Ok(Some(object.value));
        }
    }
    Err(errors::modified(call.resource, target.name))
}
