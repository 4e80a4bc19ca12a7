/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Egress of a pod's host end: what the node's own stack sends to the pod. Redirected packets do not pass here. If the
 * pod's answer would be redirected, the flow is remembered, so that it goes back through the stack instead.
 */
#include "forward.h"

/* What the pod sends there goes to the stack anyway, unless another pod, here or elsewhere, or another node has it. */
INLINE void remember_sender(struct __sk_buff *skb, const struct packet *p)
{
	const struct malha_route *route;

	if (bpf_map_lookup_elem(&endpoints, &p->source.address)) {
		/* Both ends are local, and either may look. */
		remember(skb, p, SENDER, HOOK_TO_POD);
		remember(skb, p, RECEIVER, HOOK_TO_POD);
		return;
	}
	route = bpf_map_lookup_elem(&routes, &p->source);
	if (route && (route->kind == ROUTE_OVERLAY || route->kind == ROUTE_DIRECT))
		remember(skb, p, RECEIVER, HOOK_TO_POD);
}

SEC("classifier")
int to_pod(struct __sk_buff *skb)
{
	struct packet p;
	const struct malha_endpoint *receiver;
	int reason = parse_unicast(skb, &p);

	if (reason)
		return drop(skb, &p, reason, HOOK_TO_POD, 0);
	receiver = bpf_map_lookup_elem(&endpoints, &p.destination.address);
	if (!receiver || receiver->ifindex != skb->ifindex)
		return drop(skb, &p, REASON_NO_ENDPOINT, HOOK_TO_POD, 0);
	reason = allow(skb, &p, receiver, RECEIVER);
	if (reason)
		return drop(skb, &p, reason, HOOK_TO_POD, receiver->id);
	remember_sender(skb, &p);
	return PASS;
}
