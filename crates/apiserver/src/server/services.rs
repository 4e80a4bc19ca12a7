//! Addresses and node ports of Services.
//!
//! Nothing is remembered: what is taken is what the stored Services say, and a lock is held from choosing an address
//! until the Service that has it is stored. So nothing can leak, and nothing needs repair after a crash.

use std::{collections::HashSet, net::IpAddr};

use ipnet::IpNet;
use rand::RngExt;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use super::{call::Call, config::StartError};
use crate::{
    api::errors::{self, FieldError},
    auth::fields::{items, strings, text},
    status::Status,
    store::{Collection, Store},
};

/// Where node ports come from, as on Kubernetes.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

/// The ranges Services get their addresses from, the primary one first.
pub(super) struct ServiceAddresses {
    ranges: Vec<IpNet>,
    lock: Mutex<()>,
}

impl ServiceAddresses {
    /// Checks the ranges: one, or one of each family, big enough for a few Services.
    ///
    /// # Errors
    /// When they are not.
    pub fn new(ranges: &[IpNet]) -> Result<Self, StartError> {
        let bad = |range: Option<&IpNet>, why| StartError::ServiceRange {
            range: range.map(IpNet::to_string).unwrap_or_default(),
            why,
        };
        match ranges {
            [_] => {}
            [a, b] if is_v4(a) != is_v4(b) => {}
            [_, b] => {
                return Err(bad(
                    Some(b),
                    "two ranges must be one of IPv4 and one of IPv6",
                ));
            }
            [] => return Err(bad(None, "none is given; give one, or one of each family")),
            [_, _, third, ..] => return Err(bad(Some(third), "at most two can be used")),
        }
        for range in ranges {
            if range.max_prefix_len() - range.prefix_len() < 3 {
                return Err(bad(Some(range), "it has fewer than 8 addresses"));
            }
        }
        Ok(Self {
            ranges: ranges.iter().map(IpNet::trunc).collect(),
            lock: Mutex::new(()),
        })
    }

    /// The addresses of the `kubernetes` Service: the first of each range.
    pub fn first(&self) -> Vec<IpAddr> {
        self.ranges
            .iter()
            .filter_map(|range| nth(range, 1))
            .collect()
    }

    /// Gives a Service its addresses and node ports; for other objects, nothing. Hold the guard until it is stored.
    ///
    /// # Errors
    /// 422 for an address or port that is taken or out of range, 500 when none is left.
    pub async fn assign(
        &self,
        call: &Call,
        old: Option<&Value>,
        service: &mut Value,
    ) -> Result<Option<MutexGuard<'_, ()>>, Status> {
        let r = call.resource;
        let whole = call.attributes.subresource.is_empty();
        if (r.group, r.plural) != ("", "services") || !whole || !service["spec"].is_object() {
            return Ok(None);
        }
        let guard = self.lock.lock().await;
        let taken = Taken::of(&*call.inner.store, service);
        if let Some(old) = old {
            keep(old, service);
        }
        self.assign_addresses(service, &taken)?;
        assign_ports(service, &taken)?;
        Ok(Some(guard))
    }

    fn assign_addresses(&self, service: &mut Value, taken: &Taken) -> Result<(), Status> {
        if text(service, "/spec/type") == "ExternalName" {
            return Ok(());
        }
        let ranges = self.families(service)?;
        let families: Vec<_> = ranges.iter().map(|range| family(range)).collect();
        let policy = match (text(service, "/spec/ipFamilyPolicy"), ranges.len()) {
            ("", 2) => "RequireDualStack".to_owned(),
            ("", _) => "SingleStack".to_owned(),
            (policy, _) => policy.to_owned(),
        };
        let mut asked: Vec<String> = strings(service, "/spec/clusterIPs")
            .map(str::to_owned)
            .collect();
        if asked.is_empty() && !text(service, "/spec/clusterIP").is_empty() {
            asked.push(text(service, "/spec/clusterIP").to_owned());
        }
        if asked.first().is_some_and(|first| first == "None") {
            service["spec"]["clusterIP"] = "None".into();
            service["spec"]["clusterIPs"] = json!(["None"]);
        } else {
            let mut addresses = Vec::new();
            for (i, range) in ranges.iter().enumerate() {
                addresses.push(match asked.get(i) {
                    Some(address) => check(service, range, address, taken)?,
                    None => choose(range, taken)?,
                });
            }
            service["spec"]["clusterIP"] = addresses[0].to_string().into();
            service["spec"]["clusterIPs"] = json!(addresses);
        }
        service["spec"]["ipFamilies"] = json!(families);
        service["spec"]["ipFamilyPolicy"] = policy.into();
        Ok(())
    }

    /// The ranges a Service needs an address of, in its order.
    fn families(&self, service: &Value) -> Result<Vec<&IpNet>, Status> {
        let policy = text(service, "/spec/ipFamilyPolicy");
        let field = "spec.ipFamilies";
        let find = |name: &str| {
            let found = self.ranges.iter().find(|range| family(range) == name);
            found.ok_or_else(|| {
                let why = "not configured on this cluster";
                invalid(service, FieldError::invalid(field, &json!(name), why))
            })
        };
        let mut wanted = strings(service, field_pointer(field).as_str())
            .map(find)
            .collect::<Result<Vec<_>, _>>()?;
        if wanted.is_empty() {
            // An address that is asked for tells its family.
            let asked: Option<IpAddr> = text(service, "/spec/clusterIP").parse().ok();
            let first = match asked {
                Some(address) => find(if address.is_ipv4() { "IPv4" } else { "IPv6" })?,
                None => &self.ranges[0],
            };
            wanted.push(first);
        }
        let dual = matches!(policy, "PreferDualStack" | "RequireDualStack")
            || items(service, "/spec/clusterIPs").len() == 2;
        if dual && wanted.len() == 1 {
            let other = self.ranges.iter().find(|range| **range != *wanted[0]);
            match other {
                Some(other) => wanted.push(other),
                None if policy == "RequireDualStack" => {
                    let field = "spec.ipFamilyPolicy";
                    let why = "this cluster is not configured for dual-stack services";
                    return Err(invalid(
                        service,
                        FieldError::invalid(field, &json!(policy), why),
                    ));
                }
                None => {}
            }
        }
        if policy == "SingleStack" {
            wanted.truncate(1);
        }
        Ok(wanted)
    }
}

fn field_pointer(field: &str) -> String {
    format!("/{}", field.replace('.', "/"))
}

/// What the other Services have.
struct Taken {
    addresses: HashSet<IpAddr>,
    ports: HashSet<(String, u16)>,
}

impl Taken {
    fn of(store: &dyn Store, except: &Value) -> Self {
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

fn node_port(port: &Value) -> Option<u16> {
    let number = port.get("nodePort")?.as_u64()?;
    u16::try_from(number).ok().filter(|number| *number != 0)
}

fn protocol(port: &Value) -> String {
    match text(port, "/protocol") {
        "" => "TCP",
        protocol => protocol,
    }
    .to_owned()
}

/// An update that leaves addresses and node ports out keeps them, as long as it still needs them.
fn keep(old: &Value, new: &mut Value) {
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
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
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

fn remove(object: &mut Value, field: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(field);
    }
}

/// Node ports for the types that have them.
fn assign_ports(service: &mut Value, taken: &Taken) -> Result<(), Status> {
    let wants = matches!(text(service, "/spec/type"), "NodePort" | "LoadBalancer");
    let named = service.clone();
    let mut given = HashSet::new();
    let ports = service["spec"]
        .get_mut("ports")
        .and_then(Value::as_array_mut);
    for (i, port) in ports.into_iter().flatten().enumerate() {
        if !port.is_object() {
            continue;
        }
        if !wants {
            remove(port, "nodePort");
            continue;
        }
        let protocol = protocol(port);
        let is_free = |number: u16, given: &HashSet<(String, u16)>| {
            let key = (protocol.clone(), number);
            !taken.ports.contains(&key) && !given.contains(&key)
        };
        let number = match node_port(port) {
            Some(number) if !NODE_PORTS.contains(&number) => {
                let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                let field = format!("spec.ports[{i}].nodePort");
                return Err(invalid(
                    &named,
                    FieldError::invalid(field, &json!(number), why),
                ));
            }
            Some(number) if !is_free(number, &given) => {
                let field = format!("spec.ports[{i}].nodePort");
                let why = "provided port is already allocated";
                return Err(invalid(
                    &named,
                    FieldError::invalid(field, &json!(number), why),
                ));
            }
            Some(number) => number,
            None => {
                let start = rand::rng().random_range(NODE_PORTS);
                let all = (start..=*NODE_PORTS.end()).chain(*NODE_PORTS.start()..start);
                let free = all.into_iter().find(|number| is_free(*number, &given));
                free.ok_or_else(|| Status::internal("no node port is free in 30000-32767"))?
            }
        };
        given.insert((protocol, number));
        port["nodePort"] = number.into();
    }
    Ok(())
}

/// An address a Service asks for.
fn check(service: &Value, range: &IpNet, asked: &str, taken: &Taken) -> Result<IpAddr, Status> {
    let refuse = |why: &str| {
        invalid(
            service,
            FieldError::invalid("spec.clusterIPs", &json!([asked]), why),
        )
    };
    let address: IpAddr = asked
        .parse()
        .map_err(|_| refuse("must be an IP address, \"None\" or empty"))?;
    if !range.contains(&address) || Some(address) == nth(range, 0) || is_broadcast(range, address) {
        return Err(refuse(&format!(
            "failed to allocate IP {address}: the provided IP is not in the valid range. \
             The range of valid IPs is {range}"
        )));
    }
    if taken.addresses.contains(&address) {
        return Err(refuse(&format!(
            "failed to allocate IP {address}: provided IP is already allocated"
        )));
    }
    Ok(address)
}

/// A free address, sought from a random place so that one just given back is not given out again at once.
fn choose(range: &IpNet, taken: &Taken) -> Result<IpAddr, Status> {
    let bits = (range.max_prefix_len() - range.prefix_len()).min(16);
    // Neither the network's own address nor (in IPv4) the broadcast address; the first is `kubernetes`'s.
    let last = (1u32 << bits) - 2;
    let start = rand::rng().random_range(2..=last);
    let mut candidates = (start..=last).chain(2..start);
    let free =
        candidates.find_map(|i| nth(range, i).filter(|address| !taken.addresses.contains(address)));
    free.ok_or_else(|| {
        Status::internal(format!(
            "the service range {range} is full; delete Services, or start the cluster with a larger range"
        ))
    })
}

fn nth(range: &IpNet, n: u32) -> Option<IpAddr> {
    match range.network() {
        IpAddr::V4(base) => u32::from(base)
            .checked_add(n)
            .map(|ip| IpAddr::V4(ip.into())),
        IpAddr::V6(base) => u128::from(base)
            .checked_add(n.into())
            .map(|ip| IpAddr::V6(ip.into())),
    }
}

fn is_broadcast(range: &IpNet, address: IpAddr) -> bool {
    is_v4(range) && range.broadcast() == address
}

fn is_v4(range: &IpNet) -> bool {
    matches!(range, IpNet::V4(_))
}

fn family(range: &IpNet) -> &'static str {
    if is_v4(range) { "IPv4" } else { "IPv6" }
}

fn invalid(service: &Value, error: FieldError) -> Status {
    errors::invalid("", "Service", text(service, "/metadata/name"), &[error])
}
