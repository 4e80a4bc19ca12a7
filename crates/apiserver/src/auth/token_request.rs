//! TokenRequest: `POST serviceaccounts/NAME/token` makes a short-lived token, bound to an object if asked.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    AuthConfig,
    fields::{strings, text},
};
use crate::{attributes::Objects, status::Status};

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
/// The longest token handed out; a longer wish is shortened, as the API allows.
const MAX_SECONDS: i64 = 365 * 24 * 3600;

/// Answers a TokenRequest for the service account `account` (the stored object).
///
/// The caller has authorized `create serviceaccounts/token` and run admission.
///
/// # Errors
/// 404/409 when the bound object is not there or another than asked for, 422 for a duration under ten minutes.
pub fn token_request(
    config: &AuthConfig,
    account: &Value,
    mut body: Value,
    objects: &dyn Objects,
    now: Timestamp,
) -> Result<Value, Status> {
    if !body.is_object() {
        body = json!({});
    }
    let keys = &config.service_account;
    let mut audiences: Vec<String> = strings(&body, "/spec/audiences")
        .map(str::to_owned)
        .collect();
    if audiences.is_empty() {
        audiences.push(keys.issuer().to_owned());
    }
    let seconds = lifetime(&body)?;
    let exp = now + SignedDuration::from_secs(seconds);
    let namespace = text(account, "/metadata/namespace").to_owned();
    let name = text(account, "/metadata/name").to_owned();
    let mut private = json!({
        "namespace": namespace,
        "serviceaccount": {"name": name, "uid": text(account, "/metadata/uid")},
    });
    bind(&mut private, &body, objects)?;
    let claims = json!({
        "aud": audiences,
        "exp": exp.as_second(),
        "iat": now.as_second(),
        "iss": keys.issuer(),
        "jti": uuid::Uuid::new_v4().to_string(),
        "kubernetes.io": private,
        "nbf": now.as_second(),
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
    });
    let token = keys.sign(&claims).map_err(|e| {
        Status::internal(format!("cannot sign a token for {namespace}/{name}: {e}"))
    })?;
    body["kind"] = "TokenRequest".into();
    body["apiVersion"] = "authentication.k8s.io/v1".into();
    body["metadata"] =
        json!({"name": name, "namespace": namespace, "creationTimestamp": rfc3339(now)});
    let mut spec = json!({"audiences": audiences, "expirationSeconds": seconds});
    if let Some(bound) = body
        .pointer("/spec/boundObjectRef")
        .filter(|b| !b.is_null())
    {
        spec["boundObjectRef"] = bound.clone();
    }
    body["spec"] = spec;
    body["status"] = json!({"token": token, "expirationTimestamp": rfc3339(exp)});
    Ok(body)
}

fn lifetime(body: &Value) -> Result<i64, Status> {
    let seconds = match body.pointer("/spec/expirationSeconds") {
        None | Some(Value::Null) => DEFAULT_SECONDS,
        Some(value) => value.as_i64().ok_or_else(|| {
            Status::bad_request(format!(
                "spec.expirationSeconds: {value} is not a whole number of seconds"
            ))
        })?,
    };
    if seconds < MIN_SECONDS {
        return Err(Status::new(
            422,
            "Invalid",
            format!(
                "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: \
                 {seconds}: may not specify a duration less than 10 minutes"
            ),
        ));
    }
    Ok(seconds.min(MAX_SECONDS))
}

/// Writes the object the token is to be bound to into the claims, after looking that it is the one meant.
fn bind(private: &mut Value, body: &Value, objects: &dyn Objects) -> Result<(), Status> {
    let Some(bound) = body
        .pointer("/spec/boundObjectRef")
        .filter(|b| !b.is_null())
    else {
        return Ok(());
    };
    let namespace = text(private, "/namespace").to_owned();
    let (kind, name) = (text(bound, "/kind"), text(bound, "/name"));
    let (key, resource, namespace) = match kind {
        "Pod" => ("pod", "pods", namespace.as_str()),
        "Secret" => ("secret", "secrets", namespace.as_str()),
        "Node" => ("node", "nodes", ""),
        other => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {other}"
            )));
        }
    };
    let object = objects
        .get("", resource, namespace, name)
        .ok_or_else(|| Status::not_found(resource, name))?;
    let uid = text(&object, "/metadata/uid");
    let asked = text(bound, "/uid");
    if !asked.is_empty() && asked != uid {
        return Err(Status::new(
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on {resource} \"{name}\": the UID in the bound object reference \
                 ({asked}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        ));
    }
    private[key] = json!({"name": name, "uid": uid});
    if kind == "Pod" {
        bind_pod(private, &object, objects)?;
    }
    Ok(())
}

fn bind_pod(private: &mut Value, pod: &Value, objects: &dyn Objects) -> Result<(), Status> {
    let account = text(private, "/serviceaccount/name");
    if text(pod, "/spec/serviceAccountName") != account {
        return Err(Status::bad_request(format!(
            "cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name."
        )));
    }
    let node = text(pod, "/spec/nodeName");
    if let Some(object) = objects
        .get("", "nodes", "", node)
        .filter(|_| !node.is_empty())
    {
        private["node"] = json!({"name": node, "uid": text(&object, "/metadata/uid")});
    }
    Ok(())
}

/// A time as Kubernetes writes it: RFC 3339 in UTC, whole seconds.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}
