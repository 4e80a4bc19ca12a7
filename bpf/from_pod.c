/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Ingress of a pod's host end: everything the pod sends. Who sends is checked first, then where it goes is looked up. */
#include "forward.h"

INLINE int same_mac(const __u8 *a, const __u8 *b)
{
	return *(const __u16 *)a == *(const __u16 *)b && *(const __u16 *)(a + 2) == *(const __u16 *)(b + 2) &&
	       *(const __u16 *)(a + 4) == *(const __u16 *)(b + 4);
}

/* 0, or the reason why this is not a packet that the pod on this link may send. */
INLINE int check_sender(struct __sk_buff *skb, const struct malha_endpoint *sender)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *link = data;

	if (!sender || sender->ifindex != skb->ifindex)
		return REASON_SPOOFED_SOURCE;
	if ((void *)(link + 1) > end || !same_mac(link->h_source, sender->mac))
		return REASON_SPOOFED_MAC;
	return allow(sender);
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
	reason = check_sender(skb, sender);
	if (reason)
		return drop(skb, &p, reason, HOOK_FROM_POD, sender ? sender->id : 0);
	receiver = bpf_map_lookup_elem(&endpoints, &p.destination.address);
	if (receiver)
		return to_endpoint(skb, &p, receiver, HOOK_FROM_POD);
	route = bpf_map_lookup_elem(&routes, &p.destination);
	if (!route)
		return to_stack(skb); /* The world outside: the stack routes and masquerades. */
	switch (route->kind) {
	case ROUTE_OVERLAY:
		return to_overlay_device(skb, &p, route, sender->id);
	case ROUTE_DIRECT:
		return to_gateway(skb, &p, route, sender->id);
	case ROUTE_LOCAL:
		return to_stack(skb);
	}
	return drop(skb, &p, REASON_NO_ROUTE, HOOK_FROM_POD, sender->id);
}
