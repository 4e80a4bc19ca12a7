/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Egress of the node's uplink: it only looks on. A pod's packet that the stack forwarded here under the pod's own
 * address is answered to that address: the flow is remembered, so that the stack sees the answers as well. All else
 * passes as early as can be told: what was redirected or encapsulated by its mark, the node's own by where it came from
 * (which fragments have lost), what was masqueraded by its source.
 */
#include "forward.h"

SEC("classifier")
int to_uplink(struct __sk_buff *skb)
{
	struct packet p;
	const struct malha_endpoint *sender;
	int reason;

	if (skb->tc_index == REDIRECTED) {
		skb->tc_index = 0;
		return PASS;
	}
	if (parse(skb, &p) || (!skb->ingress_ifindex && !p.fragment))
		return PASS;
	sender = bpf_map_lookup_elem(&endpoints, &p.source.address);
	if (!sender)
		return PASS;
	reason = allow(skb, &p, sender, SENDER);
	if (reason)
		return drop(skb, &p, reason, HOOK_TO_UPLINK, sender->id);
	remember(skb, &p, SENDER, HOOK_TO_UPLINK);
	return PASS;
}
