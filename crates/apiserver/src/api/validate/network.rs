//! Endpoints, endpoint slices, network policies.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::{container::port_or_name, errors::Errors, pod::address, selectors};
use crate::{
    api::errors::FieldError,
    auth::fields::{items, text},
};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const CIDR_TEXT: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

pub(super) fn endpoints(endpoints: &Value, errors: &mut Errors) {
    for (index, subset) in items(endpoints, "/subsets").iter().enumerate() {
        let field = format!("subsets[{index}]");
        let count = items(subset, "/addresses").len() + items(subset, "/notReadyAddresses").len();
        if count == 0 {
            let why = "must specify `addresses` or `notReadyAddresses`";
            errors.push(FieldError::required(field.clone(), why));
        }
        for list in ["addresses", "notReadyAddresses"] {
            for (i, entry) in items(subset, &format!("/{list}")).iter().enumerate() {
                address(&format!("{field}.{list}[{i}].ip"), &entry["ip"], errors);
            }
        }
        for (i, port) in items(subset, "/ports").iter().enumerate() {
            let field = format!("{field}.ports[{i}]");
            errors.port(&field, port, "port", true);
            errors.one_of(&field, port, "protocol", &PROTOCOLS);
        }
    }
}

pub(super) fn endpoint_slice(slice: &Value, errors: &mut Errors) {
    let kind = text(slice, "/addressType");
    let kinds = ["FQDN", "IPv4", "IPv6"];
    match kind {
        "" => errors.required("addressType"),
        kind if !kinds.contains(&kind) => {
            errors.push(FieldError::not_supported(
                "addressType",
                &kind.into(),
                &kinds,
            ));
        }
        _ => {}
    }
    for (index, endpoint) in items(slice, "/endpoints").iter().enumerate() {
        let field = format!("endpoints[{index}].addresses");
        let addresses = items(endpoint, "/addresses");
        if addresses.is_empty() {
            let why = "must contain at least 1 address";
            errors.push(FieldError::required(field.clone(), why));
        }
        for (i, address) in addresses.iter().enumerate() {
            slice_address(&format!("{field}[{i}]"), kind, address, errors);
        }
    }
    let ports = items(slice, "/ports").iter().enumerate();
    for (index, port) in ports.clone() {
        let field = format!("ports[{index}]");
        errors.port(&field, port, "port", false);
        errors.one_of(&field, port, "protocol", &PROTOCOLS);
    }
    errors.unique(ports.map(|(i, port)| (format!("ports[{i}].name"), text(port, "/name"))));
}

fn slice_address(field: &str, kind: &str, address: &Value, errors: &mut Errors) {
    let parsed: Option<IpAddr> = address.as_str().and_then(|text| text.parse().ok());
    let (fits, why) = match kind {
        "IPv4" => (
            parsed.is_some_and(|ip| ip.is_ipv4()),
            "must be a valid IPv4 address",
        ),
        "IPv6" => (
            parsed.is_some_and(|ip| ip.is_ipv6()),
            "must be a valid IPv6 address",
        ),
        _ => return,
    };
    if !fits {
        errors.invalid(field, address, why);
    }
}

pub(super) fn policy(policy: &Value, errors: &mut Errors) {
    let spec = &policy["spec"];
    selectors::check("spec.podSelector", &spec["podSelector"], errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in items(spec, &format!("/{direction}")).iter().enumerate() {
            let field = format!("spec.{direction}[{index}]");
            for (i, port) in items(rule, "/ports").iter().enumerate() {
                policy_port(&format!("{field}.ports[{i}]"), port, errors);
            }
            for (i, peer) in items(rule, &format!("/{peers}")).iter().enumerate() {
                policy_peer(&format!("{field}.{peers}[{i}]"), peer, errors);
            }
        }
    }
    let types = items(spec, "/policyTypes");
    if types.len() > 2 {
        let why = "may not specify more than two policyTypes";
        errors.invalid("spec.policyTypes", &spec["policyTypes"], why);
    }
    for (index, kind) in types.iter().enumerate() {
        let supported = ["Egress", "Ingress"];
        if !supported.contains(&kind.as_str().unwrap_or("")) {
            let field = format!("spec.policyTypes[{index}]");
            errors.push(FieldError::not_supported(field, kind, &supported));
        }
    }
}

fn policy_port(field: &str, port: &Value, errors: &mut Errors) {
    errors.one_of(field, port, "protocol", &PROTOCOLS);
    if let Some(number) = port.get("port") {
        port_or_name(&format!("{field}.port"), number, errors);
    }
    let Some(end) = port.get("endPort").and_then(Value::as_i64) else {
        return;
    };
    let field = format!("{field}.endPort");
    match port.get("port") {
        None => errors.push(FieldError::required(
            field.replace(".endPort", ".port"),
            "must be specified when `endPort` is specified",
        )),
        Some(Value::String(_)) => {
            let why = "must be a numeric value when `endPort` is specified";
            errors.invalid(field.replace(".endPort", ".port"), &port["port"], why);
        }
        Some(start) if end < start.as_i64().unwrap_or(0) => {
            let why = "must be greater than or equal to `port`";
            errors.invalid(field, &end.into(), why);
        }
        Some(_) if end > 65535 => {
            let why = "must be between 1 and 65535, inclusive";
            errors.invalid(field, &end.into(), why);
        }
        Some(_) => {}
    }
}

fn policy_peer(field: &str, peer: &Value, errors: &mut Errors) {
    for selector in ["podSelector", "namespaceSelector"] {
        let field = format!("{field}.{selector}");
        selectors::check(&field, &peer[selector], errors);
    }
    let selects = peer.get("podSelector").is_some() || peer.get("namespaceSelector").is_some();
    match peer.get("ipBlock") {
        None if !selects => {
            let why = "must specify a peer";
            errors.push(FieldError::required(field, why));
        }
        Some(_) if selects => {
            let why = "may not specify both ipBlock and another peer";
            errors.forbidden(field, why);
        }
        Some(block) => ip_block(&format!("{field}.ipBlock"), block, errors),
        None => {}
    }
}

fn ip_block(field: &str, block: &Value, errors: &mut Errors) {
    let cidr = text(block, "/cidr");
    if cidr.is_empty() {
        return errors.required(format!("{field}.cidr"));
    }
    let Ok(outer) = cidr.parse::<IpNet>() else {
        return errors.invalid(format!("{field}.cidr"), &cidr.into(), CIDR_TEXT);
    };
    for (index, except) in items(block, "/except").iter().enumerate() {
        let field = format!("{field}.except[{index}]");
        match except.as_str().unwrap_or("").parse::<IpNet>() {
            Err(_) => errors.invalid(field, except, CIDR_TEXT),
            // `contains` is false across families.
            Ok(inner) if !outer.contains(&inner) || inner.prefix_len() == outer.prefix_len() => {
                let why = "must be a strict subset of `cidr`";
                errors.invalid(field, except, why);
            }
            Ok(_) => {}
        }
    }
}
