//! The switch between the machines, and each machine's place on it.

use std::{net::IpAddr, path::Path};

use anyhow::{Context, Result};
use ipnet::IpNet;
use malha_kernel::{Batch, Handle, NetNs, Route, Veth, sysctl};

use crate::{
    plan::{FABRIC_PREFIXES, Machine, Plan},
    state::Process,
};

/// The bridge in the fabric.
const SWITCH: &str = "br0";
/// A machine's uplink.
const UPLINK: &str = "eth0";
const MTU: u32 = 1500;

/// Makes the bridge, and the addresses of the world outside, in the fabric.
pub fn make_switch(fabric: Process) -> Result<()> {
    let handle = Handle::inside(&netns(fabric)?)?;
    handle.commit(Batch::new().add_bridge(SWITCH, mac(0, 0)))?;
    let bridge = handle.require_link(SWITCH)?.index;
    let loopback = handle.require_link("lo")?.index;
    let mut batch = Batch::new().set_up(loopback).set_up(bridge);
    for net in on_fabric(Plan::gateway())? {
        batch = batch.add_address(bridge, net);
    }
    handle.commit(batch).context("cannot set the switch up")
}

/// Plugs a machine in: a veth pair, addresses, default routes.
pub fn connect(fabric: Process, process: Process, machine: &Machine) -> Result<()> {
    let inside = netns(process)?;
    let switch = Handle::inside(&netns(fabric)?)?;
    let last = last_byte(machine.addresses[0]);
    let port = switch.add_veth(&Veth {
        name: &machine.name,
        mac: mac(1, last),
        peer_netns: &inside,
        peer_name: UPLINK,
        peer_mac: mac(2, last),
        mtu: MTU,
    })?;
    use_addresses_at_once(&inside, UPLINK)?;
    let bridge = switch.require_link(SWITCH)?.index;
    switch.commit(
        Batch::new()
            .set_master(port.index, bridge)
            .set_up(port.index),
    )?;
    let handle = Handle::inside(&inside)?;
    let (uplink, loopback) = (
        handle.require_link(UPLINK)?.index,
        handle.require_link("lo")?.index,
    );
    let mut batch = Batch::new().set_up(loopback).set_up(uplink);
    for net in on_fabric(machine.addresses)? {
        batch = batch.add_address(uplink, net);
    }
    for gateway in Plan::gateway() {
        batch = batch.replace_route(&default_route(gateway, uplink)?);
    }
    handle
        .commit(batch)
        .with_context(|| format!("cannot give {} its network", machine.name))
}

/// No duplicate address detection, also for the link-local address, from which a machine asks for its neighbours: a
/// machine has been up for longer than that takes when pods start on it, and a lab is quicker.
fn use_addresses_at_once(machine: &NetNs, device: &str) -> Result<()> {
    let name = format!("net/ipv6/conf/{device}/accept_dad");
    machine.run(|| sysctl::set(&name, "0"))??;
    Ok(())
}

fn default_route(gateway: IpAddr, device: u32) -> Result<Route> {
    let everything = if gateway.is_ipv4() {
        "0.0.0.0/0"
    } else {
        "::/0"
    };
    Ok(Route {
        device: Some(device),
        gateway: Some(gateway),
        // Not of the network under test: what a machine has when it is installed.
        protocol: STATIC,
        ..Route::to(everything.parse()?)
    })
}

/// `RTPROT_STATIC`: set by the administrator.
const STATIC: u8 = 4;

fn on_fabric(addresses: [IpAddr; 2]) -> Result<Vec<IpNet>> {
    let pairs = addresses.into_iter().zip(FABRIC_PREFIXES);
    pairs
        .map(|(address, prefix)| Ok(IpNet::new(address, prefix)?))
        .collect()
}

fn netns(process: Process) -> Result<NetNs> {
    NetNs::open(Path::new(&format!("/proc/{}/ns/net", process.pid)))
        .context("cannot open a machine's network")
}

fn last_byte(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(four) => four.octets()[3],
        IpAddr::V6(six) => six.octets()[15],
    }
}

/// Locally administered: which side, which machine.
fn mac(side: u8, machine: u8) -> [u8; 6] {
    [0x02, 0x6d, 0x6c, 0x68, side, machine]
}
