//! The kernel's own routes to other nodes' pods: for the node's own traffic, and for packets that need an ICMP answer.

use std::collections::BTreeMap;

use anyhow::Result;
use ipnet::IpNet;
use malha_kernel::{Batch, Handle, PROTOCOL, Route, RouteKind};

use super::Target;
use crate::model::{Desired, KernelRoute, OVERLAY_LINK};

/// See the module.
#[derive(Debug, Default)]
pub struct RoutesTarget;

impl Target for RoutesTarget {
    fn name(&self) -> &'static str {
        "routes"
    }

    fn update(&mut self, desired: &Desired) -> Result<()> {
        let handle = Handle::new()?;
        let present = ours(&handle)?;
        let wanted = wanted(&handle, desired)?;
        // One by one: a single bad route must not hide the others' errors.
        super::all(&wanted, |(prefix, route)| {
            let there = present.get(prefix).map_or(&[][..], Vec::as_slice);
            if there.iter().any(|other| same(route, other)) {
                return Ok(());
            }
            // IPv6 would keep the old next hop beside the new one.
            let batch = there
                .iter()
                .fold(Batch::new(), |batch, other| batch.delete_route(other));
            Ok(handle.commit(batch.replace_route(route))?)
        })
    }

    fn prune(&mut self, desired: &Desired) -> Result<()> {
        let handle = Handle::new()?;
        let wanted = wanted(&handle, desired)?;
        let is_wanted = |route: &&Route| {
            wanted
                .get(&route.prefix)
                .is_some_and(|other| same(route, other))
        };
        let present = ours(&handle)?;
        let unwanted = present.values().flatten().filter(|route| !is_wanted(route));
        let batch = unwanted.fold(Batch::new(), |batch, route| batch.delete_route(route));
        if batch.is_empty() {
            return Ok(());
        }
        Ok(handle.commit(batch)?)
    }
}

/// The routes that this target made: routes to single addresses are the pods' own.
fn ours(handle: &Handle) -> Result<BTreeMap<IpNet, Vec<Route>>> {
    let mut routes: BTreeMap<IpNet, Vec<Route>> = BTreeMap::new();
    for route in handle
        .routes(PROTOCOL)?
        .into_iter()
        .filter(|route| !is_host(route.prefix))
    {
        routes.entry(route.prefix).or_default().push(route);
    }
    Ok(routes)
}

fn is_host(prefix: IpNet) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len()
}

fn wanted(handle: &Handle, desired: &Desired) -> Result<BTreeMap<IpNet, Route>> {
    let overlay = match desired.overlay {
        Some(_) => Some(handle.require_link(OVERLAY_LINK)?.index),
        None => None,
    };
    let routes = desired.kernel_routes.iter();
    Ok(routes
        .map(|(prefix, route)| (*prefix, translate(*prefix, route, overlay)))
        .collect())
}

fn translate(prefix: IpNet, route: &KernelRoute, overlay: Option<u32>) -> Route {
    match route {
        KernelRoute::Overlay { source } => Route {
            device: overlay,
            source: *source,
            ..Route::to(prefix)
        },
        KernelRoute::Via {
            gateway,
            ifindex,
            source,
        } => Route {
            device: Some(*ifindex),
            gateway: Some(*gateway),
            source: *source,
            ..Route::to(prefix)
        },
        KernelRoute::Unreachable => Route {
            kind: RouteKind::Unreachable,
            ..Route::to(prefix)
        },
    }
}

/// Whether two routes do the same. The kernel adds a metric, and a device to those that lead nowhere.
fn same(one: &Route, two: &Route) -> bool {
    let forwards = one.kind == RouteKind::Unicast;
    one.prefix == two.prefix
        && one.kind == two.kind
        && one.gateway == two.gateway
        && one.source == two.source
        && (!forwards || one.device == two.device)
}
