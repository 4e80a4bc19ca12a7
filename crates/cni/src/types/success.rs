//! Results. The model has the shape of the newest version; older shapes are made and read here.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CniError, Version, code, json};

/// The result of a successful ADD.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Success {
    /// Interfaces made, those on the host included.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "json::or_default"
    )]
    pub interfaces: Vec<Interface>,
    /// Addresses given.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "json::or_default"
    )]
    pub ips: Vec<IpConfig>,
    /// Routes made in the container.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "json::or_default"
    )]
    pub routes: Vec<Route>,
    /// Name resolution for the container; left out when empty.
    #[serde(
        skip_serializing_if = "Dns::is_empty",
        deserialize_with = "json::or_default"
    )]
    pub dns: Dns,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address, empty when unknown.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "json::or_default"
    )]
    pub mac: String,
    /// Its MTU in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The path of its network namespace, empty on the host.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "json::or_default"
    )]
    pub sandbox: String,
    /// The socket of a user-space interface (1.1.0).
    #[serde(
        default,
        rename = "socketPath",
        skip_serializing_if = "Option::is_none"
    )]
    pub socket_path: Option<String>,
    /// The PCI device (1.1.0).
    #[serde(default, rename = "pciID", skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// Index into [`Success::interfaces`]; none in results of IPAM plugins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// The address with its prefix length.
    pub address: IpNet,
    /// Its gateway.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "json::address"
    )]
    pub gateway: Option<IpAddr>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub dst: IpNet,
    /// Next hop; none means the gateway of the address of the same family.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "json::address"
    )]
    pub gw: Option<IpAddr>,
    /// MTU in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Maximal segment size in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Lower is preferred (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Routing table (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// 0 global, 253 link, 254 host (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

/// Name resolution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Servers in order of preference.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "json::or_default"
    )]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "json::or_default"
    )]
    pub domain: String,
    /// Domains to search.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "json::or_default"
    )]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "json::or_default"
    )]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Route {
    /// A route without the attributes that 1.1.0 added.
    pub fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self {
            dst,
            gw,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }
}

/// The shape of 0.1.0 and 0.2.0.
#[derive(Default, Serialize, Deserialize)]
struct Old {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip4: Option<OldIp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip6: Option<OldIp>,
    #[serde(
        default,
        skip_serializing_if = "Dns::is_empty",
        deserialize_with = "json::or_default"
    )]
    dns: Dns,
}

#[derive(Serialize, Deserialize)]
struct OldIp {
    ip: IpNet,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "json::address"
    )]
    gateway: Option<IpAddr>,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "json::or_default"
    )]
    routes: Vec<Route>,
}

impl Success {
    /// The result in a version's shape, `cniVersion` included. What a version cannot say is left out.
    ///
    /// # Errors
    /// Code 1 when 0.1.0 or 0.2.0 is asked for and there is no address: these versions cannot say that.
    pub fn to_value(&self, version: Version) -> Result<Value, CniError> {
        let shaped = match version {
            Version::V0_1_0 | Version::V0_2_0 => serde_json::to_value(self.to_old(version)?),
            Version::V1_1_0 => serde_json::to_value(self),
            _ => serde_json::to_value(self.without_1_1()),
        };
        let mut object = match shaped {
            Ok(Value::Object(object)) => object,
            _ => {
                return Err(CniError::new(
                    code::INTERNAL,
                    "the result cannot be written as JSON",
                ));
            }
        };
        if (Version::V0_3_0..Version::V1_0_0).contains(&version) {
            add_families(&mut object);
        }
        object.insert("cniVersion".into(), version.as_str().into());
        Ok(Value::Object(object))
    }

    /// Reads a result of any version. Without `cniVersion` it is taken to be of `default`.
    ///
    /// # Errors
    /// Code 1 for an unknown version, code 6 when it does not have the version's shape.
    pub fn from_value(value: &Value, default: Version) -> Result<Self, CniError> {
        let broken = |problem: String| {
            CniError::new(code::DECODE, format!("cannot read the result: {problem}"))
        };
        let object = value
            .as_object()
            .ok_or_else(|| broken("it is no object".into()))?;
        let version = match object.get("cniVersion") {
            None | Some(Value::Null) => default,
            Some(Value::String(text)) if text.is_empty() => default,
            Some(Value::String(text)) => text.parse()?,
            Some(other) => return Err(broken(format!("cniVersion is {other}"))),
        };
        if version <= Version::V0_2_0 {
            let old = Old::deserialize(value).map_err(|e| broken(e.to_string()))?;
            return Ok(Self::from_old(old));
        }
        Self::deserialize(value).map_err(|e| broken(e.to_string()))
    }

    /// Checks that every address names an interface of this result, or none: runtimes refuse anything else.
    ///
    /// # Errors
    /// Code 6, naming the address.
    pub fn check_indices(&self) -> Result<(), CniError> {
        let outside = |ip: &&IpConfig| {
            ip.interface
                .is_some_and(|index| index >= self.interfaces.len())
        };
        match self.ips.iter().find(outside) {
            None => Ok(()),
            Some(ip) => Err(CniError::new(
                code::DECODE,
                format!(
                    "the result gives {} to interface {}, and has {} interfaces",
                    ip.address,
                    ip.interface.unwrap_or_default(),
                    self.interfaces.len()
                ),
            )),
        }
    }

    /// This result with what a later plugin of the chain made: the answer to an ADD that had a `prevResult`.
    pub fn amended_by(mut self, later: Success) -> Success {
        let shift = self.interfaces.len();
        self.interfaces.extend(later.interfaces);
        let moved = |ip: IpConfig| IpConfig {
            interface: ip.interface.map(|index| index + shift),
            ..ip
        };
        self.ips.extend(later.ips.into_iter().map(moved));
        self.routes.extend(later.routes);
        if !later.dns.is_empty() {
            self.dns = later.dns;
        }
        self
    }

    fn without_1_1(&self) -> Self {
        let mut reduced = self.clone();
        for interface in &mut reduced.interfaces {
            (interface.mtu, interface.socket_path, interface.pci_id) = (None, None, None);
        }
        reduced.routes = self
            .routes
            .iter()
            .map(|route| Route::new(route.dst, route.gw))
            .collect();
        reduced
    }

    fn to_old(&self, version: Version) -> Result<Old, CniError> {
        let first = |v4: bool| {
            let ip = self
                .ips
                .iter()
                .find(|ip| ip.address.addr().is_ipv4() == v4)?;
            let same = self
                .routes
                .iter()
                .filter(|route| route.dst.addr().is_ipv4() == v4);
            let routes = same.map(|route| Route::new(route.dst, route.gw)).collect();
            Some(OldIp {
                ip: ip.address,
                gateway: ip.gateway,
                routes,
            })
        };
        let old = Old {
            ip4: first(true),
            ip6: first(false),
            dns: self.dns.clone(),
        };
        if old.ip4.is_none() && old.ip6.is_none() {
            let msg =
                format!("a result without any address cannot be written for cniVersion {version}");
            return Err(CniError::new(code::INCOMPATIBLE_VERSION, msg));
        }
        Ok(old)
    }

    fn from_old(old: Old) -> Self {
        let mut result = Self {
            dns: old.dns,
            ..Self::default()
        };
        for ip in [old.ip4, old.ip6].into_iter().flatten() {
            result.ips.push(IpConfig {
                interface: None,
                address: ip.ip,
                gateway: ip.gateway,
            });
            result.routes.extend(ip.routes);
        }
        result
    }
}

/// Up to 0.4.0 every address says its family.
fn add_families(object: &mut Map<String, Value>) {
    let Some(Value::Array(ips)) = object.get_mut("ips") else {
        return;
    };
    for ip in ips.iter_mut().filter_map(Value::as_object_mut) {
        let v6 = ip
            .get("address")
            .and_then(Value::as_str)
            .is_some_and(|text| text.contains(':'));
        ip.insert("version".into(), if v6 { "6" } else { "4" }.into());
    }
}
