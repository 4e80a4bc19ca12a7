/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ingress of the VXLAN device: what other nodes send. Anyone who reaches the UDP port could claim any inner source, so
 * the sender has to be the node that our own route to the inner source leads to.
 */
#include "forward.h"

/* Address of the tunnel's other end. 0, or a reason. */
INLINE int tunnel_sender(struct __sk_buff *skb, struct malha_address *sender)
{
	struct bpf_tunnel_key key = {};
	__u32 zero = 0;
	const struct malha_config *node = bpf_map_lookup_elem(&config, &zero);

	if (!node)
		return REASON_NOT_CONFIGURED;
	__builtin_memset(sender, 0, sizeof(*sender));
	if (!bpf_skb_get_tunnel_key(skb, &key, TUNNEL_KEY_SIZE, 0)) {
		sender->words[2] = net32(0xffff);
		sender->words[3] = net32(key.remote_ipv4);
	} else if (!bpf_skb_get_tunnel_key(skb, &key, TUNNEL_KEY_SIZE, BPF_F_TUNINFO_IPV6)) {
		__builtin_memcpy(sender->words, key.remote_ipv6, sizeof(sender->words));
	} else {
		return REASON_BAD_TUNNEL;
	}
	return key.tunnel_id == node->vni ? 0 : REASON_BAD_TUNNEL;
}

SEC("classifier")
int from_overlay(struct __sk_buff *skb)
{
	struct packet p;
	struct malha_address sender;
	const struct malha_endpoint *receiver;
	const struct malha_route *route;
	int reason = parse_unicast(skb, &p);

	if (!reason)
		reason = tunnel_sender(skb, &sender);
	if (reason)
		return drop(skb, &p, reason, HOOK_FROM_OVERLAY, 0);
	route = bpf_map_lookup_elem(&routes, &p.source);
	if (!route || route->kind != ROUTE_OVERLAY || !same_address(&route->via, &sender))
		return drop(skb, &p, REASON_SPOOFED_OVERLAY, HOOK_FROM_OVERLAY, 0);
	receiver = bpf_map_lookup_elem(&endpoints, &p.destination.address);
	if (receiver)
		return is_for_stack(skb, &p, RECEIVER) ? to_stack(skb) :
							 to_endpoint(skb, &p, receiver, HOOK_FROM_OVERLAY);
	route = bpf_map_lookup_elem(&routes, &p.destination);
	if (route && route->kind == ROUTE_LOCAL)
		return to_stack(skb);
	return drop(skb, &p, REASON_NO_ENDPOINT, HOOK_FROM_OVERLAY, 0);
}
