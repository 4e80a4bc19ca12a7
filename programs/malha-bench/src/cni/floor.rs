//! The least that a pod's network costs: the same veth pair, addresses, routes and neighbours, from within one process.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use malha_kernel::{Batch, Handle, Neighbour, NetNs, Route, Veth};

/// Makes one, returns how long it took, and removes it.
pub fn add(number: usize) -> Result<Duration> {
    let pod = NetNs::create()?;
    let name = format!("floor{number}");
    let begun = Instant::now();
    let (outside, inside) = (Handle::new()?, Handle::inside(&pod)?);
    let (host_mac, pod_mac) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let host = outside
        .add_veth(&Veth {
            name: &name,
            mac: host_mac,
            peer_netns: &pod,
            peer_name: "eth0",
            peer_mac: pod_mac,
            mtu: 1450,
        })?
        .index;
    let device = inside.require_link("eth0")?.index;
    let families: [(IpAddr, IpAddr, &str); 2] = [
        ("10.97.0.2".parse()?, "169.254.1.1".parse()?, "0.0.0.0/0"),
        ("fd00:97::2".parse()?, "fe80::1".parse()?, "::/0"),
    ];
    let (mut within, mut without) = (Batch::new().set_up(device), Batch::new().set_up(host));
    for (address, gateway, everything) in families {
        within = within.add_address(device, address.into());
        within = within.replace_neighbour(&Neighbour {
            device,
            address: gateway,
            mac: host_mac,
        });
        let default = Route {
            gateway: Some(gateway),
            onlink: true,
            ..Route::through(everything.parse()?, device)
        };
        within = within.replace_route(&default);
        without = without.replace_route(&Route::through(address.into(), host));
        without = without.replace_neighbour(&Neighbour {
            device: host,
            address,
            mac: pod_mac,
        });
    }
    inside.commit(within)?;
    outside.commit(without)?;
    let spent = begun.elapsed();
    outside.delete_link(host)?;
    Ok(spent)
}
