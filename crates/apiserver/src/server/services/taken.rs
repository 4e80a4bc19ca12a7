//! What is taken, and what an update keeps.

use std::{collections::HashSet, net::IpAddr};

use serde_json::Value;

use crate::{
    auth::fields::{items, strings, text},
    store::{Collection, Store},
};

/// What the other Services have.
pub(super) struct Taken {
    pub addresses: HashSet<IpAddr>,
    /// Protocol and number.
    pub ports: HashSet<(String, u16)>,
}

impl Taken {
    pub fn of(store: &dyn Store, except: &Value) -> Self {
        let mut taken = Self {
            addresses: HashSet::new(),
            ports: HashSet::new(),
        };
        let name = |object: &Value| {
            let part = |field| text(object, field).to_owned();
            (part("/metadata/namespace"), part("/metadata/name"))
        };
        let except = name(except);
        for service in store.list(&Collection::new("", "services"), "").objects {
            let service = &*service.value;
            if name(service) == except {
                continue;
            }
            let addresses = strings(service, "/spec/clusterIPs");
            taken
                .addresses
                .extend(addresses.filter_map(|a| a.parse::<IpAddr>().ok()));
            for port in items(service, "/spec/ports") {
                if let Some(number) = node_port(port) {
                    taken.ports.insert((protocol(port), number));
                }
            }
        }
        taken
    }
}

pub(super) fn node_port(port: &Value) -> Option<u16> {
    let number = port.get("nodePort")?.as_u64()?;
    u16::try_from(number).ok().filter(|number| *number != 0)
}

pub(super) fn protocol(port: &Value) -> String {
    match text(port, "/protocol") {
        "" => "TCP",
        protocol => protocol,
    }
    .to_owned()
}

/// An update that leaves addresses and node ports out keeps them, as long as it still needs them.
pub(super) fn keep(old: &Value, new: &mut Value) {
    let external = |service: &Value| text(service, "/spec/type") == "ExternalName";
    if external(new) {
        if !external(old) && new["spec"]["clusterIP"] == old["spec"]["clusterIP"] {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                remove(&mut new["spec"], field);
            }
        }
        return;
    }
    if external(old) {
        return;
    }
    // An address that is asked for is not kept from being looked at.
    let asked = text(new, "/spec/clusterIP").to_owned();
    let other = !asked.is_empty() && asked != text(old, "/spec/clusterIP");
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if other && field == "clusterIPs" {
            continue;
        }
        let empty = match new["spec"].get(field) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            Some(_) => false,
        };
        if empty && let Some(value) = old["spec"].get(field) {
            new["spec"][field] = value.clone();
        }
    }
    let old_ports = items(old, "/spec/ports").to_vec();
    let ports = new["spec"].get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter(|p| p.is_object()) {
        let same =
            |other: &&Value| other["port"] == port["port"] && protocol(other) == protocol(port);
        if node_port(port).is_none()
            && let Some(number) = old_ports.iter().find(same).and_then(node_port)
        {
            port["nodePort"] = number.into();
        }
    }
}

pub(super) fn remove(object: &mut Value, field: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(field);
    }
}
