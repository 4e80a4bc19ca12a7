//! Services, endpoints, slices and policies.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

use super::{Printer, age, column::Column, labels, name, number, or, selector, with_more};
use crate::auth::fields::{items, strings, text};

/// Addresses and ports shown in one cell.
const MAX: usize = 3;

pub(super) const SERVICES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Type", "How the service is exposed."),
        Column::text("Cluster-IP", "Its address inside the cluster."),
        Column::text("External-IP", "Its addresses outside the cluster."),
        Column::text("Port(s)", "Its ports."),
        Column::AGE,
        Column::text("Selector", "Selects the pods behind it.").wide(),
    ],
    cells: service,
};

fn service(service: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(service),
        text(service, "/spec/type").into(),
        or(text(service, "/spec/clusterIP"), "<none>").into(),
        external(service).into(),
        service_ports(service).into(),
        age::created(service, now),
        labels(&service["spec"]["selector"]).into(),
    ]
}

fn external(service: &Value) -> String {
    let mut addresses: Vec<&str> = Vec::new();
    let kind = text(service, "/spec/type");
    match kind {
        "ExternalName" => return or(text(service, "/spec/externalName"), "<none>").to_owned(),
        "LoadBalancer" => {
            for ingress in items(service, "/status/loadBalancer/ingress") {
                addresses.push(or(text(ingress, "/ip"), text(ingress, "/hostname")));
            }
        }
        _ => {}
    }
    addresses.extend(strings(service, "/spec/externalIPs"));
    let instead = match kind {
        "LoadBalancer" => "<pending>",
        _ => "<none>",
    };
    or(&addresses.join(","), instead).to_owned()
}

fn service_ports(service: &Value) -> String {
    let ports: Vec<_> = items(service, "/spec/ports")
        .iter()
        .map(|port| {
            let (number, node) = (number(port, "/port"), number(port, "/nodePort"));
            let protocol = or(text(port, "/protocol"), "TCP");
            match node {
                0 => format!("{number}/{protocol}"),
                node => format!("{number}:{node}/{protocol}"),
            }
        })
        .collect();
    or(&ports.join(","), "<none>").to_owned()
}

pub(super) const ENDPOINTS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Endpoints", "Addresses and ports of what is ready."),
        Column::AGE,
    ],
    cells: |endpoints, now| {
        vec![
            name(endpoints),
            endpoint_list(endpoints).into(),
            age::created(endpoints, now),
        ]
    },
};

fn endpoint_list(endpoints: &Value) -> String {
    let mut all = Vec::new();
    for subset in items(endpoints, "/subsets") {
        let addresses = || items(subset, "/addresses").iter().map(|a| text(a, "/ip"));
        let ports = items(subset, "/ports");
        if ports.is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            let port = number(port, "/port");
            all.extend(addresses().map(|ip| host_port(ip, port)));
        }
    }
    let total = all.len();
    all.truncate(MAX);
    or(&with_more(&all, total), "<none>").to_owned()
}

fn host_port(ip: &str, port: i64) -> String {
    match ip.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{ip}]:{port}"),
        _ => format!("{ip}:{port}"),
    }
}

pub(super) const ENDPOINT_SLICES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("AddressType", "The family of its addresses."),
        Column::text("Ports", "The ports of every endpoint."),
        Column::text("Endpoints", "Addresses."),
        Column::AGE,
    ],
    cells: |slice, now| {
        vec![
            name(slice),
            text(slice, "/addressType").into(),
            slice_ports(slice).into(),
            slice_addresses(slice).into(),
            age::created(slice, now),
        ]
    },
};

fn slice_ports(slice: &Value) -> String {
    let mut ports: Vec<_> = items(slice, "/ports")
        .iter()
        .map(|port| match (number(port, "/port"), text(port, "/name")) {
            (0, name) => or(name, "*").to_owned(),
            (number, _) => number.to_string(),
        })
        .collect();
    let total = ports.len();
    ports.truncate(MAX);
    or(&with_more(&ports, total), "<unset>").to_owned()
}

fn slice_addresses(slice: &Value) -> String {
    let mut addresses: Vec<_> = items(slice, "/endpoints")
        .iter()
        .flat_map(|endpoint| strings(endpoint, "/addresses"))
        .map(str::to_owned)
        .collect();
    let total = addresses.len();
    addresses.truncate(MAX);
    or(&with_more(&addresses, total), "<unset>").to_owned()
}

pub(super) const POLICIES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Pod-Selector", "Selects the pods it is about."),
        Column::AGE,
    ],
    cells: |policy, now| {
        vec![
            name(policy),
            selector(&policy["spec"]["podSelector"]).into(),
            age::created(policy, now),
        ]
    },
};
