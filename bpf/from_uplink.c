/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ingress of the node's uplink: directly routed packets for local pods take the short way in; all else is the stack's,
 * decided by one lookup. A pod address that should come through the overlay, or from here, is forged.
 */
#include "forward.h"

enum arrival { FORGED, SHORT, WHOLE };

/* How a packet from this source may come in without the overlay: the way that its answer will go out. */
INLINE enum arrival arrival_of(const struct packet *p)
{
	const struct malha_route *route = bpf_map_lookup_elem(&routes, &p->source);

	if (bpf_map_lookup_elem(&endpoints, &p->source.address))
		return FORGED;
	/* The pod answers a stranger through the stack, which has to see both directions or none. */
	if (!route)
		return WHOLE;
	if (route->kind == ROUTE_DIRECT)
		return SHORT;
	/* A node's own address may come both ways. */
	return route->kind == ROUTE_OVERLAY && same_address(&route->via, &p->source.address) ? SHORT : FORGED;
}

SEC("classifier")
int from_uplink(struct __sk_buff *skb)
{
	struct packet p;
	const struct malha_endpoint *receiver;
	enum arrival arrival;

	skb->tc_index = 0; /* Between network namespaces it would be what another node's hooks left. */
	if (skb->pkt_type != PACKET_HOST || parse(skb, &p))
		return PASS;
	receiver = bpf_map_lookup_elem(&endpoints, &p.destination.address);
	if (!receiver)
		return PASS;
	arrival = arrival_of(&p);
	if (arrival == FORGED)
		return drop(skb, &p, REASON_SPOOFED_UPLINK, HOOK_FROM_UPLINK, receiver->id);
	if (arrival == WHOLE || is_for_stack(skb, &p, RECEIVER))
		return to_stack(skb);
	return to_endpoint(skb, &p, receiver, HOOK_FROM_UPLINK);
}
