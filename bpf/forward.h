/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ways a packet can go. Each node is a router to its pods: it takes one hop from the packet's time to live, so that
 * a loop ends and traceroute shows the path. A packet without a hop left goes to the kernel's stack instead, which
 * answers with ICMP "time exceeded"; so does one that is too large for the path ("fragmentation needed", "packet too
 * big"): the stack's routes lead the same way and its limits are the same.
 */
#pragma once
#include "flows.h"
#include "maps.h"
#include "packet.h"
#include "verdict.h"

/*
 * In tc_index: on its way through the egress hooks of overlay device and uplink, a packet that was redirected there has
 * been dealt with, and one on the overlay device has its tunnel key.
 */
#define REDIRECTED 0x6d6c

/* Give the packet to the node's own stack, whichever MAC address it was sent to. */
INLINE int to_stack(struct __sk_buff *skb)
{
	skb->tc_index = 0; /* A pod could have set it. */
	if (unlikely(skb->pkt_type != PACKET_HOST))
		bpf_skb_change_type(skb, PACKET_HOST);
	return PASS;
}

/* Take one hop, and write the link addresses if given. 0, or a reason. */
INLINE int rewrite(struct __sk_buff *skb, struct packet *p, const struct malha_endpoint *to)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (data + ETH_HLEN + sizeof(struct iphdr) > end)
		return REASON_KERNEL_REFUSED;
	if (to) {
		struct ethhdr *link = data;

		__builtin_memcpy(link->h_dest, to->mac, ETH_ALEN);
		__builtin_memcpy(link->h_source, to->host_mac, ETH_ALEN);
	}
	if (p->version == 4) {
		struct iphdr *four = data + ETH_HLEN;
		/* RFC 1624: one hop less is 0x0100 less, so the checksum grows by as much, with the carry brought round. */
		__u32 sum = (__u32)four->check + net16(0x0100);

		four->check = (__u16)(sum + (sum >> 16));
		four->ttl = p->ttl - 1;
		return 0;
	}
	/* No header checksum, but a card's sum over the whole packet has to be kept right: let the helper do it. */
	__u8 hops = p->ttl - 1;

	return bpf_skb_store_bytes(skb, ETH_HLEN + __builtin_offsetof(struct ipv6hdr, hop_limit), &hops, 1,
				   BPF_F_RECOMPUTE_CSUM) ?
		       REASON_KERNEL_REFUSED :
		       0;
}

/* Into the pod's namespace, past its link's queue. */
INLINE int to_endpoint(struct __sk_buff *skb, struct packet *p, const struct malha_endpoint *to, __u32 hook)
{
	int reason = allow(skb, p, to, RECEIVER);

	if (reason)
		return drop(skb, p, reason, hook, to->id);
	if (p->ttl <= 1)
		return to_stack(skb);

	__u32 ifindex = to->ifindex;

	reason = rewrite(skb, p, to);
	if (reason)
		return drop(skb, p, reason, hook, to->id);
	if (unlikely(skb->pkt_type != PACKET_HOST))
		bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(ifindex, 0);
}

/* Whether the packet, or each segment it will be cut into, is larger than `mtu` (0: no limit). */
INLINE int too_large(struct __sk_buff *skb, const struct packet *p, __u32 mtu)
{
	__u32 header = 8;
	__u8 offset;

	if (!mtu || skb->len - ETH_HLEN <= mtu)
		return 0;
	if (!skb->gso_size)
		return 1;
	if (p->protocol == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, p->l4 + 12, &offset, 1))
			return 1;
		header = (offset >> 4) * 4;
	}
	return p->l4 - ETH_HLEN + header + skb->gso_size > mtu;
}

/* Tell the VXLAN device where to send the packet. */
INLINE int set_tunnel(struct __sk_buff *skb, const struct malha_route *route, __u32 vni)
{
	struct bpf_tunnel_key key = { .tunnel_id = vni, .tunnel_ttl = 64 };

	if (is_four(&route->via)) {
		key.remote_ipv4 = net32(route->via.words[3]);
		/* The inner checksums are end to end; a second one over the whole costs and protects nothing. */
		return bpf_skb_set_tunnel_key(skb, &key, TUNNEL_KEY_SIZE, BPF_F_ZERO_CSUM_TX);
	}
	__builtin_memcpy(key.remote_ipv6, route->via.words, sizeof(key.remote_ipv6));
	return bpf_skb_set_tunnel_key(skb, &key, TUNNEL_KEY_SIZE, BPF_F_TUNINFO_IPV6);
}

INLINE int to_overlay_device(struct __sk_buff *skb, struct packet *p, const struct malha_route *route, __u32 endpoint)
{
	__u32 zero = 0;
	const struct malha_config *node = bpf_map_lookup_elem(&config, &zero);
	int reason;

	if (!node || !node->vxlan_ifindex)
		return drop(skb, p, REASON_NOT_CONFIGURED, HOOK_FROM_POD, endpoint);
	if (p->ttl <= 1 || too_large(skb, p, node->overlay_mtu))
		return to_stack(skb);
	if (set_tunnel(skb, route, node->vni))
		return drop(skb, p, REASON_KERNEL_REFUSED, HOOK_FROM_POD, endpoint);
	reason = rewrite(skb, p, 0);
	if (reason)
		return drop(skb, p, reason, HOOK_FROM_POD, endpoint);
	skb->tc_index = REDIRECTED;
	return bpf_redirect(node->vxlan_ifindex, 0);
}

/* Out of the uplink; the kernel's neighbour table gives the link addresses. */
INLINE int to_gateway(struct __sk_buff *skb, struct packet *p, const struct malha_route *route, __u32 endpoint)
{
	__u32 zero = 0;
	const struct malha_config *node = bpf_map_lookup_elem(&config, &zero);
	struct bpf_redir_neigh next = {};
	int reason;

	if (!node)
		return drop(skb, p, REASON_NOT_CONFIGURED, HOOK_FROM_POD, endpoint);
	if (p->ttl <= 1 || too_large(skb, p, node->direct_mtu))
		return to_stack(skb);
	if (is_four(&route->via)) {
		next.nh_family = 2; /* AF_INET */
		next.ipv4_nh = route->via.words[3];
	} else {
		next.nh_family = 10; /* AF_INET6 */
		__builtin_memcpy(next.ipv6_nh, route->via.words, sizeof(next.ipv6_nh));
	}
	reason = rewrite(skb, p, 0);
	if (reason)
		return drop(skb, p, reason, HOOK_FROM_POD, endpoint);
	skb->tc_index = REDIRECTED;
	return bpf_redirect_neigh(route->ifindex, &next, sizeof(next), 0);
}
