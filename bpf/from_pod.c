/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Ingress of a pod's host end: everything the pod sends. Who sends is checked first, then where it goes is looked up. */
#include "forward.h"

INLINE int same_mac(const __u8 *a, const __u8 *b)
{
	return *(const __u16 *)a == *(const __u16 *)b && *(const __u16 *)(a + 2) == *(const __u16 *)(b + 2) &&
	       *(const __u16 *)(a + 4) == *(const __u16 *)(b + 4);
}

/* 0, or the reason why this is not a packet that the pod on this link may send. */
INLINE int check_sender(struct __sk_buff *skb, const struct packet *p, const struct malha_endpoint *sender)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *link = data;

	if (!sender || sender->ifindex != skb->ifindex)
		return REASON_SPOOFED_SOURCE;
	if ((void *)(link + 1) > end || !same_mac(link->h_source, sender->mac))
		return REASON_SPOOFED_MAC;
	return allow(skb, p, sender, SENDER);
}

SEC("classifier")
int from_pod(struct __sk_buff *skb)
{
	struct packet p;
	const struct malha_endpoint *sender, *receiver;
	const struct malha_route *route;
	int reason = parse_unicast(skb, &p);

	if (reason)
		return drop(skb, &p, reason, HOOK_FROM_POD, 0);
	sender = bpf_map_lookup_elem(&endpoints, &p.source.address);
	reason = check_sender(skb, &p, sender);
	if (reason)
		return drop(skb, &p, reason, HOOK_FROM_POD, sender ? sender->id : 0);
	receiver = bpf_map_lookup_elem(&endpoints, &p.destination.address);
	if (receiver)
		return is_for_stack(skb, &p, SENDER) ? to_stack(skb) : to_endpoint(skb, &p, receiver, HOOK_FROM_POD);
	route = bpf_map_lookup_elem(&routes, &p.destination);
	/* The world outside, services among it: the stack translates, routes and masquerades. */
	if (!route || route->kind == ROUTE_LOCAL)
		return to_stack(skb);
	if (route->kind != ROUTE_OVERLAY && route->kind != ROUTE_DIRECT)
		return drop(skb, &p, REASON_NO_ROUTE, HOOK_FROM_POD, sender->id);
	if (is_for_stack(skb, &p, SENDER))
		return to_stack(skb);
	return route->kind == ROUTE_OVERLAY ? to_overlay_device(skb, &p, route, sender->id) :
					      to_gateway(skb, &p, route, sender->id);
}
