/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Egress of a pod's host end: what the node's own stack sends to the pod. Redirected packets do not pass here. */
#include "forward.h"

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
	reason = allow(receiver);
	if (reason)
		return drop(skb, &p, reason, HOOK_TO_POD, receiver->id);
	return PASS;
}
