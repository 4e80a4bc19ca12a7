//! One request about a resource, on its way through a verb.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use serde_json::Value;

use super::{Body, Inner, params::Params, respond};
use crate::{
    admission,
    api::{
        self, errors, fields,
        negotiate::Accept,
        resources::Resource,
        write::{self, Target},
    },
    attributes::{Attributes, UserInfo},
    auth,
    status::Status,
    store::{Change, Collection, CommitError, Key, Object},
};

/// A request that is authorized and whose resource exists.
pub(super) struct Call {
    pub inner: Arc<Inner>,
    pub user: UserInfo,
    /// What was authorized.
    pub attributes: Attributes,
    /// In the version of the URL.
    pub resource: &'static Resource,
    pub params: Params,
    pub accept: Accept,
    pub content_type: Option<String>,
    pub now: Timestamp,
    /// Everything but the write itself.
    pub dry_run: bool,
}

/// A body, read and brought to the stored version.
pub(super) struct Input {
    pub object: Value,
    /// For `Warning` headers.
    pub warnings: Vec<String>,
}

impl Call {
    /// The time of the request as objects have it: RFC 3339 in UTC, whole seconds.
    pub fn time(&self) -> String {
        let seconds = Timestamp::from_second(self.now.as_second());
        seconds.unwrap_or(self.now).to_string()
    }

    /// The object the URL names.
    pub fn target(&self) -> Target<'_> {
        let namespaced = self.resource.namespaced;
        Target {
            resource: self.resource,
            subresource: &self.attributes.subresource,
            // The authorizer knows a namespace as being in itself; the store does not.
            namespace: if namespaced {
                &self.attributes.namespace
            } else {
                ""
            },
            name: self.url_name(),
        }
    }

    /// The same without the subresource.
    pub fn whole(&self) -> Target<'_> {
        Target {
            subresource: "",
            ..self.target()
        }
    }

    /// The name in the URL; what a field selector pins is not one.
    fn url_name(&self) -> &str {
        match self.attributes.verb.as_str() {
            "list" | "watch" | "deletecollection" => "",
            _ => &self.attributes.name,
        }
    }

    pub fn collection(&self) -> Collection {
        let (group, plural) = self.resource.storage;
        Collection::new(group, plural)
    }

    /// The key of the object the URL names.
    pub fn key(&self) -> Key {
        self.key_of(self.target().name)
    }

    /// The key of an object in the URL's namespace.
    pub fn key_of(&self, name: &str) -> Key {
        Key::new(self.collection(), self.target().namespace, name)
    }

    /// The object the URL names.
    ///
    /// # Errors
    /// 404 when it is not there.
    pub fn stored(&self) -> Result<Object, Status> {
        let object = self.inner.store.get(&self.key());
        object.ok_or_else(|| self.not_found())
    }

    pub fn not_found(&self) -> Status {
        errors::not_found(self.resource, self.target().name)
    }

    /// Reads a body of the target's kind.
    ///
    /// # Errors
    /// 400, 415 and 422 as the body deserves.
    pub fn read(&self, body: &Bytes) -> Result<Input, Status> {
        let target = self.target();
        let kind = target.part().map_or(self.resource.kind, |part| part.kind);
        let body = api::negotiate::Body::read(self.content_type.as_deref(), body, kind)?;
        let mut object = write::accept(&target, body.value)?;
        let warnings = fields::check(self.field_validation()?, &mut object, &body.duplicates)?;
        Ok(Input { object, warnings })
    }

    pub fn field_validation(&self) -> Result<fields::Mode, Status> {
        fields::Mode::parse(self.params.get("fieldValidation"))
    }

    /// May the user do this as well?
    ///
    /// # Errors
    /// 403 if not.
    pub fn authorize(&self, attributes: &Attributes) -> Result<(), Status> {
        auth::authorize(&self.user, attributes, &self.inner.objects)
    }

    /// Runs admission with this request's own attributes.
    ///
    /// # Errors
    /// What admission refuses with.
    pub fn admit(&self, old: Option<&Value>, object: &mut Value) -> Result<(), Status> {
        self.admit_as(&self.attributes, old, object)
    }

    /// Runs admission.
    ///
    /// # Errors
    /// What admission refuses with.
    pub fn admit_as(
        &self,
        attributes: &Attributes,
        old: Option<&Value>,
        object: &mut Value,
    ) -> Result<(), Status> {
        let request = admission::Request {
            user: &self.user,
            attributes,
            old,
            objects: &self.inner.objects,
            now: self.now,
        };
        admission::admit(&request, object)
    }

    /// Writes; losing against another write is left to the caller.
    ///
    /// # Errors
    /// 500 and 503 when nothing can be written.
    pub async fn commit(&self, change: Change) -> Result<Result<Object, Lost>, Status> {
        match self.inner.store.commit(change).await {
            Ok(object) => Ok(Ok(object)),
            Err(CommitError::Exists | CommitError::Conflict(_)) => Ok(Err(Lost)),
            Err(CommitError::Disk(why)) => {
                Err(Status::internal(format!("cannot store the object: {why}")))
            }
            Err(CommitError::Closed) => Err(unavailable()),
        }
    }

    /// Shows a stored object as the client wants it.
    pub fn answer(&self, code: u16, object: &Value, warnings: &[String]) -> Response<Body> {
        let shown = self.accept.object(self.resource, object, self.now);
        let mut warnings = warnings.to_vec();
        if code == 201 {
            warnings.extend(self.resource.notice());
        }
        self.plain(code, &shown, &warnings)
    }

    /// Writes a document that is no stored object as the client wants it.
    pub fn plain(&self, code: u16, document: &Value, warnings: &[String]) -> Response<Body> {
        let mut response = respond::answer(&self.accept, code, document);
        respond::warn(&mut response, warnings);
        response
    }
}

/// Another write came first.
pub(super) struct Lost;

/// 503: the server is going down.
pub(super) fn unavailable() -> Status {
    Status::new(
        503,
        "ServiceUnavailable",
        "the server is shutting down; try again",
    )
}
