/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Egress of the VXLAN device: what the node's own stack routed to other nodes gets its tunnel key here. If a pod sent
 * it, the stack has a hand in the flow: its answers must come back the same way.
 */
#include "forward.h"

SEC("classifier")
int to_overlay(struct __sk_buff *skb)
{
	struct packet p;
	const struct malha_endpoint *sender;
	const struct malha_route *route;
	const struct malha_config *node;
	__u32 zero = 0;
	int reason;

	if (skb->tc_index == REDIRECTED)
		return PASS; /* The mark stays: the uplink is next. */
	reason = parse_unicast(skb, &p);
	if (reason)
		return drop(skb, &p, reason, HOOK_TO_OVERLAY, 0);
	node = bpf_map_lookup_elem(&config, &zero);
	if (!node || !node->vxlan_ifindex)
		return drop(skb, &p, REASON_NOT_CONFIGURED, HOOK_TO_OVERLAY, 0);
	route = bpf_map_lookup_elem(&routes, &p.destination);
	if (!route || route->kind != ROUTE_OVERLAY)
		return drop(skb, &p, REASON_NO_ROUTE, HOOK_TO_OVERLAY, 0);
	sender = bpf_map_lookup_elem(&endpoints, &p.source.address);
	if (sender) {
		reason = allow(skb, &p, sender, SENDER);
		if (reason)
			return drop(skb, &p, reason, HOOK_TO_OVERLAY, sender->id);
		remember(skb, &p, SENDER, HOOK_TO_OVERLAY);
	}
	if (set_tunnel(skb, route, node->vni))
		return drop(skb, &p, REASON_KERNEL_REFUSED, HOOK_TO_OVERLAY, 0);
	skb->tc_index = REDIRECTED;
	return PASS;
}
