//! Policy rules: which table a packet is looked up in.
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::batch::{Batch, Label};
use crate::route::PROTOCOL;

/// A rule of ours: packets with a mark are looked up in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For IPv6 packets, else for IPv4 ones.
    pub ipv6: bool,
    /// Rules with smaller numbers come first.
    pub priority: u32,
    /// The mark, and which of its bits count.
    pub mark: (u32, u32),
    /// The table.
    pub table: u32,
}

impl Batch {
    /// Add a rule. There already is fine.
    pub fn add_rule(self, rule: &Rule) -> Self {
        let label = Label::new("add rule", format!("{rule:?}")).tolerating(&[libc::EEXIST]);
        self.push(
            label,
            RouteNetlinkMessage::NewRule(message(rule)),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Delete a rule. Absent is fine.
    pub fn delete_rule(self, rule: &Rule) -> Self {
        let label = Label::new("delete rule", format!("{rule:?}")).tolerating(&[libc::ENOENT]);
        self.push(label, RouteNetlinkMessage::DelRule(message(rule)), 0)
    }
}

fn message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if rule.ipv6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    message.header.table = u8::try_from(rule.table).unwrap_or(0);
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Table(rule.table),
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::FwMark(rule.mark.0),
        RuleAttribute::FwMask(rule.mark.1),
        RuleAttribute::Protocol(PROTOCOL.into()),
    ];
    message
}
