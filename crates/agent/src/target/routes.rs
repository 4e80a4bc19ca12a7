//! The kernel's own routes to other nodes' pods: for the node's own traffic, and for packets that need an ICMP answer.

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
        let missing: Vec<Route> = wanted(&handle, desired)?
            .into_iter()
            .filter(|route| !present.iter().any(|other| same(route, other)))
            .collect();
        // One by one: a single bad route must not hide the others' errors.
        super::all(missing, |route| {
            // IPv6 would keep the old next hop beside the new one.
            let stale = present
                .iter()
                .filter(|other| other.prefix == route.prefix && !same(&route, other));
            let batch = stale.fold(Batch::new(), |batch, other| batch.delete_route(other));
            Ok(handle.commit(batch.replace_route(&route))?)
        })
    }

    fn prune(&mut self, desired: &Desired) -> Result<()> {
        let handle = Handle::new()?;
        let wanted = wanted(&handle, desired)?;
        let unwanted = ours(&handle)?
            .into_iter()
            .filter(|route| !wanted.iter().any(|other| same(route, other)));
        let batch = unwanted.fold(Batch::new(), |batch, route| batch.delete_route(&route));
        if batch.is_empty() {
            return Ok(());
        }
        Ok(handle.commit(batch)?)
    }
}

/// The routes that this target made: routes to single addresses are the pods' own.
fn ours(handle: &Handle) -> Result<Vec<Route>> {
    let mut routes = handle.routes(PROTOCOL)?;
    routes.retain(|route| !is_host(route.prefix));
    Ok(routes)
}

fn is_host(prefix: IpNet) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len()
}

fn wanted(handle: &Handle, desired: &Desired) -> Result<Vec<Route>> {
    let overlay = match desired.overlay {
        Some(_) => Some(handle.require_link(OVERLAY_LINK)?.index),
        None => None,
    };
    Ok(desired
        .kernel_routes
        .iter()
        .map(|(prefix, route)| translate(*prefix, route, overlay))
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
