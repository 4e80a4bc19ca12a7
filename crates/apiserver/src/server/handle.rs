//! The way of a request: who, what, may they, do it.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderName, Method, Request, Response, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Body, Inner, body,
    call::Call,
    params::Params,
    paths, respond, reviews,
    route::{Route, route},
    subresources, verbs,
};
use crate::{
    api::{
        errors,
        negotiate::Accept,
        resources::{self, Resource},
    },
    attributes::{Attributes, UserInfo},
    auth,
    proxy::BoxError,
    status::Status,
};

/// Who is at the other end.
#[derive(Clone)]
pub(super) enum Caller {
    /// A TLS client, with its certificate if it showed one.
    Peer(Option<CertificateDer<'static>>),
    /// A part of this program that acts as a user.
    InProcess(UserInfo),
}

/// Answers a request.
pub(super) fn handle<B>(
    inner: Arc<Inner>,
    caller: Caller,
    request: Request<B>,
) -> BoxFuture<'static, Response<Body>>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    // The upgrade of an `exec` travels in the request's extensions, which stay.
    let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
    Box::pin(answer(inner, caller, request))
}

async fn answer(inner: Arc<Inner>, caller: Caller, request: Request<Body>) -> Response<Body> {
    let method = request.method().clone();
    let uri = request.uri().clone();
    let response = serve(inner, caller, request)
        .await
        .unwrap_or_else(|status| respond::refusal(&status));
    tracing::debug!(%method, path = uri.path(), code = response.status().as_u16(), "served");
    response
}

async fn serve(
    inner: Arc<Inner>,
    caller: Caller,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let now = Timestamp::now();
    let params = Params::parse(request.uri().query());
    let route = route(request.method(), request.uri().path(), &params);
    let _turn = turn(&inner, &caller, &route)?;
    let user = match caller {
        Caller::InProcess(user) => user,
        Caller::Peer(cert) => {
            let (auth, objects) = (&inner.auth, &inner.objects);
            auth::authenticate(auth, cert.as_ref(), request.headers(), objects, now)?
        }
    };
    let Route {
        mut attributes,
        rest,
    } = route;
    let resource = resources::find(&attributes.group, &attributes.version, &attributes.resource);
    if let Some(resource) = resource {
        pin_name(resource, &params, &mut attributes)?;
    }
    auth::authorize(&user, &attributes, &inner.objects)?;
    if attributes.resource.is_empty() {
        let (method, uri) = (request.method(), request.uri());
        let verbose = params.flag("verbose");
        return paths::serve(&inner, method, uri.path(), request.headers(), verbose);
    }
    let Some(resource) = resource else {
        return missing(&attributes);
    };
    check_verb(resource, &attributes, &rest, request.method())?;
    let accept = header(&request, header::ACCEPT);
    let call = Call {
        accept: Accept::parse(accept.as_deref(), params.get("includeObject"))?,
        content_type: header(&request, header::CONTENT_TYPE),
        dry_run: params.dry_run()?,
        inner,
        user,
        attributes,
        resource,
        params,
        now,
    };
    dispatch(&call, request).await
}

fn header(request: &Request<Body>, name: HeaderName) -> Option<String> {
    let value = request.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

/// A place among the requests that are worked on. Those that last by nature, and our own, do not count.
fn turn(
    inner: &Inner,
    caller: &Caller,
    route: &Route,
) -> Result<Option<OwnedSemaphorePermit>, Status> {
    let a = &route.attributes;
    let streams = ["log", "exec", "attach", "portforward"];
    let lasting = a.verb == "watch" || streams.contains(&a.subresource.as_str());
    if lasting || matches!(caller, Caller::InProcess(_)) {
        return Ok(None);
    }
    let turn = Arc::clone(&inner.in_flight).try_acquire_owned();
    turn.map(Some).map_err(|_| {
        Status::new(
            429,
            "TooManyRequests",
            "Too many requests, please try again later.",
        )
    })
}

/// Counts a name that the field selector pins as the request's name; a selector that is no good is the verb's to refuse.
fn pin_name(
    resource: &'static Resource,
    params: &Params,
    attributes: &mut Attributes,
) -> Result<(), Status> {
    if let Ok(selection) = verbs::Selection::parse(resource, params) {
        selection.pin(attributes);
    }
    Ok(())
}

/// The answer for a resource that does not exist.
fn missing(attributes: &Attributes) -> Result<Response<Body>, Status> {
    let (group, version) = (&attributes.group, &attributes.version);
    if resources::of(group, version).next().is_none() {
        return Ok(paths::page_not_found());
    }
    Err(errors::no_such_resource())
}

/// Whether the resource, or its part, has this verb at this place.
fn check_verb(
    resource: &'static Resource,
    a: &Attributes,
    rest: &str,
    method: &Method,
) -> Result<(), Status> {
    let whole = a.subresource.is_empty();
    let collective = ["list", "watch", "deletecollection"].contains(&a.verb.as_str());
    let single = !collective && a.verb != "create" || !whole;
    let is_namespace = resource.plural == "namespaces" && resource.group.is_empty();
    let in_namespace = !a.namespace.is_empty() && !is_namespace;
    // Objects in namespaces are only listed from outside of theirs.
    let misplaced = if resource.namespaced {
        !in_namespace && single
    } else {
        in_namespace
    };
    if misplaced || (!rest.is_empty() && a.subresource != "proxy") {
        return Err(errors::no_such_resource());
    }
    let from_outside = resource.namespaced && !in_namespace;
    if from_outside && !["list", "watch"].contains(&a.verb.as_str()) {
        return Err(errors::method_not_allowed());
    }
    let verbs = if whole {
        resource.verbs
    } else {
        let part = resource.subresource(&a.subresource);
        part.ok_or_else(errors::no_such_resource)?.verbs
    };
    let post_to_object = whole && a.verb == "create" && !a.name.is_empty();
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    let nameless = a.name.is_empty() && ["update", "patch"].contains(&a.verb.as_str());
    if !verbs.contains(&a.verb.as_str()) || post_to_object || nameless || !known.contains(method) {
        return Err(errors::method_not_allowed());
    }
    Ok(())
}

async fn dispatch(call: &Call, request: Request<Body>) -> Result<Response<Body>, Status> {
    let request = if call.attributes.subresource.is_empty() {
        request
    } else {
        match subresources::serve(call, request).await? {
            Ok(response) => return Ok(response),
            Err(request) => request,
        }
    };
    match call.attributes.verb.as_str() {
        "get" => verbs::get(call),
        "list" => verbs::list(call),
        "watch" => verbs::watch(call),
        "create" if !call.resource.is_stored() => {
            reviews::answer(call, &body::read(request).await?)
        }
        "create" => verbs::create(call, body::read(request).await?).await,
        "update" => verbs::update(call, body::read(request).await?).await,
        "patch" => verbs::patch(call, body::read(request).await?).await,
        "delete" => verbs::delete(call, body::read(request).await?).await,
        "deletecollection" => verbs::delete_collection(call, body::read(request).await?).await,
        _ => Err(errors::method_not_allowed()),
    }
}
