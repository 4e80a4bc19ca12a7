//! Roles, bindings, certificate signing requests.

use jiff::Timestamp;
use serde_json::Value;

use super::{Printer, age, column::Column, name};
use crate::auth::fields::{items, text};

pub(super) const ROLES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Created At", "When it was created."),
    ],
    cells: |role, _| vec![name(role), text(role, "/metadata/creationTimestamp").into()],
};

pub(super) const BINDINGS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Role", "The role that is given."),
        Column::AGE,
        Column::text("Users", "The users it is given to.").wide(),
        Column::text("Groups", "The groups it is given to.").wide(),
        Column::text("ServiceAccounts", "The service accounts it is given to.").wide(),
    ],
    cells: binding,
};

fn binding(binding: &Value, now: Timestamp) -> Vec<Value> {
    let subjects = |kind: &str, show: fn(&Value) -> String| {
        let of_kind = items(binding, "/subjects")
            .iter()
            .filter(|s| text(s, "/kind") == kind);
        let shown: Vec<_> = of_kind.map(show).collect();
        Value::from(shown.join(", "))
    };
    let plain = |subject: &Value| text(subject, "/name").to_owned();
    vec![
        name(binding),
        format!(
            "{}/{}",
            text(binding, "/roleRef/kind"),
            text(binding, "/roleRef/name")
        )
        .into(),
        age::created(binding, now),
        subjects("User", plain),
        subjects("Group", plain),
        subjects("ServiceAccount", |s| {
            format!("{}/{}", text(s, "/namespace"), text(s, "/name"))
        }),
    ]
}

pub(super) const SIGNING_REQUESTS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::AGE,
        Column::text("SignerName", "Who is to sign."),
        Column::text("Requestor", "Who asked."),
        Column::text(
            "RequestedDuration",
            "How long the certificate is to be valid.",
        ),
        Column::text(
            "Condition",
            "Approved, denied or pending, and whether issued.",
        ),
    ],
    cells: signing_request,
};

fn signing_request(request: &Value, now: Timestamp) -> Vec<Value> {
    let seconds = request.pointer("/spec/expirationSeconds");
    let duration = match seconds.and_then(Value::as_i64) {
        Some(seconds) => age::human(seconds),
        None => "<none>".to_owned(),
    };
    vec![
        name(request),
        age::created(request, now),
        text(request, "/spec/signerName").into(),
        text(request, "/spec/username").into(),
        duration.into(),
        condition(request).into(),
    ]
}

fn condition(request: &Value) -> String {
    let has = |kind: &str| {
        let mut all = items(request, "/status/conditions").iter();
        all.any(|c| text(c, "/type") == kind)
    };
    let decision = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = match text(request, "/status/certificate") {
        "" => "",
        _ => ",Issued",
    };
    format!("{decision}{failed}{issued}")
}
