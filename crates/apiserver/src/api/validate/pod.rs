//! Pod specs, of pods and of templates.

use std::net::IpAddr;

use serde_json::Value;

use super::{container, errors::Errors, meta, names, selectors, volume};
use crate::{
    api::errors::FieldError,
    auth::fields::{items, text},
};

pub(super) fn pod(pod: &Value, errors: &mut Errors) {
    spec("spec", &pod["spec"], errors);
}

/// The template of a workload.
pub(super) fn template(template: &Value, errors: &mut Errors) {
    let labels = &template["metadata"]["labels"];
    meta::labels("spec.template.metadata.labels", labels, errors);
    spec("spec.template.spec", &template["spec"], errors);
}

fn spec(field: &str, spec: &Value, errors: &mut Errors) {
    let volumes = volume::all(field, items(spec, "/volumes"), errors);
    let host_network = spec["hostNetwork"] == true;
    let context = container::Context {
        volumes: &volumes,
        host_network,
    };
    if items(spec, "/containers").is_empty() {
        errors.required(format!("{field}.containers"));
    }
    container::all(field, spec, &context, errors);
    errors.one_of(
        field,
        spec,
        "restartPolicy",
        &["Always", "OnFailure", "Never"],
    );
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.one_of(field, spec, "dnsPolicy", &policies);
    errors.at_least(field, spec, "terminationGracePeriodSeconds", 0);
    errors.at_least(field, spec, "activeDeadlineSeconds", 1);
    for (key, check) in [
        (
            "serviceAccountName",
            names::dns_subdomain as fn(&str) -> Vec<String>,
        ),
        ("nodeName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
        ("runtimeClassName", names::dns_subdomain),
    ] {
        let value = text(spec, &format!("/{key}"));
        if !value.is_empty() {
            errors.texts(&format!("{field}.{key}"), value, check(value));
        }
    }
    meta::labels(
        &format!("{field}.nodeSelector"),
        &spec["nodeSelector"],
        errors,
    );
    tolerations(field, spec, errors);
    dns(field, spec, errors);
    aliases(field, spec, errors);
    affinity(field, spec, errors);
}

fn tolerations(field: &str, spec: &Value, errors: &mut Errors) {
    for (index, toleration) in items(spec, "/tolerations").iter().enumerate() {
        let field = format!("{field}.tolerations[{index}]");
        let key = text(toleration, "/key");
        let operator = text(toleration, "/operator");
        if !key.is_empty() {
            errors.texts(&format!("{field}.key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(format!("{field}.operator"), &operator.into(), why);
        }
        errors.one_of(&field, toleration, "operator", &["Equal", "Exists"]);
        let value = text(toleration, "/value");
        if operator == "Exists" && !value.is_empty() {
            let why = "value must be empty when `operator` is 'Exists'";
            errors.invalid(format!("{field}.operator"), &value.into(), why);
        }
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        errors.one_of(&field, toleration, "effect", &effects);
        let seconds = toleration.get("tolerationSeconds").is_some();
        if seconds && text(toleration, "/effect") != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            let effect = text(toleration, "/effect").into();
            errors.invalid(format!("{field}.effect"), &effect, why);
        }
    }
}

fn dns(field: &str, spec: &Value, errors: &mut Errors) {
    let servers = items(spec, "/dnsConfig/nameservers");
    let field = format!("{field}.dnsConfig.nameservers");
    if text(spec, "/dnsPolicy") == "None" && servers.is_empty() {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(FieldError::required(field.clone(), why));
    }
    for (index, server) in servers.iter().enumerate() {
        address(&format!("{field}[{index}]"), server, errors);
    }
}

fn aliases(field: &str, spec: &Value, errors: &mut Errors) {
    for (index, alias) in items(spec, "/hostAliases").iter().enumerate() {
        let field = format!("{field}.hostAliases[{index}]");
        address(&format!("{field}.ip"), &alias["ip"], errors);
        for name in crate::auth::fields::strings(alias, "/hostnames") {
            let field = format!("{field}.hostnames");
            errors.texts(&field, name, names::dns_subdomain(name));
        }
    }
}

/// An IP address of either family.
pub(super) fn address(field: &str, value: &Value, errors: &mut Errors) {
    if value.as_str().unwrap_or("").parse::<IpAddr>().is_err() {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.invalid(field, value, why);
    }
}

fn affinity(field: &str, spec: &Value, errors: &mut Errors) {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let field = format!("{field}.affinity");
    let affinity = &spec["affinity"];
    let node = &affinity["nodeAffinity"][required];
    if node.is_object() {
        let field = format!("{field}.nodeAffinity.{required}.nodeSelectorTerms");
        let terms = items(node, "/nodeSelectorTerms");
        if terms.is_empty() {
            let why = "must have at least one node selector term";
            errors.push(FieldError::required(field.clone(), why));
        }
        for (index, term) in terms.iter().enumerate() {
            node_term(&format!("{field}[{index}]"), term, errors);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let terms = items(&affinity[kind], &format!("/{required}"));
        for (index, term) in terms.iter().enumerate() {
            let field = format!("{field}.{kind}.{required}[{index}]");
            errors.name(&field, term, "topologyKey", names::qualified_name);
            selectors::check(
                &format!("{field}.labelSelector"),
                &term["labelSelector"],
                errors,
            );
        }
    }
}

fn node_term(field: &str, term: &Value, errors: &mut Errors) {
    let operators = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
    for (index, expression) in items(term, "/matchExpressions").iter().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        errors.name(&field, expression, "key", names::qualified_name);
        node_operator(&field, expression, &operators, errors);
    }
    for (index, expression) in items(term, "/matchFields").iter().enumerate() {
        let field = format!("{field}.matchFields[{index}]");
        if text(expression, "/key") != "metadata.name" {
            let why = "not a valid field selector key";
            errors.invalid(format!("{field}.key"), &expression["key"], why);
        }
        node_operator(&field, expression, &["In", "NotIn"], errors);
    }
}

fn node_operator(field: &str, expression: &Value, operators: &[&str], errors: &mut Errors) {
    let operator = text(expression, "/operator");
    if !operators.contains(&operator) {
        let why = "not a valid selector operator";
        errors.invalid(format!("{field}.operator"), &operator.into(), why);
    }
    let count = items(expression, "/values").len();
    let why = match operator {
        "In" | "NotIn" if count == 0 => "must be specified when `operator` is 'In' or 'NotIn'",
        "Gt" | "Lt" if count != 1 => {
            "must be specified single value when `operator` is 'Lt' or 'Gt'"
        }
        _ => return,
    };
    errors.push(FieldError::required(format!("{field}.values"), why));
}
