//! Services.

use serde_json::Value;

use super::{container::port_or_name, errors::Errors, meta, names, pod::address};
use crate::{
    api::errors::FieldError,
    auth::fields::{items, text},
};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

pub(super) fn service(service: &Value, errors: &mut Errors) {
    let spec = &service["spec"];
    let kind = text(spec, "/type");
    let headless = text(spec, "/clusterIP") == "None";
    errors.one_of("spec", spec, "type", &TYPES);
    errors.one_of("spec", spec, "sessionAffinity", &["ClientIP", "None"]);
    errors.one_of("spec", spec, "internalTrafficPolicy", &["Cluster", "Local"]);
    errors.one_of("spec", spec, "externalTrafficPolicy", &["Cluster", "Local"]);
    meta::labels("spec.selector", &spec["selector"], errors);
    match kind {
        "ExternalName" => {
            let name = text(spec, "/externalName").trim_end_matches('.').to_owned();
            match name.as_str() {
                "" => errors.required("spec.externalName"),
                name => errors.texts("spec.externalName", name, names::dns_subdomain(name)),
            }
        }
        "NodePort" | "LoadBalancer" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.invalid("spec.clusterIPs[0]", &"None".into(), &why);
        }
        _ => {}
    }
    ports(spec, kind, headless, errors);
    for (index, ip) in items(spec, "/externalIPs").iter().enumerate() {
        address(&format!("spec.externalIPs[{index}]"), ip, errors);
    }
}

fn ports(spec: &Value, kind: &str, headless: bool, errors: &mut Errors) {
    let ports = items(spec, "/ports");
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.required("spec.ports");
    }
    let mut seen = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        errors.port(&field, port, "port", true);
        errors.port(&field, port, "nodePort", false);
        errors.one_of(&field, port, "protocol", &["SCTP", "TCP", "UDP"]);
        let name = text(port, "/name");
        if ports.len() > 1 || !name.is_empty() {
            errors.name(&field, port, "name", names::dns_label);
        }
        if let Some(target) = port.get("targetPort") {
            port_or_name(&format!("{field}.targetPort"), target, errors);
        }
        if kind == "ClusterIP" && port.get("nodePort").is_some_and(|p| *p != 0) {
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.forbidden(format!("{field}.nodePort"), why);
        }
        let key = (&port["port"], &port["protocol"]);
        if seen.contains(&key) {
            errors.push(FieldError::duplicate(field, port));
        }
        seen.push(key);
    }
    let names = ports.iter().enumerate();
    errors.unique(names.map(|(i, port)| (format!("spec.ports[{i}].name"), text(port, "/name"))));
}
