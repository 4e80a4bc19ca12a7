//! `create`.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::ATTEMPTS;
use crate::{
    api::{errors, meta::Fresh, write},
    auth::fields::text,
    server::{Body, call::Call},
    status::Status,
    store::{Action, Change, Expect},
};

/// `POST` to a collection.
///
/// # Errors
/// What reading, admission and validation refuse with; 409 when the name is taken.
pub async fn create(call: &Call, body: Bytes) -> Result<Response<Body>, Status> {
    let input = call.read(&body)?;
    let object = insert(call, &input.object).await?;
    Ok(call.answer(201, &object, &input.warnings))
}

/// Completes, checks and stores a new object.
pub(super) async fn insert(call: &Call, object: &Value) -> Result<Arc<Value>, Status> {
    let target = call.whole();
    let generated = text(object, "/metadata/name").is_empty();
    for _ in 0..ATTEMPTS {
        let mut new = object.clone();
        write::prepare_create(&target, &mut new, &Fresh::random(call.now))?;
        call.admit(None, &mut new)?;
        // Held until the Service is stored, so that no other is given the same address meanwhile.
        let _addresses = call.inner.services.assign(call, None, &mut new).await?;
        write::finish_create(&target, &mut new)?;
        let name = text(&new, "/metadata/name").to_owned();
        let key = call.key_of(&name);
        if call.dry_run {
            if call.inner.store.get(&key).is_some() {
                return Err(errors::already_exists(call.resource, &name));
            }
            return Ok(Arc::new(new));
        }
        let change = Change {
            key,
            expect: Expect::Absent,
            action: Action::Put(new),
        };
        match call.commit(change).await? {
            Ok(object) => return Ok(object.value),
            Err(_) if generated => {}
            Err(_) => return Err(errors::already_exists(call.resource, &name)),
        }
    }
    let prefix = text(object, "/metadata/generateName");
    Err(errors::already_exists(call.resource, prefix))
}
