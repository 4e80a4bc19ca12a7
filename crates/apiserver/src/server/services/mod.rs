//! Addresses and node ports of Services.
//!
//! Nothing is remembered: what is taken is what the stored Services say, and a lock is held from choosing an address
//! until the Service that has it is stored. So nothing can leak, and nothing needs repair after a crash.

mod ports;
mod range;
mod taken;

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use self::{
    range::{check, choose, family, is_v4, nth},
    taken::{Taken, keep},
};
use super::{call::Call, config::StartError};
use crate::{
    api::errors::{self, FieldError},
    auth::fields::{items, strings, text},
    status::Status,
};

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

    /// The address of the `kubernetes` Service: the first of the primary range.
    pub fn first(&self) -> Option<IpAddr> {
        nth(&self.ranges[0], 1)
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
        ports::assign(service, &taken)?;
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
        let primary = text(service, "/spec/clusterIP");
        match asked.first() {
            None if !primary.is_empty() => asked.push(primary.to_owned()),
            Some(first) if !primary.is_empty() && first != primary => {
                let why = "must match the value of `clusterIP`";
                let error = FieldError::invalid("spec.clusterIPs[0]", &json!(first), why);
                return Err(invalid(service, error));
            }
            _ => {}
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
        let mut wanted = strings(service, "/spec/ipFamilies")
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

fn invalid(service: &Value, error: FieldError) -> Status {
    errors::invalid("", "Service", text(service, "/metadata/name"), &[error])
}
