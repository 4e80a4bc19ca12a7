//! Certificate signing requests: who asked is written by the server, and who approves or signs must be allowed to.
//!
//! The approver decides on `spec.username` and `spec.groups`, so these come from authentication and can never be
//! changed. `approval` changes conditions only, `status` everything but the approval; each needs its own verb on the
//! signer (`approve`, `sign`), beside the right to write the subresource.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use x509_parser::{
    certification_request::X509CertificationRequest, pem::parse_x509_pem, prelude::FromDer,
};

use super::{Operation, Request};
use crate::{
    attributes::Attributes,
    auth::{
        decide,
        fields::{items, text},
        reviews::user_json,
    },
    status::Status,
};

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";

pub(super) fn admit(request: &Request<'_>, csr: &mut Value) -> Result<(), Status> {
    let a = request.attributes;
    let writes = request.operation() != Operation::Delete && csr.is_object();
    if a.group != GROUP || a.resource != RESOURCE || !writes {
        return Ok(());
    }
    let Some(old) = request.old else {
        stamp(request, csr);
        return restrict_subject(request, csr);
    };
    csr["spec"] = old["spec"].clone();
    match a.subresource.as_str() {
        "approval" => {
            keep(csr, old, "certificate");
            may(request, csr, "approve")
        }
        "status" => {
            keep_decision(csr, old);
            let issued = |csr: &Value| csr.pointer("/status/certificate").cloned();
            let failed = |csr: &Value| conditions(csr, |kind| kind == "Failed");
            if issued(csr) != issued(old) || failed(csr) != failed(old) {
                may(request, csr, "sign")?;
            }
            Ok(())
        }
        _ => {
            csr["status"] = old.get("status").cloned().unwrap_or_else(|| json!({}));
            Ok(())
        }
    }
}

/// Writes down who asks, whatever the request says.
fn stamp(request: &Request<'_>, csr: &mut Value) {
    if !csr.get("spec").is_some_and(Value::is_object) {
        csr["spec"] = json!({});
    }
    csr["status"] = json!({});
    let user = user_json(request.user);
    for field in ["username", "uid", "groups", "extra"] {
        match user.get(field) {
            Some(value) => csr["spec"][field] = value.clone(),
            None => {
                csr["spec"].as_object_mut().map(|spec| spec.remove(field));
            }
        }
    }
}

/// Nobody becomes a superuser through a client certificate that somebody approves in passing.
fn restrict_subject(request: &Request<'_>, csr: &Value) -> Result<(), Status> {
    if text(csr, "/spec/signerName") != "kubernetes.io/kube-apiserver-client" {
        return Ok(());
    }
    // What cannot be parsed is refused as invalid elsewhere, and cannot be signed.
    let organizations = organizations(text(csr, "/spec/request")).unwrap_or_default();
    if organizations
        .iter()
        .any(|group| group == crate::auth::SUPERUSERS)
    {
        let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
        return Err(request.forbid(csr, why));
    }
    Ok(())
}

fn organizations(request: &str) -> Option<Vec<String>> {
    let pem = STANDARD.decode(request).ok()?;
    let (_, pem) = parse_x509_pem(&pem).ok()?;
    let (_, csr) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &csr.certification_request_info.subject;
    Some(
        subject
            .iter_organization()
            .filter_map(|o| o.as_str().ok().map(str::to_owned))
            .collect(),
    )
}

/// The user needs `verb` on the signer, by its name or by its domain's `*`.
fn may(request: &Request<'_>, csr: &Value, verb: &str) -> Result<(), Status> {
    let signer = text(csr, "/spec/signerName");
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    let allowed = [signer.to_owned(), format!("{domain}/*")]
        .into_iter()
        .any(|name| {
            let attributes = Attributes {
                verb: verb.to_owned(),
                group: GROUP.to_owned(),
                version: "*".to_owned(),
                resource: "signers".to_owned(),
                name,
                ..Attributes::default()
            };
            decide(request.user, &attributes, request.objects).is_ok()
        });
    if allowed {
        return Ok(());
    }
    Err(request.forbid(
        csr,
        format!("user not permitted to {verb} requests with signerName \"{signer}\""),
    ))
}

/// Takes one field of the status from the stored object.
fn keep(csr: &mut Value, old: &Value, field: &str) {
    if !csr.get("status").is_some_and(Value::is_object) {
        csr["status"] = json!({});
    }
    match old.pointer(&format!("/status/{field}")) {
        Some(value) => csr["status"][field] = value.clone(),
        None => {
            csr["status"]
                .as_object_mut()
                .map(|status| status.remove(field));
        }
    }
}

/// Takes the approval or denial from the stored object, other conditions from the new one.
fn keep_decision(csr: &mut Value, old: &Value) {
    let decision = |kind: &str| kind == "Approved" || kind == "Denied";
    let mut kept = conditions(old, decision);
    kept.extend(conditions(csr, |kind| !decision(kind)));
    if !csr.get("status").is_some_and(Value::is_object) {
        csr["status"] = json!({});
    }
    if !kept.is_empty() || csr["status"].get("conditions").is_some() {
        csr["status"]["conditions"] = kept.into();
    }
}

fn conditions(csr: &Value, which: impl Fn(&str) -> bool) -> Vec<Value> {
    let all = items(csr, "/status/conditions").iter();
    all.filter(|condition| which(text(condition, "/type")))
        .cloned()
        .collect()
}
