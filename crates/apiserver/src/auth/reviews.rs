//! The review resources: questions about users and rights, answered and never stored.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    AuthConfig, decide,
    fields::{strings, text},
    rbac,
};
use crate::{
    attributes::{Attributes, Objects, UserInfo},
    status::Status,
};

const AUTHORIZATION: &str = "authorization.k8s.io/v1";
const AUTHENTICATION: &str = "authentication.k8s.io/v1";

/// `SubjectAccessReview`: may the user in the spec do this?
///
/// # Errors
/// 422 when the spec names neither or both kinds of attributes, or no user.
pub fn subject_access_review(body: Value, objects: &dyn Objects) -> Result<Value, Status> {
    let user = subject(&body)?;
    answer("SubjectAccessReview", &user, body, objects)
}

/// `LocalSubjectAccessReview`: the same within the namespace of the URL.
///
/// # Errors
/// As [`subject_access_review`]; also 422 when the spec asks about another namespace.
pub fn local_subject_access_review(
    namespace: &str,
    body: Value,
    objects: &dyn Objects,
) -> Result<Value, Status> {
    let asked = text(&body, "/spec/resourceAttributes/namespace");
    if asked != namespace {
        return Err(invalid(
            "LocalSubjectAccessReview",
            &format!(
                "spec.resourceAttributes.namespace: Invalid value: \"{asked}\": must match metadata.namespace"
            ),
        ));
    }
    let user = subject(&body)?;
    answer("LocalSubjectAccessReview", &user, body, objects)
}

/// `SelfSubjectAccessReview` (`kubectl auth can-i`): may I do this?
///
/// # Errors
/// 422 when the spec names neither or both kinds of attributes.
pub fn self_subject_access_review(
    user: &UserInfo,
    body: Value,
    objects: &dyn Objects,
) -> Result<Value, Status> {
    answer("SelfSubjectAccessReview", user, body, objects)
}

fn answer(
    kind: &str,
    user: &UserInfo,
    mut body: Value,
    objects: &dyn Objects,
) -> Result<Value, Status> {
    let attributes = attributes(kind, &body)?;
    let status = match decide(user, &attributes, objects) {
        Ok(()) => json!({"allowed": true}),
        Err(reason) if reason.is_empty() => json!({"allowed": false}),
        Err(reason) => json!({"allowed": false, "reason": reason}),
    };
    complete(&mut body, AUTHORIZATION, kind, status);
    Ok(body)
}

fn subject(body: &Value) -> Result<UserInfo, Status> {
    let user = UserInfo {
        name: text(body, "/spec/user").to_owned(),
        uid: text(body, "/spec/uid").to_owned(),
        groups: strings(body, "/spec/groups").map(str::to_owned).collect(),
        ..UserInfo::default()
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let what =
            "spec.user: Invalid value: \"\": at least one of user or group must be specified";
        return Err(invalid("SubjectAccessReview", what));
    }
    Ok(user)
}

fn attributes(kind: &str, body: &Value) -> Result<Attributes, Status> {
    let part = |name: &str| {
        body.pointer(&format!("/spec/{name}"))
            .filter(|v| !v.is_null())
    };
    let of = |value: &Value, field: &str| text(value, &format!("/{field}")).to_owned();
    match (part("resourceAttributes"), part("nonResourceAttributes")) {
        (Some(resource), None) => Ok(Attributes {
            verb: of(resource, "verb"),
            group: of(resource, "group"),
            version: of(resource, "version"),
            resource: of(resource, "resource"),
            subresource: of(resource, "subresource"),
            namespace: of(resource, "namespace"),
            name: of(resource, "name"),
            path: String::new(),
        }),
        (None, Some(other)) => Ok(Attributes {
            verb: of(other, "verb"),
            path: of(other, "path"),
            ..Attributes::default()
        }),
        (Some(_), Some(_)) => Err(invalid(
            kind,
            "spec.nonResourceAttributes: Invalid value: cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => Err(invalid(
            kind,
            "spec.resourceAttributes: Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
    }
}

/// `SelfSubjectRulesReview` (`kubectl auth can-i --list`): what may I do in a namespace?
///
/// A node's rights by relationship cannot be listed: then `incomplete` is set and says so.
///
/// # Errors
/// 400 when the spec names no namespace.
pub fn self_subject_rules_review(
    user: &UserInfo,
    mut body: Value,
    objects: &dyn Objects,
) -> Result<Value, Status> {
    let namespace = text(&body, "/spec/namespace").to_owned();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let mut rules = rbac::rules_for(user, &namespace, objects);
    if user.groups.iter().any(|group| group == super::SUPERUSERS) {
        rules.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        rules.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    let is_node = super::node::node_name(user).is_some();
    if is_node {
        rules.extend(super::defaults::node_rules().iter().cloned());
    }
    let (paths, resources): (Vec<_>, Vec<_>) = rules
        .into_iter()
        .partition(|rule| rule.get("nonResourceURLs").is_some());
    let mut status =
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": is_node});
    if is_node {
        status["evaluationError"] = "node authorizer does not support user rule resolution".into();
    }
    complete(&mut body, AUTHORIZATION, "SelfSubjectRulesReview", status);
    Ok(body)
}

/// `TokenReview`: whose bearer token is this? A bad token is an answer, not an error.
///
/// # Errors
/// 422 when the spec holds no token.
pub fn token_review(
    config: &AuthConfig,
    mut body: Value,
    objects: &dyn Objects,
    now: Timestamp,
) -> Result<Value, Status> {
    let token = text(&body, "/spec/token").to_owned();
    if token.is_empty() {
        return Err(Status::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let asked: Vec<String> = strings(&body, "/spec/audiences")
        .map(str::to_owned)
        .collect();
    let status = match review_token(config, &token, asked, (objects, now)) {
        Ok((user, audiences)) => {
            json!({"authenticated": true, "user": user_json(&user), "audiences": audiences})
        }
        Err(reason) => json!({"user": {}, "error": reason}),
    };
    // The answer does not repeat the token.
    body["spec"]["token"] = Value::from("");
    complete(&mut body, AUTHENTICATION, "TokenReview", status);
    Ok(body)
}

fn review_token(
    config: &AuthConfig,
    token: &str,
    mut asked: Vec<String>,
    (objects, now): (&dyn Objects, Timestamp),
) -> Result<(UserInfo, Vec<String>), String> {
    let own = config.service_account.issuer().to_owned();
    if asked.is_empty() {
        asked.push(own.clone());
    }
    if super::is_bootstrap_token(token) {
        // Bootstrap tokens are for this server only.
        if !asked.contains(&own) {
            return Err("token is not for this audience".to_owned());
        }
        let user = super::token_user(config, token, objects, now)?;
        return Ok((super::authenticated(user), vec![own]));
    }
    let verified = config.service_account.verify(token, &asked, objects, now)?;
    Ok((super::authenticated(verified.user), verified.audiences))
}

/// `SelfSubjectReview` (`kubectl auth whoami`): who am I?
///
/// # Errors
/// None today; the signature is that of its siblings.
pub fn self_subject_review(user: &UserInfo, mut body: Value) -> Result<Value, Status> {
    let status = json!({"userInfo": user_json(user)});
    complete(&mut body, AUTHENTICATION, "SelfSubjectReview", status);
    Ok(body)
}

/// A user as `UserInfo` on the wire.
pub fn user_json(user: &UserInfo) -> Value {
    let mut json = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        json["uid"] = user.uid.clone().into();
    }
    if !user.extra.is_empty() {
        json["extra"] = json!(user.extra);
    }
    json
}

fn complete(body: &mut Value, version: &str, kind: &str, status: Value) {
    if !body.is_object() {
        *body = json!({});
    }
    body["apiVersion"] = version.into();
    body["kind"] = kind.into();
    if !body.get("metadata").is_some_and(Value::is_object) {
        body["metadata"] = json!({});
    }
    body["status"] = status;
}

fn invalid(kind: &str, what: &str) -> Status {
    Status::new(
        422,
        "Invalid",
        format!("{kind}.authorization.k8s.io \"\" is invalid: {what}"),
    )
}
