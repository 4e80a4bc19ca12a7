//! `lo` of a pod. containerd runs a plugin for it, at the same time as the network's own.

use std::{io, net::IpAddr, os::fd::AsFd};

use ipnet::IpNet;

use super::Handler;
use crate::{
    loopback,
    types::{CniError, Interface, IpConfig, Success, code},
    wire::{Answer, Request, Verb},
};

/// Brings `lo` up.
#[derive(Clone, Copy, Debug)]
pub struct Loopback;

impl Handler for Loopback {
    fn about(&self) -> String {
        format!(
            "Malha CNI loopback plugin {}: brings lo up",
            env!("CARGO_PKG_VERSION")
        )
    }

    fn handle(&self, request: &Request) -> Answer {
        match request.verb {
            Verb::Add => add(request).map(Some),
            Verb::Check => check(request).map(|()| None),
            // `lo` goes with its namespace.
            Verb::Del | Verb::Gc | Verb::Status => Ok(None),
        }
    }
}

fn add(request: &Request) -> Result<Success, CniError> {
    let netns = netns(request)?;
    let state = loopback::up(netns.as_fd()).map_err(|e| failed("cannot bring lo up", &e))?;
    if let Some(earlier) = &request.config.prev_result {
        return Ok(earlier.clone());
    }
    let lo = Interface {
        name: "lo".into(),
        mac: "00:00:00:00:00:00".into(),
        sandbox: request.netns_path.clone(),
        ..Interface::default()
    };
    let addresses = [
        Some(IpNet::new_assert(IpAddr::from([127, 0, 0, 1]), 8)),
        state
            .v6
            .then(|| IpNet::new_assert(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128)),
    ];
    let ip = |address| IpConfig {
        interface: Some(0),
        address,
        gateway: None,
    };
    Ok(Success {
        interfaces: vec![lo],
        ips: addresses.into_iter().flatten().map(ip).collect(),
        ..Success::default()
    })
}

fn check(request: &Request) -> Result<(), CniError> {
    let state =
        loopback::look(netns(request)?.as_fd()).map_err(|e| failed("cannot look at lo", &e))?;
    match state.up {
        true => Ok(()),
        false => Err(CniError::new(code::INTERNAL, "lo is down")),
    }
}

fn netns(request: &Request) -> Result<&std::os::fd::OwnedFd, CniError> {
    request
        .netns
        .as_ref()
        .ok_or_else(|| CniError::new(code::INVALID_NETNS, "there is no network namespace"))
}

fn failed(what: &str, error: &io::Error) -> CniError {
    CniError::new(code::INTERNAL, format!("{what}: {error}"))
}
