//! Bridges: the switch between a lab's machines. Malha's own pods need none.
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage,
};

use crate::batch::{Batch, Label};
use crate::link::Mac;

impl Batch {
    /// Make a bridge, down. Its MAC address is given, so that it does not follow its ports; it floods multicast, so that
    /// neighbour discovery works from the first packet.
    pub fn add_bridge(self, name: &str, mac: Mac) -> Self {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
            ]),
        ];
        let label = Label::new("add bridge", name.to_owned());
        self.push(
            label,
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Make a link a port of a bridge.
    pub fn set_master(self, index: u32, bridge: u32) -> Self {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Controller(bridge));
        let label = Label::new("make a bridge port of link", index.to_string());
        self.push(label, RouteNetlinkMessage::SetLink(message), 0)
    }
}
