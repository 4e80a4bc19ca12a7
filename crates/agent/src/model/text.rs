//! The desired state as text: for the log at level debug, and for tests to compare with.

use std::fmt::{Display, Formatter, Result};

use malha_datapath::NextHop;

use super::desired::{Desired, KernelRoute};

impl Display for Desired {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(
            f,
            "node {} ranges {}",
            self.own.name,
            list(&self.own.pod_ranges)
        )?;
        writeln!(f, "cluster {}", list(&self.cluster_ranges))?;
        match &self.overlay {
            Some(overlay) => writeln!(
                f,
                "overlay vni {} port {} addresses {} mtu {}",
                self.vni,
                overlay.port,
                list(&overlay.addresses),
                overlay.mtu
            )?,
            None => writeln!(f, "overlay none")?,
        }
        writeln!(f, "mtu pod {} direct {}", self.mtus.pod, self.mtus.direct)?;
        writeln!(f, "uplinks {}", list(&self.uplinks))?;
        for (prefix, next_hop) in &self.routes {
            writeln!(f, "route {prefix} {}", hop(next_hop))?;
        }
        for (prefix, route) in &self.kernel_routes {
            writeln!(f, "kernel {prefix} {}", kernel(route))?;
        }
        if let Some(masquerade) = &self.masquerade {
            writeln!(
                f,
                "masquerade {} except to {}",
                list(&masquerade.sources),
                list(&masquerade.exempt)
            )?;
        }
        let problems = self
            .peers
            .iter()
            .flat_map(|peer| peer.problems.iter().map(|problem| (&peer.name, problem)));
        for (name, problem) in problems {
            writeln!(f, "problem node {name}: {problem}")?;
        }
        self.warnings
            .iter()
            .try_for_each(|warning| writeln!(f, "warning {warning}"))
    }
}

fn hop(next_hop: &NextHop) -> String {
    match next_hop {
        NextHop::Overlay { vtep } => format!("overlay {vtep}"),
        NextHop::Direct { gateway, ifindex } => format!("direct {gateway} link {ifindex}"),
        NextHop::Local => "local".to_owned(),
        NextHop::Blackhole => "blackhole".to_owned(),
    }
}

fn kernel(route: &KernelRoute) -> String {
    let from = |source: &Option<_>| {
        source.map_or(String::new(), |source: std::net::IpAddr| {
            format!(" src {source}")
        })
    };
    match route {
        KernelRoute::Overlay { source } => format!("overlay{}", from(source)),
        KernelRoute::Via {
            gateway,
            ifindex,
            source,
        } => format!("via {gateway} link {ifindex}{}", from(source)),
        KernelRoute::Unreachable => "unreachable".to_owned(),
    }
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(",")
}
