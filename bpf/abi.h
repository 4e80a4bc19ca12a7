/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Generated from crates/abi: `cargo run -p malha-abi --example header > bpf/abi.h`. Do not edit. */
#pragma once
#include <linux/types.h>

#define ABI_VERSION 3

#define PAIR_WORDS 1024

#define ENDPOINT_OPEN 1

#define ROUTE_OVERLAY 1
#define ROUTE_DIRECT 2
#define ROUTE_LOCAL 3
#define ROUTE_BLACKHOLE 4
#define HOOK_FROM_POD 1
#define HOOK_TO_POD 2
#define HOOK_FROM_OVERLAY 3
#define HOOK_TO_OVERLAY 4
#define HOOK_FROM_UPLINK 5
#define HOOK_TO_UPLINK 6
#define VERDICT_ALLOW 1
#define VERDICT_LOG 2
#define VERDICT_STAGED 4
#define DIRECTION_OUT 1
#define DIRECTION_IN 2
#define IDENTITY_NONE 0
#define IDENTITY_SERVICE 0xffffffff

#define REASON_NOT_IP 1 /* Neither IPv4 nor IPv6 (ARP, for example): the pod network is routed and needs none of it. */
#define REASON_MALFORMED 2 /* The IP header is cut short or contradicts itself. */
#define REASON_LINK_LOCAL 3 /* IPv6 link-local chatter (neighbour discovery, router solicitation): pods have permanent neighbours. */
#define REASON_MULTICAST 4 /* Multicast or broadcast, which the pod network does not carry. */
#define REASON_SPOOFED_SOURCE 5 /* The pod sent from an address that is not its own. */
#define REASON_SPOOFED_MAC 6 /* The pod sent from a MAC address that is not its own. */
#define REASON_ENDPOINT_CLOSED 7 /* The endpoint is closed: it is being set up, taken down, or its policy is not in place yet. */
#define REASON_NO_ROUTE 8 /* The destination is in the pod network, but no node is known to hold it. */
#define REASON_NO_ENDPOINT 9 /* The destination belongs to this node, but no endpoint has it. */
#define REASON_BAD_TUNNEL 10 /* An overlay packet without tunnel metadata or with a foreign network identifier. */
#define REASON_SPOOFED_OVERLAY 11 /* The sender of an overlay packet is not the node that holds the packet's source address. */
#define REASON_SPOOFED_UPLINK 12 /* A packet from outside the overlay claims a pod address that does not come that way. */
#define REASON_NOT_CONFIGURED 13 /* The node's configuration is not in place yet, or has no overlay device. */
#define REASON_KERNEL_REFUSED 14 /* The kernel refused to change or redirect the packet (out of memory, most likely). */
#define REASON_LOOPBACK 15 /* The packet is for a loopback address, which never leaves a machine. */
#define REASON_POLICY_INGRESS 16 /* Policy: the receiving pod is isolated, and no rule lets this in. */
#define REASON_POLICY_EGRESS 17 /* Policy: the sending pod is isolated, and no rule lets this out. */
#define REASON_NO_CONNECTION 18 /* Policy: an answer or an ICMP error that belongs to no connection of the isolated pod. */
#define REASON_LOST_FRAGMENT 19 /* Policy: a fragment whose packet's first was not seen, so that nobody can tell what it is. */
#define REASON_SLOTS 20
/* Bit n: reason n is worth an event. */
#define REASON_EVENTS 0xfffe4ULL

/* An IP address in network order; IPv4 mapped into ::ffff:0:0/96. */
struct malha_address {
	__u32 words[4];
};

/* The one entry of the config map: what is true of the whole node. */
struct malha_config {
	/* Version of the layouts, ABI_VERSION of whoever wrote this. */
	__u32 abi_version;
	/* Index of the collect-metadata VXLAN device; 0: no overlay. */
	__u32 vxlan_ifindex;
	/* VXLAN network identifier, 24 bits. */
	__u32 vni;
	/* Largest IP packet that fits the overlay, in bytes; 0: not checked. */
	__u32 overlay_mtu;
	/* Largest IP packet that fits the direct path, in bytes; 0: not checked. */
	__u32 direct_mtu;
	/* Reserved, 0. */
	__u32 flags;
};
_Static_assert(sizeof(struct malha_config) == 24, "layout");

/* A pod's attachment, one entry for each of its addresses. */
struct malha_endpoint {
	/* Index of the host end of the pod's link. */
	__u32 ifindex;
	/* The agent's number for the endpoint, the same in all its entries. */
	__u32 id;
	/* Security identity, local to the node; 0: not known. */
	__u32 identity;
	/* ENDPOINT_* bits. */
	__u32 flags;
	/* The pod end's MAC address. */
	__u8 mac[6];
	/* The host end's MAC address: the pod's gateway. */
	__u8 host_mac[6];
};
_Static_assert(sizeof(struct malha_endpoint) == 28, "layout");

/* Key of the routes: a prefix. IPv4 lengths count the 96 bits of the mapping. */
struct malha_prefix {
	/* Number of leading bits that matter. */
	__u32 length;
	/* The prefix's address; bits beyond the length are 0. */
	struct malha_address address;
};
_Static_assert(sizeof(struct malha_prefix) == 20, "layout");

/* Where a prefix lies. */
struct malha_route {
	/* ROUTE_* constant. */
	__u32 kind;
	/* ROUTE_DIRECT: the link to leave by; else 0. */
	__u32 ifindex;
	/* ROUTE_OVERLAY: the remote tunnel end. ROUTE_DIRECT: the gateway. Else 0. */
	struct malha_address via;
};
_Static_assert(sizeof(struct malha_route) == 24, "layout");

/* A flow that the node's stack has a hand in, as seen from its local pod: both directions have the same key. */
struct malha_flow_key {
	/* The local pod's address. */
	struct malha_address local;
	/* The other end's address, as it is on the wire on this side of the stack's translation. */
	struct malha_address remote;
	/* The local pod's port, in host order. */
	__u16 local_port;
	/* The other end's port, in host order. */
	__u16 remote_port;
	/* IP protocol number. */
	__u8 protocol;
	/* Reserved, 0. */
	__u8 reserved[3];
};
_Static_assert(sizeof(struct malha_flow_key) == 40, "layout");

/* How it came to be known. Never changed: what is looked up often must not be written often. */
struct malha_flow {
	/* Nanoseconds of CLOCK_MONOTONIC when the stack was first seen to forward it. */
	__u64 since;
	/* HOOK_* constant: where. */
	__u32 hook;
	/* Reserved, 0. */
	__u32 reserved;
};
_Static_assert(sizeof(struct malha_flow) == 16, "layout");

/* Packets and bytes; sums over the CPUs are the counter's value. */
struct malha_counter {
	/* Packets. */
	__u64 packets;
	/* Bytes, link header included. */
	__u64 bytes;
};
_Static_assert(sizeof(struct malha_counter) == 16, "layout");

/* One dropped packet. */
struct malha_drop_event {
	/* Nanoseconds of CLOCK_MONOTONIC. */
	__u64 time;
	/* REASON_* constant. */
	__u32 reason;
	/* HOOK_* constant: where it was decided. */
	__u32 hook;
	/* The link the packet was on. */
	__u32 ifindex;
	/* The endpoint whose state decided; 0: none. */
	__u32 endpoint;
	/* Length in bytes, link header included. */
	__u32 bytes;
	/* Ports in host order; 0 where the packet has none. */
	__u16 source_port;
	/* See source_port. */
	__u16 destination_port;
	/* Source address; all zero for what is not IP. */
	struct malha_address source;
	/* Destination address; all zero for what is not IP. */
	struct malha_address destination;
	/* IP protocol number (IPv6: the first next header). */
	__u8 protocol;
	/* Reserved, 0. */
	__u8 reserved[3];
	/* The policy rule that decided; 0: none did. */
	__u32 rule;
};
_Static_assert(sizeof(struct malha_drop_event) == 72, "layout");

/* What holds for an endpoint, by its number. Without an entry everything passes. */
struct malha_policy {
	/* Table of what may come in; 0: everything may. */
	__u32 ingress;
	/* Table of what may go out; 0: everything may. */
	__u32 egress;
	/* Another one whenever a verdict may be another: connections judged under the one before are judged again. */
	__u32 revision;
	/* Which of the identities hold: another agent gives others, and changes each endpoint over in one step. */
	__u32 generation;
};
_Static_assert(sizeof(struct malha_policy) == 16, "layout");

/* Key of the identities: a prefix, of one generation. Lengths count the 32 bits of the generation, and for IPv4 the 96 of the mapping. */
struct malha_identity_key {
	/* Number of leading bits that matter. */
	__u32 length;
	/* The generation. */
	__u32 generation;
	/* The prefix's address; bits beyond the length are 0. */
	struct malha_address address;
};
_Static_assert(sizeof(struct malha_identity_key) == 24, "layout");

/* Key of the peers: whose traffic a table is asked about. */
struct malha_peer_key {
	/* The table. */
	__u32 table;
	/* Who is at the other end; 0: whoever has no entry. */
	__u32 identity;
};
_Static_assert(sizeof(struct malha_peer_key) == 8, "layout");

/* Key of the ports, a prefix: 32 bits for whatever protocol, 40 for every port of a protocol, up to 16 more for a range of ports. */
struct malha_port_key {
	/* Number of leading bits that matter. */
	__u32 length;
	/* The class. */
	__u32 class;
	/* IP protocol number. */
	__u8 protocol;
	/* Port that the connection is made to, in network order. */
	__u8 port[2];
	/* Reserved, 0. */
	__u8 reserved;
};
_Static_assert(sizeof(struct malha_port_key) == 12, "layout");

/* What may be done. */
struct malha_verdict {
	/* VERDICT_* bits. */
	__u32 flags;
	/* The rule that says so, for people; 0: none does. */
	__u32 rule;
	/* Of a peer: the class of ports that says more; 0: this is all. */
	__u32 class;
	/* The staged rule that would say otherwise; 0: none. */
	__u32 staged;
};
_Static_assert(sizeof(struct malha_verdict) == 16, "layout");

/* A connection (of TCP, UDP, SCTP, or an echo) of an isolated endpoint. The key is a flow's; of an echo, `local_port` is its identifier, and `remote_port` ECHO_OUT or ECHO_IN: who asks. */
struct malha_connection {
	/* Nanoseconds of CLOCK_MONOTONIC: when it was last seen, to a second. */
	__u64 seen;
	/* The endpoint's policy's revision that it was judged under. */
	__u32 revision;
	/* DIRECTION_* constant: who made it. */
	__u32 direction;
	/* The rule that allowed it; 0: none had to. */
	__u32 rule;
	/* Reserved, 0. */
	__u32 reserved;
};
_Static_assert(sizeof(struct malha_connection) == 24, "layout");

/* A packet in fragments whose first has passed: later ones have no ports to judge by. */
struct malha_fragment_key {
	/* Source address. */
	struct malha_address source;
	/* Destination address. */
	struct malha_address destination;
	/* The packet's identification. */
	__u32 id;
	/* The endpoint that it was judged for. */
	__u32 endpoint;
	/* IP protocol number. */
	__u8 protocol;
	/* Reserved, 0. */
	__u8 reserved[3];
};
_Static_assert(sizeof(struct malha_fragment_key) == 44, "layout");

/* See its key. */
struct malha_fragment {
	/* Nanoseconds of CLOCK_MONOTONIC: when the first passed. */
	__u64 seen;
};
_Static_assert(sizeof(struct malha_fragment) == 8, "layout");

/* Who has an address. */
struct malha_identity {
	/* IDENTITY_* constant, or a number that the agent gave. */
	__u32 identity;
};
_Static_assert(sizeof(struct malha_identity) == 4, "layout");
