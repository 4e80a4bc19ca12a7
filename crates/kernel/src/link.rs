//! Links: veth pairs, the overlay device, and what is changed of any.
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, InfoVxlan,
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use crate::batch::{Batch, Label};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::netns::NetNs;

/// A MAC address.
pub type Mac = [u8; 6];

/// As `aa:bb:cc:dd:ee:ff`.
#[must_use]
pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The inverse of [`mac_text`].
#[must_use]
pub fn parse_mac(text: &str) -> Option<Mac> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|part| {
            u8::from_str_radix(part, 16)
                .ok()
                .filter(|_| part.len() == 2)
        })
        .collect();
    bytes?.try_into().ok()
}

/// A link as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `veth`, `vxlan`, `bridge` and so on; empty for hardware.
    pub kind: String,
    /// Its hardware address, for links that have one of six bytes.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Up, with a carrier, and sending: see [`Handle::settle`].
    pub running: bool,
    /// It loops back to this machine.
    pub loopback: bool,
    /// The other end of a veth: its index in its own network namespace.
    pub peer: Option<u32>,
    /// Group, for changes to many links at once; 0 unless someone set it.
    pub group: u32,
    /// For a VXLAN device: whether it takes tunnel keys from packets ("external"), and its UDP port.
    pub vxlan: Option<(bool, u16)>,
}

/// A veth pair to make.
#[derive(Debug)]
pub struct Veth<'a> {
    /// Name of the end that is born in the handle's network namespace.
    pub name: &'a str,
    /// Its MAC address.
    pub mac: Mac,
    /// Where the other end is born.
    pub peer_netns: &'a NetNs,
    /// The other end's name.
    pub peer_name: &'a str,
    /// The other end's MAC address.
    pub peer_mac: Mac,
    /// MTU of both ends, in bytes.
    pub mtu: u32,
}

/// A VXLAN device to make: collect-metadata ("external"), so that one serves every peer and both families.
#[derive(Clone, Debug)]
pub struct Vxlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its MAC address, given at creation so that nobody thinks of another.
    pub mac: Mac,
    /// UDP port, 8472 or 4789 usually.
    pub port: u16,
    /// MTU, in bytes.
    pub mtu: u32,
}

impl Handle {
    /// Every link.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn links(&self) -> Result<Vec<Link>> {
        let messages = self.dump(
            "list links",
            &RouteNetlinkMessage::GetLink(LinkMessage::default()),
        )?;
        Ok(messages.iter().filter_map(describe).collect())
    }

    /// The link of this name, if there is one.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn link(&self, name: &str) -> Result<Option<Link>> {
        self.find(&|| format!("find link {name}"), by_name(name))
    }

    /// The link with this index, if there is one.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn link_by_index(&self, index: u32) -> Result<Option<Link>> {
        self.find(&|| format!("find link {index}"), at(index))
    }

    /// As [`Handle::link`], for a link that has to be there.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Netlink`].
    pub fn require_link(&self, name: &str) -> Result<Link> {
        self.link(name)?.ok_or_else(|| Error::NoLink {
            name: name.to_owned(),
        })
    }

    /// Make a veth pair, its other end already inside its network namespace, so that the death of the namespace removes
    /// both. Both ends are down. The result describes the end here.
    ///
    /// # Errors
    /// [`Error::Netlink`], with EEXIST if either name is taken.
    pub fn add_veth(&self, veth: &Veth<'_>) -> Result<Link> {
        let mut get = by_name(veth.name);
        get.attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let label = Label::new("find link", veth.name.to_owned());
        let batch = Batch::new()
            .add_veth(veth)
            .push(label, RouteNetlinkMessage::GetLink(get), 0);
        let messages = self.exchange(batch)?;
        let made = messages.iter().find_map(describe);
        made.ok_or_else(|| Error::NoLink {
            name: veth.name.to_owned(),
        })
    }

    /// Make the overlay device, down, without ARP and without an address of its own.
    ///
    /// # Errors
    /// [`Error::Netlink`], with EEXIST if the name or the port is taken, EOPNOTSUPP if the kernel has no VXLAN.
    pub fn add_vxlan(&self, vxlan: &Vxlan<'_>) -> Result<Link> {
        self.commit(Batch::new().add_vxlan(vxlan))?;
        let link = self.require_link(vxlan.name)?;
        self.commit(Batch::new().set_address_generation(link.index, false))?;
        Ok(link)
    }

    /// Wait until a link sends. When the other end of a veth that is up comes up, too, the kernel notes it in a work
    /// queue that needs the lock of all links; until then everything sent into the link is lost. Asking for the link
    /// makes Linux 6.8 note it at once, older ones are asked again. Whether it sends: not, if its other end is down.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Netlink`].
    pub fn settle(&self, index: u32) -> Result<bool> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let link = self.link_by_index(index)?.ok_or_else(|| Error::NoLink {
                name: index.to_string(),
            })?;
            if link.running || Instant::now() >= deadline {
                return Ok(link.running);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Delete a link; absent is fine. Takes about 20 ms, for a grace period: see [`Handle::delete_links`].
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn delete_link(&self, index: u32) -> Result<()> {
        self.commit(Batch::new().delete_link(index))
    }

    /// Delete many links in the time of one: they are gathered in a group, and the group is deleted. Absent is fine.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn delete_links(&self, indexes: &[u32]) -> Result<()> {
        match indexes {
            [] => Ok(()),
            [one] => self.delete_link(*one),
            many => {
                let batch = many
                    .iter()
                    .fold(Batch::new(), |batch, index| batch.set_group(*index, DOOMED));
                self.commit(batch.delete_group(DOOMED))
            }
        }
    }

    fn find(&self, what: &dyn Fn() -> String, mut message: LinkMessage) -> Result<Option<Link>> {
        message
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        match self.get(what, RouteNetlinkMessage::GetLink(message)) {
            Ok(messages) => Ok(messages.iter().find_map(describe)),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// How long the kernel may take to notice that both ends of a link are up.
const SETTLE: Duration = Duration::from_millis(500);

/// The group of links that are being deleted ("mlh" and the kernel's highest bit clear).
const DOOMED: u32 = 0x006d_6c68;

impl Batch {
    /// See [`Handle::add_veth`].
    pub fn add_veth(self, veth: &Veth<'_>) -> Self {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::NetNsFd(veth.peer_netns.as_fd().as_raw_fd()),
            LinkAttribute::IfName(veth.peer_name.to_owned()),
            LinkAttribute::Address(veth.peer_mac.to_vec()),
            LinkAttribute::Mtu(veth.mtu),
        ];
        let data = InfoData::Veth(InfoVeth::Peer(peer));
        let message = new_link((veth.name, veth.mac, veth.mtu), InfoKind::Veth, data);
        let label = Label::new(
            "add link",
            format!("{} with its peer {}", veth.name, veth.peer_name),
        );
        self.push(
            label,
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    fn add_vxlan(self, vxlan: &Vxlan<'_>) -> Self {
        let data = InfoData::Vxlan(vec![
            InfoVxlan::CollectMetadata(true),
            InfoVxlan::Port(vxlan.port),
            InfoVxlan::Learning(false),
            // The tunnel key says nothing about checksums over IPv6: take and send both kinds.
            InfoVxlan::UDPZeroCsumRX(true),
        ]);
        let mut message = new_link((vxlan.name, vxlan.mac, vxlan.mtu), InfoKind::Vxlan, data);
        message.header.flags = LinkFlags::Noarp;
        message.header.change_mask = LinkFlags::Noarp;
        let label = Label::new("add link", vxlan.name.to_owned());
        self.push(
            label,
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Delete a link; absent is fine.
    pub fn delete_link(self, index: u32) -> Self {
        let label = Label::new("delete link", index.to_string()).tolerating(&[libc::ENODEV]);
        self.push(label, RouteNetlinkMessage::DelLink(at(index)), 0)
    }

    /// Set a link up.
    pub fn set_up(self, index: u32) -> Self {
        self.set_flag(index, LinkFlags::Up)
    }

    /// Set a link down.
    pub fn set_down(self, index: u32) -> Self {
        self.set_flag(index, LinkFlags::empty())
    }

    /// Set a link's MTU, in bytes.
    pub fn set_mtu(self, index: u32, mtu: u32) -> Self {
        self.set(index, "set the MTU of link", LinkAttribute::Mtu(mtu))
    }

    /// Set a link's MAC address.
    pub fn set_mac(self, index: u32, mac: Mac) -> Self {
        self.set(
            index,
            "set the MAC address of link",
            LinkAttribute::Address(mac.to_vec()),
        )
    }

    /// Rename a link, which has to be down on kernels before 6.2.
    pub fn set_name(self, index: u32, name: &str) -> Self {
        self.set(index, "rename link", LinkAttribute::IfName(name.to_owned()))
    }

    /// Set a link's alias, which `ip link` shows; at most 254 bytes.
    pub fn set_alias(self, index: u32, alias: &str) -> Self {
        self.set(
            index,
            "set the alias of link",
            LinkAttribute::IfAlias(alias.to_owned()),
        )
    }

    /// Whether the kernel gives the link a link-local IPv6 address when it goes up. Where there is no IPv6, nothing is
    /// to be done.
    pub fn set_address_generation(self, index: u32, generate: bool) -> Self {
        let mode = if generate {
            In6AddrGenMode::Eui64
        } else {
            In6AddrGenMode::None
        };
        let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(mode)]);
        let mut message = at(index);
        message
            .attributes
            .push(LinkAttribute::AfSpecUnspec(vec![inet6]));
        let label = Label::new("set address generation of link", index.to_string())
            .tolerating(&[libc::EAFNOSUPPORT]);
        self.push(label, RouteNetlinkMessage::SetLink(message), 0)
    }

    fn set_group(self, index: u32, group: u32) -> Self {
        let mut message = at(index);
        message.attributes.push(LinkAttribute::Group(group));
        let label = Label::new("group link", index.to_string()).tolerating(&[libc::ENODEV]);
        self.push(label, RouteNetlinkMessage::SetLink(message), 0)
    }

    fn delete_group(self, group: u32) -> Self {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        let label =
            Label::new("delete", format!("the links of group {group}")).tolerating(&[libc::ENODEV]);
        self.push(label, RouteNetlinkMessage::DelLink(message), 0)
    }

    fn set_flag(self, index: u32, flags: LinkFlags) -> Self {
        let mut message = at(index);
        message.header.flags = flags;
        message.header.change_mask = LinkFlags::Up;
        let what = if flags.is_empty() {
            "set down link"
        } else {
            "set up link"
        };
        self.push(
            Label::new(what, index.to_string()),
            RouteNetlinkMessage::SetLink(message),
            0,
        )
    }

    fn set(self, index: u32, what: &'static str, attribute: LinkAttribute) -> Self {
        let mut message = at(index);
        message.attributes.push(attribute);
        self.push(
            Label::new(what, index.to_string()),
            RouteNetlinkMessage::SetLink(message),
            0,
        )
    }
}

fn by_name(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    message
}

fn at(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn new_link((name, mac, mtu): (&str, Mac, u32), kind: InfoKind, data: InfoData) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(mac.to_vec()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]),
    ];
    message
}

fn describe(message: &RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Running),
        loopback: flags.contains(LinkFlags::Loopback),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(peer) => link.peer = Some(*peer),
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::LinkInfo(infos) => {
                infos.iter().for_each(|info| describe_kind(&mut link, info))
            }
            _ => {}
        }
    }
    Some(link)
}

fn describe_kind(link: &mut Link, info: &LinkInfo) {
    match info {
        LinkInfo::Kind(kind) => link.kind = kind.to_string(),
        LinkInfo::Data(InfoData::Vxlan(data)) => {
            let external = data.contains(&InfoVxlan::CollectMetadata(true));
            let port = data.iter().find_map(|item| match item {
                InfoVxlan::Port(port) => Some(*port),
                _ => None,
            });
            link.vxlan = Some((external, port.unwrap_or(0)));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_survive() {
        let mac = [0x0a, 0x58, 10, 244, 0, 255];
        assert_eq!(mac_text(mac), "0a:58:0a:f4:00:ff");
        assert_eq!(parse_mac(&mac_text(mac)), Some(mac));
        for wrong in [
            "",
            "0a:58",
            "0a:58:0a:f4:00:ff:00",
            "a:58:0a:f4:00:ff",
            "0a-58-0a-f4-00-ff",
        ] {
            assert_eq!(parse_mac(wrong), None, "{wrong}");
        }
    }
}
