//! `get` and `list`. There is one state and it is in memory: every read is the most recent one.

use http::Response;
use serde_json::json;

use super::Selection;
use crate::{
    api::errors::{FieldError, invalid},
    server::{Body, call::Call, params::Params, respond},
    status::Status,
};

/// `GET` of an object.
///
/// # Errors
/// 404; 504 for a revision of the future.
pub fn get(call: &Call) -> Result<Response<Body>, Status> {
    let wanted = revision(&call.params)?;
    not_of_the_future(wanted, call.inner.store.revision())?;
    let object = call.stored()?;
    Ok(call.answer(200, &object.value, &[]))
}

/// `GET` of a collection. `limit` is ignored, as the API allows: the answer is always complete.
///
/// # Errors
/// 400 and 422 for parameters, 410 for an exact revision that is over, 504 for one of the future.
pub fn list(call: &Call) -> Result<Response<Body>, Status> {
    let selection = Selection::of(call)?;
    call.params.number("limit")?;
    if call.params.get("continue").is_some() {
        return Err(Status::bad_request(
            "invalid continue token: this server answers lists whole and hands out no such tokens",
        ));
    }
    let matching = Match::parse(&call.params)?;
    let wanted = revision(&call.params)?;
    let snapshot = call
        .inner
        .store
        .list(&call.collection(), call.target().namespace);
    not_of_the_future(wanted, snapshot.revision)?;
    if matching == Match::Exact && wanted != Some(snapshot.revision) {
        return Err(Status::new(
            410,
            "Expired",
            "The resourceVersion for the provided list is too old.",
        ));
    }
    let items = snapshot.objects.iter().map(|object| &*object.value);
    let selected = items.filter(|object| selection.matches(object));
    let list = call
        .accept
        .encode_list(call.resource, selected, snapshot.revision, call.now);
    Ok(respond::bytes(200, call.accept.content_type(), list))
}

/// The `resourceVersionMatch` parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    Unset,
    Exact,
    NotOlderThan,
}

impl Match {
    /// Reads the parameter of a list.
    fn parse(params: &Params) -> Result<Self, Status> {
        let matching = Self::read(params)?;
        let field = "resourceVersionMatch";
        if matching != Self::Unset && params.get("resourceVersion").is_none() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            return Err(bad_options(FieldError::forbidden(field, why)));
        }
        if matching == Self::Exact && params.get("resourceVersion") == Some("0") {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            return Err(bad_options(FieldError::forbidden(field, why)));
        }
        Ok(matching)
    }

    /// Reads the parameter alone.
    pub fn read(params: &Params) -> Result<Self, Status> {
        match params.get("resourceVersionMatch") {
            None => Ok(Self::Unset),
            Some("Exact") => Ok(Self::Exact),
            Some("NotOlderThan") => Ok(Self::NotOlderThan),
            Some(other) => Err(bad_options(FieldError::not_supported(
                "resourceVersionMatch",
                &other.into(),
                &["Exact", "NotOlderThan", ""],
            ))),
        }
    }
}

/// 422 about the parameters of a list or watch.
pub(super) fn bad_options(error: FieldError) -> Status {
    let mut status = invalid("meta.k8s.io", "ListOptions", "", &[error]);
    if let Some(details) = status.details.as_object_mut() {
        details.remove("name");
    }
    status
}

/// The `resourceVersion` parameter; `0` means any, as does none.
///
/// # Errors
/// 400 for anything but a number.
pub(super) fn revision(params: &Params) -> Result<Option<u64>, Status> {
    let number = params.number("resourceVersion")?;
    Ok(number.filter(|number| *number != 0))
}

pub(super) fn not_of_the_future(wanted: Option<u64>, current: u64) -> Result<(), Status> {
    let Some(wanted) = wanted.filter(|wanted| *wanted > current) else {
        return Ok(());
    };
    let cause =
        json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
    Err(Status {
        details: json!({"causes": [cause], "retryAfterSeconds": 1}),
        ..Status::new(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {wanted}, current: {current}"),
        )
    })
}
