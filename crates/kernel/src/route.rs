//! Routes, and which way a packet would take.
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::address::family;
use crate::batch::{Batch, Label};
use crate::error::Result;
use crate::handle::Handle;

/// The protocol number of Malha's routes: everything else in the table is someone else's.
pub const PROTOCOL: u8 = 77;

/// The table that every packet is looked up in.
pub const MAIN_TABLE: u32 = 254;

/// The table of this machine's own addresses.
const LOCAL_TABLE: u32 = 255;

/// What a route does with packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteKind {
    /// Forwards them.
    #[default]
    Unicast,
    /// Discards them.
    Blackhole,
    /// Refuses them, with an ICMP error.
    Unreachable,
    /// Takes them in: the destination is this machine.
    Local,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub prefix: IpNet,
    /// What it does.
    pub kind: RouteKind,
    /// Index of the link to leave by.
    pub device: Option<u32>,
    /// The next router, of either family.
    pub gateway: Option<IpAddr>,
    /// The gateway is on the link even if no prefix of the link says so.
    pub onlink: bool,
    /// The address that this machine's own packets come from.
    pub source: Option<IpAddr>,
    /// Largest packet on this way, in bytes; None: the link's.
    pub mtu: Option<u32>,
    /// Of two routes to a prefix the one with the smaller metric counts; None: the family's default.
    pub metric: Option<u32>,
    /// The table.
    pub table: u32,
    /// Who made it.
    pub protocol: u8,
}

impl Route {
    /// Of ours, in the main table, with nothing but a prefix.
    #[must_use]
    pub fn to(prefix: IpNet) -> Self {
        Self {
            prefix,
            kind: RouteKind::Unicast,
            device: None,
            gateway: None,
            onlink: false,
            source: None,
            mtu: None,
            metric: None,
            table: MAIN_TABLE,
            protocol: PROTOCOL,
        }
    }

    /// Of ours, to a prefix whose addresses are all on a link.
    #[must_use]
    pub fn through(prefix: IpNet, device: u32) -> Self {
        Self {
            device: Some(device),
            ..Self::to(prefix)
        }
    }

    /// Of ours: packets to an address of this machine are taken in. The kernel makes such routes itself, but for IPv6 in
    /// a work queue, some time after it has said that the address is there; with this one beside, it is there at once.
    #[must_use]
    pub fn local(address: IpAddr, device: u32) -> Self {
        Self {
            kind: RouteKind::Local,
            table: LOCAL_TABLE,
            ..Self::through(address.into(), device)
        }
    }

    /// Of ours, and packets end here.
    #[must_use]
    pub fn blackhole(prefix: IpNet) -> Self {
        Self {
            kind: RouteKind::Blackhole,
            ..Self::to(prefix)
        }
    }
}

/// The way that a packet would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Index of the link it leaves by.
    pub device: u32,
    /// The address it would come from.
    pub source: Option<IpAddr>,
    /// The next router; None: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Largest packet known to fit the whole way, in bytes: from the route, path MTU discovery or the link.
    pub mtu: u32,
    /// The destination is this machine.
    pub local: bool,
}

impl Handle {
    /// The routes of one protocol, all tables, both families. [`PROTOCOL`] for ours.
    ///
    /// # Errors
    /// [`crate::Error::Netlink`].
    pub fn routes(&self, protocol: u8) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let messages = self.dump("list routes", &RouteNetlinkMessage::GetRoute(message))?;
            routes.extend(messages.iter().filter_map(describe));
        }
        routes.retain(|route| route.protocol == protocol);
        Ok(routes)
    }

    /// The way to an address; None: there is none.
    ///
    /// # Errors
    /// [`crate::Error::Netlink`].
    pub fn path_to(&self, address: IpAddr) -> Result<Option<Path>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(address);
        message.header.destination_prefix_length = IpNet::from(address).prefix_len();
        message
            .attributes
            .push(RouteAttribute::Destination(address.into()));
        let answer = self.get(
            &|| format!("find the way to {address}"),
            RouteNetlinkMessage::GetRoute(message),
        );
        let messages = match answer {
            Ok(messages) => messages,
            Err(error) if is_no_way(error.errno()) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(mut path) = messages.iter().find_map(describe_path) else {
            return Ok(None);
        };
        if path.mtu == 0 {
            path.mtu = self.link_by_index(path.device)?.map_or(0, |link| link.mtu);
        }
        Ok(Some(path))
    }
}

impl Batch {
    /// Write a route, over one to the same prefix with the same metric in the same table.
    pub fn replace_route(self, route: &Route) -> Self {
        let message = message(route);
        let label = Label::new("write route", text(route));
        self.push(
            label,
            RouteNetlinkMessage::NewRoute(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// Delete a route. Absent is fine.
    pub fn delete_route(self, route: &Route) -> Self {
        let mut message = message(route);
        message.header.scope = RouteScope::NoWhere;
        let label =
            Label::new("delete route", text(route)).tolerating(&[libc::ESRCH, libc::ENODEV]);
        self.push(label, RouteNetlinkMessage::DelRoute(message), 0)
    }
}

fn is_no_way(errno: Option<i32>) -> bool {
    matches!(
        errno,
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EINVAL | libc::EACCES | libc::EPERM)
    )
}

fn text(route: &Route) -> String {
    let device = route.device.map(|index| format!(" through link {index}"));
    let gateway = route.gateway.map(|address| format!(" via {address}"));
    format!(
        "{}{}{}",
        route.prefix,
        gateway.unwrap_or_default(),
        device.unwrap_or_default()
    )
}

fn message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.prefix.addr());
    message.header.destination_prefix_length = route.prefix.prefix_len();
    message.header.table = u8::try_from(route.table).unwrap_or(0);
    message.header.protocol = RouteProtocol::from(route.protocol);
    message.header.scope = if route.gateway.is_none() && route.kind == RouteKind::Unicast {
        RouteScope::Link
    } else {
        RouteScope::Universe
    };
    message.header.kind = match route.kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Local => RouteType::Local,
    };
    if route.onlink {
        message.header.flags = RouteFlags::Onlink;
    }
    let mut add = |attribute| message.attributes.push(attribute);
    add(RouteAttribute::Table(route.table));
    if route.prefix.prefix_len() > 0 {
        add(RouteAttribute::Destination(route.prefix.network().into()));
    }
    if let Some(device) = route.device {
        add(RouteAttribute::Oif(device));
    }
    if let Some(gateway) = route.gateway {
        add(gateway_attribute(route.prefix.addr(), gateway));
    }
    if let Some(source) = route.source {
        add(RouteAttribute::PrefSource(source.into()));
    }
    if let Some(metric) = route.metric {
        add(RouteAttribute::Priority(metric));
    }
    if let Some(mtu) = route.mtu {
        add(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    }
    message
}

/// A router of the other family is named by RTA_VIA.
fn gateway_attribute(destination: IpAddr, gateway: IpAddr) -> RouteAttribute {
    match gateway {
        IpAddr::V6(gateway) if destination.is_ipv4() => {
            RouteAttribute::Via(RouteVia::Inet6(gateway))
        }
        IpAddr::V4(gateway) if destination.is_ipv6() => {
            RouteAttribute::Via(RouteVia::Inet(gateway))
        }
        gateway => RouteAttribute::Gateway(gateway.into()),
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn describe(message: &RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else {
        return None;
    };
    let header = &message.header;
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let any: IpAddr = match header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut route = Route {
        kind: match header.kind {
            RouteType::Unicast => RouteKind::Unicast,
            RouteType::BlackHole => RouteKind::Blackhole,
            RouteType::Unreachable => RouteKind::Unreachable,
            RouteType::Local => RouteKind::Local,
            _ => return None,
        },
        onlink: header.flags.contains(RouteFlags::Onlink),
        table: header.table.into(),
        protocol: header.protocol.into(),
        ..Route::to(any.into())
    };
    let mut destination = any;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            RouteAttribute::Via(RouteVia::Inet(address)) => {
                route.gateway = Some(IpAddr::V4(*address))
            }
            RouteAttribute::Via(RouteVia::Inet6(address)) => {
                route.gateway = Some(IpAddr::V6(*address))
            }
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            RouteAttribute::Oif(device) => route.device = Some(*device),
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(metric) => route.metric = Some(*metric),
            RouteAttribute::Metrics(metrics) => route.mtu = mtu(metrics),
            _ => {}
        }
    }
    route.prefix = IpNet::new(destination, header.destination_prefix_length).ok()?;
    Some(route)
}

fn describe_path(message: &RouteNetlinkMessage) -> Option<Path> {
    let RouteNetlinkMessage::NewRoute(message) = message else {
        return None;
    };
    let mut path = Path {
        device: 0,
        source: None,
        gateway: None,
        mtu: 0,
        local: message.header.kind == RouteType::Local,
    };
    if !path.local && message.header.kind != RouteType::Unicast {
        return None;
    }
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Gateway(address) => path.gateway = ip(address),
            RouteAttribute::Via(RouteVia::Inet6(address)) => {
                path.gateway = Some(IpAddr::V6(*address))
            }
            RouteAttribute::PrefSource(address) => path.source = ip(address),
            RouteAttribute::Oif(device) => path.device = *device,
            RouteAttribute::Metrics(metrics) => path.mtu = mtu(metrics).unwrap_or(0),
            _ => {}
        }
    }
    Some(path)
}

fn mtu(metrics: &[RouteMetric]) -> Option<u32> {
    metrics.iter().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}
