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
        reserved: [u8; 7],
    }
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
