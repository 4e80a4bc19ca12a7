//! Permanent neighbours: an address and its MAC address, written down so that nobody has to ask.
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use crate::address::family;
use crate::batch::{Batch, Label};
use crate::error::Result;
use crate::handle::Handle;
use crate::link::{Mac, mac_text};

/// A neighbour on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Neighbour {
    /// Index of the link.
    pub device: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: Mac,
}

impl Handle {
    /// Every permanent neighbour.
    ///
    /// # Errors
    /// [`crate::Error::Netlink`].
    pub fn permanent_neighbours(&self) -> Result<Vec<Neighbour>> {
        let message = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let messages = self.dump("list neighbours", &message)?;
        Ok(messages.iter().filter_map(describe).collect())
    }
}

impl Batch {
    /// Write a permanent neighbour, over whatever is known of the address.
    pub fn replace_neighbour(self, neighbour: &Neighbour) -> Self {
        let mut message = message(neighbour.device, neighbour.address);
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(neighbour.mac.to_vec()));
        let object = format!(
            "{} at {} on link {}",
            neighbour.address,
            mac_text(neighbour.mac),
            neighbour.device
        );
        let label = Label::new("write neighbour", object);
        self.push(
            label,
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// Forget a neighbour. Absent is fine.
    pub fn delete_neighbour(self, device: u32, address: IpAddr) -> Self {
        let label = Label::new("delete neighbour", format!("{address} on link {device}"))
            .tolerating(&[libc::ENOENT, libc::ENODEV, libc::ENXIO]);
        self.push(
            label,
            RouteNetlinkMessage::DelNeighbour(message(device, address)),
            0,
        )
    }
}

fn message(device: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = device;
    message
        .attributes
        .push(NeighbourAttribute::Destination(match address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        }));
    message
}

fn describe(message: &RouteNetlinkMessage) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(message) = message else {
        return None;
    };
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                Some(IpAddr::V4(*address))
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                Some(IpAddr::V6(*address))
            }
            _ => None,
        });
    let mac = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok(),
            _ => None,
        });
    Some(Neighbour {
        device: message.header.ifindex,
        address: address?,
        mac: mac?,
    })
}
