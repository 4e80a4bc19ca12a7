//! Field selectors: equality on a few fields of each kind.

use std::borrow::Cow;

use serde_json::Value;

use crate::{api::resources::Resource, auth::fields::text, status::Status};

/// Fields of every kind.
const COMMON: [&str; 2] = ["metadata.name", "metadata.namespace"];

/// The other fields by which a stored kind can be selected.
fn own_fields(resource: &Resource) -> &'static [&'static str] {
    match resource.storage {
        ("", "events") => &[
            "involvedObject.apiVersion",
            "involvedObject.fieldPath",
            "involvedObject.kind",
            "involvedObject.name",
            "involvedObject.namespace",
            "involvedObject.resourceVersion",
            "involvedObject.uid",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("", "namespaces") => &["status.phase"],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "pods") => &[
            "spec.hostNetwork",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.nominatedNodeName",
            "status.phase",
            "status.podIP",
            "status.podIPs",
        ],
        ("", "replicationcontrollers") | ("apps", "replicasets") => &["status.replicas"],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("certificates.k8s.io", _) => &["spec.signerName"],
        _ => &[],
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    field: String,
    value: String,
    equal: bool,
}

/// A field selector: all its requirements must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    requirements: Vec<Requirement>,
}

impl Fields {
    /// Reads a `fieldSelector` parameter; empty selects everything.
    ///
    /// # Errors
    /// 400 for a text that cannot be read or a field that the resource cannot be selected by.
    pub fn parse(resource: &'static Resource, text: &str) -> Result<Self, Status> {
        let mut requirements = Vec::new();
        for term in terms(text).into_iter().filter(|term| !term.is_empty()) {
            let mut requirement = requirement(term)
                .map_err(|why| Status::bad_request(format!("invalid selector: '{text}'; {why}")))?;
            requirement.field = stored_name(resource, &requirement.field);
            known(resource, &requirement.field)?;
            requirements.push(requirement);
        }
        Ok(Self { requirements })
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The name that `metadata.name=…` pins; authorization counts it as the request's name.
    pub fn pinned_name(&self) -> Option<&str> {
        self.pinned("metadata.name")
    }

    /// The namespace that `metadata.namespace=…` pins.
    pub fn pinned_namespace(&self) -> Option<&str> {
        self.pinned("metadata.namespace")
    }

    fn pinned(&self, field: &str) -> Option<&str> {
        let mut pins = self.requirements.iter();
        pins.find(|r| r.equal && r.field == field)
            .map(|r| r.value.as_str())
    }

    /// Whether a stored object fits.
    pub fn matches(&self, object: &Value) -> bool {
        let fits = |r: &Requirement| (read(object, &r.field) == r.value) == r.equal;
        self.requirements.iter().all(fits)
    }
}

/// Splits at commas that are not escaped.
fn terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn requirement(term: &str) -> Result<Requirement, String> {
    let operators = [("!=", false), ("==", true), ("=", true)];
    // The first place at which any operator stands; the longer one there.
    let found = term.char_indices().find_map(|(at, _)| {
        let rest = &term[at..];
        let operator = operators
            .iter()
            .find(|(symbol, _)| rest.starts_with(symbol));
        operator.map(|(symbol, equal)| (&term[..at], &rest[symbol.len()..], *equal))
    });
    let (field, value, equal) = found.ok_or_else(|| format!("can't understand '{term}'"))?;
    Ok(Requirement {
        field: field.to_owned(),
        value: unescape(value)?,
        equal,
    })
}

fn unescape(value: &str) -> Result<String, String> {
    let mut plain = String::new();
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                Some(other) => {
                    return Err(format!(
                        "invalid field selector: invalid escape sequence: \\{other}"
                    ));
                }
                None => return Err("invalid field selector: ends in an escape".to_owned()),
            },
            '=' => return Err("invalid field selector: unescaped character in value: =".to_owned()),
            other => plain.push(other),
        }
    }
    Ok(plain)
}

/// `events.k8s.io` names some fields of the shared store differently.
fn stored_name(resource: &Resource, field: &str) -> String {
    if resource.group != "events.k8s.io" {
        return field.to_owned();
    }
    match field.strip_prefix("regarding.") {
        Some(rest) => format!("involvedObject.{rest}"),
        None if field == "reportingController" => "reportingComponent".to_owned(),
        None => field.to_owned(),
    }
}

fn known(resource: &Resource, field: &str) -> Result<(), Status> {
    let own = own_fields(resource);
    if COMMON.contains(&field) || own.contains(&field) {
        return Ok(());
    }
    let all: Vec<_> = COMMON
        .iter()
        .chain(own)
        .map(|f| format!("\"{f}\""))
        .collect();
    Err(Status::bad_request(format!(
        "\"{field}\" is not a known field selector: only {}",
        all.join(", ")
    )))
}

/// A field's value as text; what is absent reads as its type's zero.
fn read<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
    match field {
        "source" => match text(object, "/source/component") {
            "" => text(object, "/reportingComponent").into(),
            source => source.into(),
        },
        "status.podIPs" => {
            let ips = crate::auth::fields::items(object, "/status/podIPs").iter();
            let ips: Vec<_> = ips.map(|ip| text(ip, "/ip")).collect();
            ips.join(",").into()
        }
        "spec.unschedulable" | "spec.hostNetwork" => {
            let value = object.pointer(&pointer(field)).and_then(Value::as_bool);
            if value.unwrap_or(false) {
                "true"
            } else {
                "false"
            }
            .into()
        }
        "status.replicas" => {
            let value = object.pointer(&pointer(field)).and_then(Value::as_i64);
            value.unwrap_or(0).to_string().into()
        }
        field => object
            .pointer(&pointer(field))
            .and_then(Value::as_str)
            .unwrap_or("")
            .into(),
    }
}

fn pointer(field: &str) -> String {
    format!("/{}", field.replace('.', "/"))
}
