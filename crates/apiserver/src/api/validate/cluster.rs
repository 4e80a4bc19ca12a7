//! Nodes, events, leases, classes, certificate signing requests.

use base64::{Engine, engine::general_purpose::STANDARD};
use ipnet::IpNet;
use serde_json::Value;
use x509_parser::{
    certification_request::X509CertificationRequest, pem::parse_x509_pem, prelude::FromDer,
};

use super::{errors::Errors, names};
use crate::{
    api::errors::FieldError,
    auth::fields::{items, strings, text},
};

/// Shortest certificate that can be asked for, in seconds.
const MIN_EXPIRATION: i64 = 600;

pub(super) fn node(node: &Value, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, taint) in items(node, "/spec/taints").iter().enumerate() {
        let field = format!("spec.taints[{index}]");
        errors.name(&field, taint, "key", names::qualified_name);
        let value = text(taint, "/value");
        errors.texts(&format!("{field}.value"), value, names::label_value(value));
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        match text(taint, "/effect") {
            "" => errors.required(format!("{field}.effect")),
            _ => errors.one_of(&field, taint, "effect", &effects),
        }
        let key = (text(taint, "/key"), text(taint, "/effect"));
        if seen.contains(&key) {
            errors.push(FieldError::duplicate(field, taint));
        }
        seen.push(key);
    }
    pod_ranges(node, errors);
}

fn pod_ranges(node: &Value, errors: &mut Errors) {
    let ranges: Vec<&str> = strings(node, "/spec/podCIDRs").collect();
    for (index, range) in ranges.iter().enumerate() {
        if range.parse::<IpNet>().is_err() {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.invalid(format!("spec.podCIDRs[{index}]"), &(*range).into(), why);
        }
    }
    let is_v6 = |range: &&str| range.contains(':');
    let one_family = ranges.iter().filter(|r| is_v6(r)).count() != 1;
    if ranges.len() > 2 || ranges.len() == 2 && one_family {
        let why = "may specify no more than one CIDR for each IP family";
        errors.invalid("spec.podCIDRs", &node["spec"]["podCIDRs"], why);
    }
    let first = text(node, "/spec/podCIDR");
    if !first.is_empty() && ranges.first().is_some_and(|range| *range != first) {
        let why = "must be the first of `podCIDRs`";
        errors.invalid("spec.podCIDR", &first.into(), why);
    }
}

pub(super) fn event(event: &Value, errors: &mut Errors) {
    let namespace = text(event, "/metadata/namespace");
    let about = text(event, "/involvedObject/namespace");
    let fits = match about {
        // What is about the cluster has to live somewhere.
        "" => ["default", "kube-system"].contains(&namespace),
        about => about == namespace,
    };
    if !fits {
        let why = "does not match event.namespace";
        errors.invalid("involvedObject.namespace", &about.into(), why);
    }
}

pub(super) fn lease(lease: &Value, errors: &mut Errors) {
    let spec = &lease["spec"];
    let duration = spec.get("leaseDurationSeconds").and_then(Value::as_i64);
    if duration.is_some_and(|seconds| seconds <= 0) {
        let field = "spec.leaseDurationSeconds";
        errors.invalid(
            field,
            &spec["leaseDurationSeconds"],
            "must be greater than 0",
        );
    }
    errors.at_least("spec", spec, "leaseTransitions", 0);
}

pub(super) fn priority_class(class: &Value, errors: &mut Errors) {
    let policies = ["Never", "PreemptLowerPriority"];
    errors.one_of("", class, "preemptionPolicy", &policies);
    let name = text(class, "/metadata/name");
    let known = ["system-cluster-critical", "system-node-critical"].contains(&name);
    if name.starts_with("system-") && !known {
        let why = "priority class names with 'system-' prefix are reserved for system use only. \
            error: only system-cluster-critical and system-node-critical are known system priority classes";
        errors.forbidden("metadata.name", why);
    }
}

pub(super) fn runtime_class(class: &Value, errors: &mut Errors) {
    let handler = text(class, "/handler");
    errors.texts("handler", handler, names::dns_label(handler));
}

pub(super) fn signing_request(request: &Value, errors: &mut Errors) {
    let spec = &request["spec"];
    signer(text(spec, "/signerName"), errors);
    if items(spec, "/usages").is_empty() {
        errors.required("spec.usages");
    }
    let expiration = spec.get("expirationSeconds").and_then(Value::as_i64);
    if expiration.is_some_and(|seconds| seconds < MIN_EXPIRATION) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid("spec.expirationSeconds", &spec["expirationSeconds"], why);
    }
    if !is_request(text(spec, "/request")) {
        let why = "must be a PEM block of type CERTIFICATE REQUEST, base64 encoded";
        // Long and of no use to the reader.
        errors.invalid("spec.request", &"<redacted>".into(), why);
    }
}

fn is_request(encoded: &str) -> bool {
    let Ok(bytes) = STANDARD.decode(encoded) else {
        return false;
    };
    let Ok((_, pem)) = parse_x509_pem(&bytes) else {
        return false;
    };
    pem.label == "CERTIFICATE REQUEST" && X509CertificationRequest::from_der(&pem.contents).is_ok()
}

fn signer(name: &str, errors: &mut Errors) {
    let field = "spec.signerName";
    match name.split_once('/') {
        _ if name.is_empty() => errors.required(field),
        Some((domain, path)) if !path.is_empty() => {
            let whys = names::dns_subdomain(domain);
            errors.texts(field, name, whys);
        }
        _ => {
            let why =
                "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            errors.invalid(field, &name.into(), why);
        }
    }
}

/// What `/approval` may write: a decision, never both.
pub(super) fn approval(request: &Value, errors: &mut Errors) {
    let mut decisions = Vec::new();
    for (index, condition) in items(request, "/status/conditions").iter().enumerate() {
        let field = format!("status.conditions[{index}]");
        let kind = text(condition, "/type");
        if !["Approved", "Denied"].contains(&kind) {
            continue;
        }
        decisions.push(kind);
        if text(condition, "/status") != "True" {
            let value = &condition["status"];
            errors.push(FieldError::not_supported(
                format!("{field}.status"),
                value,
                &["True"],
            ));
        }
    }
    if decisions.contains(&"Approved") && decisions.contains(&"Denied") {
        let why = "Approved and Denied conditions are mutually exclusive";
        errors.invalid("status.conditions", &"Denied".into(), why);
    }
}
