//! The keys and values of the maps.
use crate::Address;
use crate::layout::layout;

layout! {
    /// The one entry of the config map: what is true of the whole node.
    struct ConfigValue = "malha_config" {
        /// Version of the layouts, ABI_VERSION of whoever wrote this.
        abi_version: u32,
        /// Index of the collect-metadata VXLAN device; 0: no overlay.
        vxlan_ifindex: u32,
        /// VXLAN network identifier, 24 bits.
        vni: u32,
        /// Largest IP packet that fits the overlay, in bytes; 0: not checked.
        overlay_mtu: u32,
        /// Largest IP packet that fits the direct path, in bytes; 0: not checked.
        direct_mtu: u32,
        /// Reserved, 0.
        flags: u32,
    }

    /// A pod's attachment, one entry for each of its addresses.
    struct EndpointValue = "malha_endpoint" {
        /// Index of the host end of the pod's link.
        ifindex: u32,
        /// The agent's number for the endpoint, the same in all its entries.
        id: u32,
        /// Security identity, local to the node; 0: not known.
        identity: u32,
        /// ENDPOINT_* bits.
        flags: u32,
        /// The pod end's MAC address.
        mac: [u8; 6],
        /// The host end's MAC address: the pod's gateway.
        host_mac: [u8; 6],
    }

    /// Key of the routes: a prefix. IPv4 lengths count the 96 bits of the mapping.
    struct PrefixKey = "malha_prefix" {
        /// Number of leading bits that matter.
        length: u32,
        /// The prefix's address; bits beyond the length are 0.
        address: Address,
    }

    /// Where a prefix lies.
    struct RouteValue = "malha_route" {
        /// ROUTE_* constant.
        kind: u32,
        /// ROUTE_DIRECT: the link to leave by; else 0.
        ifindex: u32,
        /// ROUTE_OVERLAY: the remote tunnel end. ROUTE_DIRECT: the gateway. Else 0.
        via: Address,
    }

    /// A flow that the node's stack has a hand in, as seen from its local pod: both directions have the same key.
    struct FlowKey = "malha_flow_key" {
        /// The local pod's address.
        local: Address,
        /// The other end's address, as it is on the wire on this side of the stack's translation.
        remote: Address,
        /// The local pod's port, in host order.
        local_port: u16,
        /// The other end's port, in host order.
        remote_port: u16,
        /// IP protocol number.
        protocol: u8,
        /// Reserved, 0.
        reserved: [u8; 3],
    }

    /// How it came to be known. Never changed: what is looked up often must not be written often.
    struct FlowValue = "malha_flow" {
        /// Nanoseconds of CLOCK_MONOTONIC when the stack was first seen to forward it.
        since: u64,
        /// HOOK_* constant: where.
        hook: u32,
        /// Reserved, 0.
        reserved: u32,
    }

    /// Packets and bytes; sums over the CPUs are the counter's value.
    struct Counter = "malha_counter" {
        /// Packets.
        packets: u64,
        /// Bytes, link header included.
        bytes: u64,
    }

    /// One dropped packet.
    struct DropEvent = "malha_drop_event" {
        /// Nanoseconds of CLOCK_MONOTONIC.
        time: u64,
        /// REASON_* constant.
        reason: u32,
        /// HOOK_* constant: where it was decided.
        hook: u32,
        /// The link the packet was on.
        ifindex: u32,
        /// The endpoint whose state decided; 0: none.
        endpoint: u32,
        /// Length in bytes, link header included.
        bytes: u32,
        /// Ports in host order; 0 where the packet has none.
        source_port: u16,
        /// See source_port.
        destination_port: u16,
        /// Source address; all zero for what is not IP.
        source: Address,
        /// Destination address; all zero for what is not IP.
        destination: Address,
        /// IP protocol number (IPv6: the first next header).
        protocol: u8,
        /// Reserved, 0.
        reserved: [u8; 3],
        /// The policy rule that decided; 0: none did.
        rule: u32,
    }

    /// What holds for an endpoint, by its number. Without an entry everything passes.
    struct PolicyValue = "malha_policy" {
        /// Table of what may come in; 0: everything may.
        ingress: u32,
        /// Table of what may go out; 0: everything may.
        egress: u32,
        /// Another one whenever a verdict may be another: connections judged under the one before are judged again.
        revision: u32,
        /// Which of the identities hold: another agent gives others, and changes each endpoint over in one step.
        generation: u32,
    }

    /// Key of the identities: a prefix, of one generation. Lengths count the 32 bits of the generation, and for IPv4 the 96
    /// of the mapping.
    struct IdentityKey = "malha_identity_key" {
        /// Number of leading bits that matter.
        length: u32,
        /// The generation.
        generation: u32,
        /// The prefix's address; bits beyond the length are 0.
        address: Address,
    }

    /// Key of the peers: whose traffic a table is asked about.
    struct PeerKey = "malha_peer_key" {
        /// The table.
        table: u32,
        /// Who is at the other end; 0: whoever has no entry.
        identity: u32,
    }

    /// Key of the ports, a prefix: 32 bits for whatever protocol, 40 for every port of a protocol, up to 16 more for a
    /// range of ports.
    struct PortKey = "malha_port_key" {
        /// Number of leading bits that matter.
        length: u32,
        /// The class.
        class: u32,
        /// IP protocol number.
        protocol: u8,
        /// Port that the connection is made to, in network order.
        port: [u8; 2],
        /// Reserved, 0.
        reserved: u8,
    }

    /// What may be done.
    struct VerdictValue = "malha_verdict" {
        /// VERDICT_* bits.
        flags: u32,
        /// The rule that says so, for people; 0: none does.
        rule: u32,
        /// Of a peer: the class of ports that says more; 0: this is all.
        class: u32,
        /// The staged rule that would say otherwise; 0: none.
        staged: u32,
    }

    /// A connection (of TCP, UDP, SCTP, or an echo) of an isolated endpoint. The key is a flow's; of an echo, `local_port`
    /// is its identifier, and `remote_port` ECHO_OUT or ECHO_IN: who asks.
    struct ConnectionValue = "malha_connection" {
        /// Nanoseconds of CLOCK_MONOTONIC: when it was last seen, to a second.
        seen: u64,
        /// The endpoint's policy's revision that it was judged under.
        revision: u32,
        /// DIRECTION_* constant: who made it.
        direction: u32,
        /// The rule that allowed it; 0: none had to.
        rule: u32,
        /// Reserved, 0.
        reserved: u32,
    }

    /// A packet in fragments whose first has passed: later ones have no ports to judge by.
    struct FragmentKey = "malha_fragment_key" {
        /// Source address.
        source: Address,
        /// Destination address.
        destination: Address,
        /// The packet's identification.
        id: u32,
        /// The endpoint that it was judged for.
        endpoint: u32,
        /// IP protocol number.
        protocol: u8,
        /// Reserved, 0.
        reserved: [u8; 3],
    }

    /// See its key.
    struct FragmentValue = "malha_fragment" {
        /// Nanoseconds of CLOCK_MONOTONIC: when the first passed.
        seen: u64,
    }

    /// Who has an address.
    struct IdentityValue = "malha_identity" {
        /// IDENTITY_* constant, or a number that the agent gave.
        identity: u32,
    }
}

/// Values of [`IdentityValue::identity`] that mean the same on every node. All others are the agent's to give.
pub mod identity {
    /// Nobody in particular: no rule speaks of them.
    pub const NONE: u32 = 0;
    /// A service's own address: whoever is behind it is judged once the node's stack has chosen.
    pub const SERVICE: u32 = u32::MAX;
}

/// Bits of [`VerdictValue::flags`].
pub mod verdict {
    /// It passes; without this it does not.
    pub const ALLOW: u32 = 1;
    /// It is worth an event even if it passes.
    pub const LOG: u32 = 2;
    /// With staged policies it would be otherwise.
    pub const STAGED: u32 = 4;
}

/// Values of [`ConnectionValue::direction`].
pub mod direction {
    /// Made by the endpoint.
    pub const OUT: u32 = 1;
    /// Made by the other end.
    pub const IN: u32 = 2;
}

/// Bits of [`EndpointValue::flags`].
pub mod endpoint_flags {
    /// Traffic passes. Without it every packet from and to the endpoint is dropped.
    pub const OPEN: u32 = 1;
}

/// Values of [`RouteValue::kind`].
pub mod route_kind {
    /// Through the VXLAN device to the tunnel end `via`.
    pub const OVERLAY: u32 = 1;
    /// Out of link `ifindex`, next hop `via`.
    pub const DIRECT: u32 = 2;
    /// An address of this node: its own stack.
    pub const LOCAL: u32 = 3;
    /// Belongs to the pod network, but to no node that is known.
    pub const BLACKHOLE: u32 = 4;
}

/// Values of [`DropEvent::hook`].
pub mod hook {
    /// Ingress of a pod's host end.
    pub const FROM_POD: u32 = 1;
    /// Egress of a pod's host end.
    pub const TO_POD: u32 = 2;
    /// Ingress of the VXLAN device.
    pub const FROM_OVERLAY: u32 = 3;
    /// Egress of the VXLAN device.
    pub const TO_OVERLAY: u32 = 4;
    /// Ingress of the node's uplink.
    pub const FROM_UPLINK: u32 = 5;
    /// Egress of the node's uplink.
    pub const TO_UPLINK: u32 = 6;
}
