//! Flows that the node's stack has a hand in, remembered by the hooks: see `bpf/flows.h`.
use std::net::SocketAddr;
use std::path::Path;

use malha_abi::{FlowKey, FlowValue, map as name};

use crate::error::Result;
use crate::hooks::Hook;
use crate::map::Map;

/// A flow whose packets, in both directions, go through the node's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// IP protocol number: TCP, UDP or SCTP.
    pub protocol: u8,
    /// The local pod's end.
    pub local: SocketAddr,
    /// The other end, as it is on this node's links.
    pub remote: SocketAddr,
    /// When it was first seen, in nanoseconds of [`crate::event_clock`].
    pub since: u64,
    /// Where; None: at a hook of a newer version.
    pub hook: Option<Hook>,
}

/// The maps.
#[derive(Debug)]
pub(crate) struct Flows {
    maps: [Map<FlowKey, FlowValue>; 2],
}

impl Flows {
    pub(crate) fn open(maps: &Path) -> Result<Self> {
        Ok(Self {
            maps: [
                Map::open(maps, name::FLOWS, 1)?,
                Map::open(maps, name::DATAGRAMS, 1)?,
            ],
        })
    }

    pub(crate) fn list(&self) -> Result<Vec<Flow>> {
        let mut flows = Vec::new();
        for map in &self.maps {
            flows.extend(map.entries()?.iter().map(|(key, value)| flow(key, value)));
        }
        flows.sort_by_key(|flow| (flow.local, flow.remote, flow.protocol));
        Ok(flows)
    }
}

fn flow(key: &FlowKey, value: &FlowValue) -> Flow {
    Flow {
        protocol: key.protocol,
        local: SocketAddr::new(key.local.into(), key.local_port),
        remote: SocketAddr::new(key.remote.into(), key.remote_port),
        since: value.since,
        hook: Hook::from_number(value.hook),
    }
}
