//! What is asked for and what comes of it.
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use malha_kernel::{Mac, NetNs, NetNsId};
use serde::{Deserialize, Serialize};

use crate::names;
use crate::ports::HostPort;

/// What an attachment is known by: nothing else tells one from another, least of all the pod's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The runtime's name for the container or sandbox.
    pub container_id: String,
    /// The interface in it.
    pub ifname: String,
}

impl Key {
    /// Of a container ID and an interface name.
    pub fn new(container_id: impl Into<String>, ifname: impl Into<String>) -> Self {
        Self {
            container_id: container_id.into(),
            ifname: ifname.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container_id, self.ifname)
    }
}

/// The pod behind an attachment, as far as the runtime told: for people and for policy, never to find anything by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: tells it from another pod of the same name.
    pub uid: String,
}

/// ADD.
#[derive(Debug)]
pub struct AddRequest<'a> {
    /// The attachment.
    pub key: Key,
    /// The container's network namespace.
    pub netns: &'a NetNs,
    /// What the runtime calls that namespace (CNI_NETNS); comes back as [`Endpoint::sandbox`].
    pub sandbox: String,
    /// The pod, if the runtime told.
    pub pod: Option<Pod>,
    /// Ports of the node that are to lead to it.
    pub ports: Vec<HostPort>,
}

/// CHECK.
#[derive(Debug)]
pub struct CheckRequest<'a> {
    /// The attachment.
    pub key: Key,
    /// The container's network namespace.
    pub netns: &'a NetNs,
    /// The addresses that the result of ADD (`prevResult`) names for this interface; None: not compared.
    pub addresses: Option<Vec<IpAddr>>,
}

/// An attachment that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The number that the datapath has for it, in drop events for example. Not 0.
    pub id: u32,
    /// The attachment.
    pub key: Key,
    /// The pod, if the runtime told.
    pub pod: Option<Pod>,
    /// What the runtime called the network namespace.
    pub sandbox: String,
    /// Inode of the network namespace; with `netns_device` what tells it from others.
    pub netns_inode: u64,
    /// Device of the namespace filesystem.
    pub netns_device: u64,
    /// Name of the link's end on the node.
    pub host_link: String,
    /// The pod's addresses, in the order of the node's prefixes.
    pub addresses: Vec<IpAddr>,
    /// MAC address of the pod's end.
    pub mac: Mac,
    /// MAC address of the node's end: the pod's gateway.
    pub host_mac: Mac,
    /// MTU of both ends, in bytes.
    pub mtu: u32,
    /// Ports of the node that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<HostPort>,
}

impl Endpoint {
    /// The network namespace it is in.
    #[must_use]
    pub fn netns(&self) -> NetNsId {
        NetNsId {
            device: self.netns_device,
            inode: self.netns_inode,
        }
    }

    /// The pod's addresses as it has them: each alone in its prefix.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.addresses.iter().map(|address| IpNet::from(*address))
    }

    /// The pod's default routes: destination and gateway, one of each family it has.
    pub fn routes(&self) -> impl Iterator<Item = (IpNet, IpAddr)> + '_ {
        self.addresses
            .iter()
            .map(|address| (names::everything(*address), names::gateway(*address)))
    }

    /// As the datapath has it.
    pub(crate) fn datapath(&self, ifindex: u32, open: bool) -> malha_datapath::Endpoint {
        malha_datapath::Endpoint {
            id: self.id,
            ifindex,
            addresses: self.addresses.clone(),
            mac: self.mac,
            host_mac: self.host_mac,
            identity: 0,
            open,
        }
    }
}
