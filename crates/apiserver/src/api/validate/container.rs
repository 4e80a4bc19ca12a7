//! Containers: names, ports, mounts, resources, probes.

use serde_json::Value;

use super::{errors::Errors, names, quantity};
use crate::{
    api::errors::FieldError,
    auth::fields::{items, text},
};

/// What containers refer to in their pod.
pub(super) struct Context<'a> {
    /// Names of the volumes.
    pub volumes: &'a [&'a str],
    pub host_network: bool,
}

const LISTS: [&str; 2] = ["initContainers", "containers"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const HANDLERS: [&str; 4] = ["exec", "grpc", "httpGet", "tcpSocket"];
const HOOKS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "sleep"];

pub(super) fn all(field: &str, spec: &Value, context: &Context<'_>, errors: &mut Errors) {
    let mut names = Vec::new();
    for list in LISTS {
        for (index, container) in items(spec, &format!("/{list}")).iter().enumerate() {
            let field = format!("{field}.{list}[{index}]");
            names.push((format!("{field}.name"), text(container, "/name")));
            self::container(&field, container, context, errors);
        }
    }
    errors.unique(names.into_iter());
}

fn container(field: &str, container: &Value, context: &Context<'_>, errors: &mut Errors) {
    errors.name(field, container, "name", names::dns_label);
    let image = text(container, "/image");
    if image.is_empty() {
        errors.required(format!("{field}.image"));
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.invalid(format!("{field}.image"), &image.into(), why);
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    errors.one_of(field, container, "imagePullPolicy", &policies);
    let policies = ["File", "FallbackToLogsOnError"];
    errors.one_of(field, container, "terminationMessagePolicy", &policies);
    errors.one_of(field, container, "restartPolicy", &["Always"]);
    ports(field, container, context, errors);
    environment(field, container, errors);
    mounts(field, container, context, errors);
    resources(field, container, errors);
    for name in PROBES {
        if let Some(probe) = container.get(name) {
            self::probe(&format!("{field}.{name}"), name, probe, errors);
        }
    }
    let hooks = container.pointer("/lifecycle").and_then(Value::as_object);
    for (name, hook) in hooks.into_iter().flatten() {
        handler(&format!("{field}.lifecycle.{name}"), hook, &HOOKS, errors);
    }
}

fn ports(field: &str, container: &Value, context: &Context<'_>, errors: &mut Errors) {
    let mut named = Vec::new();
    for (index, port) in items(container, "/ports").iter().enumerate() {
        let field = format!("{field}.ports[{index}]");
        errors.port(&field, port, "containerPort", true);
        errors.port(&field, port, "hostPort", false);
        errors.one_of(&field, port, "protocol", &PROTOCOLS);
        let name = text(port, "/name");
        if !name.is_empty() {
            errors.texts(&format!("{field}.name"), name, names::port_name(name));
            named.push((format!("{field}.name"), name));
        }
        if context.host_network && port.get("hostPort") != port.get("containerPort") {
            let why = "must match `containerPort` when `hostNetwork` is true";
            errors.invalid(format!("{field}.hostPort"), &port["hostPort"], why);
        }
    }
    errors.unique(named.into_iter());
}

fn environment(field: &str, container: &Value, errors: &mut Errors) {
    for (index, variable) in items(container, "/env").iter().enumerate() {
        let field = format!("{field}.env[{index}]");
        let name = text(variable, "/name");
        if name.is_empty() {
            errors.required(format!("{field}.name"));
        } else if name.contains('=') || !name.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            let why = "a valid environment variable name must consist of printable ASCII characters other than '='";
            errors.invalid(format!("{field}.name"), &name.into(), why);
        }
        let source = variable.get("valueFrom").and_then(Value::as_object);
        let Some(source) = source else { continue };
        if !text(variable, "/value").is_empty() {
            let why = "may not be specified when `value` is not empty";
            errors.invalid(format!("{field}.valueFrom"), &"".into(), why);
        } else if source.len() != 1 {
            let why = "must specify exactly one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
            errors.invalid(format!("{field}.valueFrom"), &"".into(), why);
        }
    }
}

fn mounts(field: &str, container: &Value, context: &Context<'_>, errors: &mut Errors) {
    let mut paths = Vec::new();
    for (index, mount) in items(container, "/volumeMounts").iter().enumerate() {
        let field = format!("{field}.volumeMounts[{index}]");
        let name = text(mount, "/name");
        if name.is_empty() {
            errors.required(format!("{field}.name"));
        } else if !context.volumes.contains(&name) {
            errors.push(FieldError::not_found(format!("{field}.name"), &name.into()));
        }
        let path = text(mount, "/mountPath");
        if path.is_empty() {
            errors.required(format!("{field}.mountPath"));
        }
        paths.push((format!("{field}.mountPath"), path));
    }
    let mut seen = std::collections::BTreeSet::new();
    for (field, path) in paths {
        if !path.is_empty() && !seen.insert(path) {
            errors.invalid(field, &path.into(), "must be unique");
        }
    }
}

fn resources(field: &str, container: &Value, errors: &mut Errors) {
    for what in ["limits", "requests"] {
        let all = container.pointer(&format!("/resources/{what}"));
        for (name, value) in all.and_then(Value::as_object).into_iter().flatten() {
            let field = format!("{field}.resources.{what}[{name}]");
            match quantity::parse(value) {
                None => errors.invalid(field, value, quantity::TEXT),
                Some(amount) if amount < 0 => {
                    errors.invalid(field, value, "must be greater than or equal to 0");
                }
                Some(amount) if what == "requests" => {
                    let limit = container
                        .pointer("/resources/limits")
                        .and_then(|l| l.get(name));
                    if limit
                        .and_then(quantity::parse)
                        .is_some_and(|limit| amount > limit)
                    {
                        let limit = limit.and_then(Value::as_str).unwrap_or("its limit");
                        let why = format!("must be less than or equal to {name} limit of {limit}");
                        errors.invalid(field, value, &why);
                    }
                }
                Some(_) => {}
            }
        }
    }
}

fn probe(field: &str, name: &str, probe: &Value, errors: &mut Errors) {
    handler(field, probe, &HANDLERS, errors);
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        errors.at_least(field, probe, key, 0);
    }
    let once = probe.get("successThreshold").and_then(Value::as_i64);
    if name != "readinessProbe" && once.is_some_and(|once| once > 1) {
        let field = format!("{field}.successThreshold");
        errors.invalid(field, &probe["successThreshold"], "must be 1");
    }
}

fn handler(field: &str, handler: &Value, kinds: &[&str], errors: &mut Errors) {
    let given: Vec<_> = kinds
        .iter()
        .filter(|kind| handler.get(**kind).is_some())
        .collect();
    match given.as_slice() {
        [] => errors.push(FieldError::required(field, "must specify a handler type")),
        [kind] => {
            let field = format!("{field}.{kind}");
            let action = &handler[**kind];
            match **kind {
                "exec" if items(action, "/command").is_empty() => {
                    errors.required(format!("{field}.command"));
                }
                "httpGet" | "tcpSocket" => {
                    port_or_name(&format!("{field}.port"), &action["port"], errors)
                }
                "grpc" => errors.port(&field, action, "port", true),
                _ => {}
            }
            if **kind == "httpGet" {
                errors.one_of(&field, action, "scheme", &["HTTP", "HTTPS"]);
            }
        }
        [_, second, ..] => {
            let why = "may not specify more than 1 handler type";
            errors.forbidden(format!("{field}.{second}"), why);
        }
    }
}

/// A port's number or name.
pub(super) fn port_or_name(field: &str, port: &Value, errors: &mut Errors) {
    match port {
        Value::String(name) => errors.texts(field, name, names::port_name(name)),
        port => {
            if !port
                .as_i64()
                .is_some_and(|port| (1..=65535).contains(&port))
            {
                errors.invalid(field, port, "must be between 1 and 65535, inclusive");
            }
        }
    }
}
