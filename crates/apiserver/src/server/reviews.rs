//! Reviews: objects that are questions. They are answered, never stored.

use bytes::Bytes;
use http::Response;

use super::{Body, call::Call};
use crate::{api::errors, auth::reviews, status::Status};

/// `POST` of a review.
///
/// # Errors
/// 400 and 422 for a question that cannot be understood.
pub(super) fn answer(call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
    let input = call.read(body)?;
    let mut question = input.object;
    call.admit(None, &mut question)?;
    let (user, objects) = (&call.user, &call.inner.objects);
    let answer = match call.resource.plural {
        "subjectaccessreviews" => reviews::subject_access_review(question, objects),
        "localsubjectaccessreviews" => {
            reviews::local_subject_access_review(call.target().namespace, question, objects)
        }
        "selfsubjectaccessreviews" => reviews::self_subject_access_review(user, question, objects),
        "selfsubjectrulesreviews" => reviews::self_subject_rules_review(user, question, objects),
        "tokenreviews" => reviews::token_review(&call.inner.auth, question, objects, call.now),
        "selfsubjectreviews" => reviews::self_subject_review(user, question),
        _ => Err(errors::no_such_resource()),
    }?;
    Ok(call.plain(201, &answer, &input.warnings))
}
