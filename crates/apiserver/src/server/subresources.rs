//! The parts of objects that are more than a part of their fields.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{
    Body, body,
    call::{Call, Lost},
    verbs,
};
use crate::{
    api::{
        delete::DeleteOptions,
        errors, fields,
        patch::{self, PatchType},
        scale,
    },
    auth::{self, fields::items, fields::text},
    proxy,
    status::Status,
    store::{Action, Change, Collection, Expect, Key, Object},
};

/// Answers a request for a part that has an answer of its own; hands the request back if it is one of the fields.
///
/// # Errors
/// Whatever the part refuses with.
pub(super) async fn serve(
    call: &Call,
    request: Request<Body>,
) -> Result<Result<Response<Body>, Request<Body>>, Status> {
    let part = (call.resource.plural, call.attributes.subresource.as_str());
    let answer = match part {
        ("pods", "log" | "exec" | "attach" | "portforward") => stream(call, request).await,
        ("pods", "binding") => bind(call, body::read(request).await?).await,
        ("pods", "eviction") => evict(call, body::read(request).await?).await,
        ("serviceaccounts", "token") => token(call, &body::read(request).await?),
        ("nodes", "proxy") => Err(Status::new(
            501,
            "NotImplemented",
            "this server does not pass requests on to nodes; ask the node's port 10250 itself",
        )),
        (_, "scale") => self::scale(call, body::read(request).await?).await,
        _ => return Ok(Err(request)),
    };
    answer.map(Ok)
}

async fn stream(call: &Call, request: Request<Body>) -> Result<Response<Body>, Status> {
    let pod = call.stored()?.value;
    let node = Key::new(
        Collection::new("", "nodes"),
        "",
        text(&pod, "/spec/nodeName"),
    );
    let node = call.inner.store.get(&node).map(|node| node.value);
    let (node, client) = (node.as_deref(), &call.inner.nodes);
    let response = match call.attributes.subresource.as_str() {
        "log" => proxy::logs(request, &pod, node, client).await?,
        "exec" => proxy::exec(request, &pod, node, client).await?,
        "attach" => proxy::attach(request, &pod, node, client).await?,
        _ => proxy::port_forward(request, &pod, node, client).await?,
    };
    Ok(response.map(BodyExt::boxed_unsync))
}

/// `POST pods/NAME/binding`: the scheduler's decision.
async fn bind(call: &Call, bytes: Bytes) -> Result<Response<Body>, Status> {
    let input = call.read(&bytes)?;
    let mut binding = input.object;
    let node = text(&binding, "/target/name").to_owned();
    if node.is_empty() {
        let error = errors::FieldError::required("target.name", "");
        return Err(errors::invalid("", "Binding", call.target().name, &[error]));
    }
    call.admit(None, &mut binding)?;
    loop {
        let current = call.stored()?;
        let pod = bound(call, &current.value, &binding, &node)?;
        if call.dry_run || replace(call, &current, pod).await?.is_ok() {
            return Ok(created());
        }
    }
}

fn bound(call: &Call, pod: &Value, binding: &Value, node: &str) -> Result<Value, Status> {
    let name = text(pod, "/metadata/name");
    let refuse = |why: String| errors::conflict(call.resource, name, &why);
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return Err(refuse(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        )));
    }
    let assigned = text(pod, "/spec/nodeName");
    if !assigned.is_empty() {
        return Err(refuse(format!(
            "pod {name} is already assigned to node \"{assigned}\""
        )));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = node.into();
    let annotations = binding
        .pointer("/metadata/annotations")
        .and_then(Value::as_object);
    for (key, value) in annotations.into_iter().flatten() {
        pod["metadata"]["annotations"][key] = value.clone();
    }
    let kept = items(&pod, "/status/conditions").iter();
    let mut conditions: Vec<_> = kept
        .filter(|condition| text(condition, "/type") != "PodScheduled")
        .cloned()
        .collect();
    conditions.push(json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": call.time(),
    }));
    pod["status"]["conditions"] = conditions.into();
    Ok(pod)
}

async fn replace(
    call: &Call,
    current: &Object,
    new: Value,
) -> Result<Result<Object, Lost>, Status> {
    let change = Change {
        key: call.key(),
        expect: Expect::Revision(current.revision),
        action: Action::Put(new),
    };
    call.commit(change).await
}

/// `POST pods/NAME/eviction`. There are no disruption budgets here, so an eviction is a deletion.
async fn evict(call: &Call, bytes: Bytes) -> Result<Response<Body>, Status> {
    let input = call.read(&bytes)?;
    let mut eviction = input.object;
    call.stored()?;
    call.admit(None, &mut eviction)?;
    let options = eviction.get("deleteOptions").cloned().unwrap_or_default();
    let options = DeleteOptions::parse(&options, call.params.pairs())?;
    verbs::remove(call, &call.key(), &options, false).await?;
    Ok(created())
}

/// The answer to a creation that leaves no object of its own.
fn created() -> Response<Body> {
    super::respond::json(
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    )
}

/// `POST serviceaccounts/NAME/token`.
fn token(call: &Call, bytes: &Bytes) -> Result<Response<Body>, Status> {
    let input = call.read(bytes)?;
    let mut request = input.object;
    let account = call.stored()?;
    call.admit(None, &mut request)?;
    let inner = &call.inner;
    let answer = auth::token_request(
        &inner.auth,
        &account.value,
        request,
        &inner.objects,
        call.now,
    )?;
    Ok(call.plain(201, &answer, &input.warnings))
}

/// `GET`, `PUT` and `PATCH` of `scale`.
async fn scale(call: &Call, bytes: Bytes) -> Result<Response<Body>, Status> {
    let mut warnings = Vec::new();
    let changed = match call.attributes.verb.as_str() {
        "get" => Some(call.stored()?.value),
        "update" => {
            let input = call.read(&bytes)?;
            warnings = input.warnings;
            verbs::modify(call, call.whole(), &mut |old| {
                scale::put(old, &input.object)
            })
            .await?
        }
        _ => {
            let patch_type = PatchType::parse(call.content_type.as_deref())?;
            let mode = call.field_validation()?;
            if patch_type == PatchType::Apply {
                let types = "application/json-patch+json, application/merge-patch+json";
                return Err(errors::unsupported_body(types));
            }
            let mut change = |old: &Value| {
                let mut scale = scale::get(old);
                let duplicates = patch::merge(patch_type, &mut scale, &bytes)?;
                warnings = fields::check(mode, &mut scale, &duplicates)?;
                scale::put(old, &scale)
            };
            verbs::modify(call, call.whole(), &mut change).await?
        }
    };
    let object = changed.ok_or_else(|| call.not_found())?;
    Ok(call.plain(200, &scale::get(&object), &warnings))
}
