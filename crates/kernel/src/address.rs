//! Addresses of links.
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::batch::{Batch, Label};
use crate::error::Result;
use crate::handle::Handle;

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Index of the link.
    pub device: u32,
    /// The address, with the length of its prefix.
    pub address: IpNet,
    /// Valid only on the link or the host: not an address that others reach.
    pub local_scope: bool,
    /// Not usable yet or not any more: tentative, duplicate or deprecated.
    pub unusable: bool,
}

impl Handle {
    /// Every address of every link.
    ///
    /// # Errors
    /// [`crate::Error::Netlink`].
    pub fn addresses(&self) -> Result<Vec<Address>> {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let messages = self.dump("list addresses", &message)?;
        Ok(messages.iter().filter_map(describe).collect())
    }
}

impl Batch {
    /// Give a link an address, usable at once (no duplicate address detection). There already is fine.
    pub fn add_address(self, device: u32, address: IpNet) -> Self {
        let mut message = message(device, address);
        message.header.flags = AddressHeaderFlags::Nodad;
        let label = Label::new("add address", format!("{address} to link {device}"));
        self.push(
            label,
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// Take an address from a link. Absent is fine.
    pub fn delete_address(self, device: u32, address: IpNet) -> Self {
        let label = Label::new("delete address", format!("{address} of link {device}"))
            .tolerating(&[libc::EADDRNOTAVAIL, libc::ENODEV]);
        self.push(
            label,
            RouteNetlinkMessage::DelAddress(message(device, address)),
            0,
        )
    }
}

fn message(device: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.index = device;
    message.attributes = vec![
        AddressAttribute::Local(address.addr()),
        AddressAttribute::Address(address.addr()),
    ];
    message
}

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn describe(message: &RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    // On a point-to-point link ADDRESS is the other side's; LOCAL, where present, is ours.
    let find = |local| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Local(address) if local => Some(*address),
                AddressAttribute::Address(address) if !local => Some(*address),
                _ => None,
            })
    };
    let flags = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Flags(flags) => Some(*flags),
            _ => None,
        });
    let bad = AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated;
    let address = find(true).or_else(|| find(false))?;
    Some(Address {
        device: message.header.index,
        address: IpNet::new(address, message.header.prefix_len).ok()?,
        local_scope: message.header.scope != AddressScope::Universe,
        unusable: flags.is_some_and(|flags| flags.intersects(bad)),
    })
}
