//! Why a packet was dropped: each reason once, with its name, its sentence, and whether it is worth an event.

macro_rules! reasons {
    ($( $variant:ident = $number:literal, $name:literal, $loud:literal, $sentence:literal; )+) => {
        /// Why a packet was dropped. The numbers are part of the ABI.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $( #[doc = $sentence] $variant = $number, )+ }

        /// Every reason, in the order of the numbers.
        pub const REASONS: &[Reason] = &[ $( Reason::$variant ),+ ];

        impl Reason {
            /// The reason with this number.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $( $number => Some(Self::$variant), )+ _ => None }
            }

            /// The name in counters, logs and the C header.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )+ }
            }

            /// What it means and what to look at, for people.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $( Self::$variant => $sentence, )+ }
            }

            /// Whether each drop is an event. Reasons that every healthy node produces are only counted.
            #[must_use]
            pub const fn is_event(self) -> bool {
                match self { $( Self::$variant => $loud, )+ }
            }
        }
    };
}

reasons! {
    NotIp = 1, "NOT_IP", false, "Neither IPv4 nor IPv6 (ARP, for example): the pod network is routed and needs none of it.";
    Malformed = 2, "MALFORMED", true, "The IP header is cut short or contradicts itself.";
    LinkLocal = 3, "LINK_LOCAL", false, "IPv6 link-local chatter (neighbour discovery, router solicitation): pods have permanent neighbours.";
    Multicast = 4, "MULTICAST", false, "Multicast or broadcast, which the pod network does not carry.";
    SpoofedSource = 5, "SPOOFED_SOURCE", true, "The pod sent from an address that is not its own.";
    SpoofedMac = 6, "SPOOFED_MAC", true, "The pod sent from a MAC address that is not its own.";
    EndpointClosed = 7, "ENDPOINT_CLOSED", true, "The endpoint is closed: it is being set up, taken down, or its policy is not in place yet.";
    NoRoute = 8, "NO_ROUTE", true, "The destination is in the pod network, but no node is known to hold it.";
    NoEndpoint = 9, "NO_ENDPOINT", true, "The destination belongs to this node, but no endpoint has it.";
    BadTunnel = 10, "BAD_TUNNEL", true, "An overlay packet without tunnel metadata or with a foreign network identifier.";
    SpoofedOverlay = 11, "SPOOFED_OVERLAY", true, "The sender of an overlay packet is not the node that holds the packet's source address.";
    SpoofedUplink = 12, "SPOOFED_UPLINK", true, "A packet from outside the overlay claims a pod address that does not come that way.";
    NotConfigured = 13, "NOT_CONFIGURED", true, "The node's configuration is not in place yet, or has no overlay device.";
    KernelRefused = 14, "KERNEL_REFUSED", true, "The kernel refused to change or redirect the packet (out of memory, most likely).";
    Loopback = 15, "LOOPBACK", true, "The packet is for a loopback address, which never leaves a machine.";
    PolicyIngress = 16, "POLICY_INGRESS", true, "Policy: the receiving pod is isolated, and no rule lets this in.";
    PolicyEgress = 17, "POLICY_EGRESS", true, "Policy: the sending pod is isolated, and no rule lets this out.";
    NoConnection = 18, "NO_CONNECTION", true, "Policy: an answer or an ICMP error that belongs to no connection of the isolated pod.";
    LostFragment = 19, "LOST_FRAGMENT", true, "Policy: a fragment whose packet's first was not seen, so that nobody can tell what it is.";
}

/// Entries of the drop counters: reasons are indices, 0 is unused.
#[must_use]
pub const fn reason_slots() -> u32 {
    REASONS.len() as u32 + 1
}
