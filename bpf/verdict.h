/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The two choke points. allow() is the only place that decides whether traffic of an endpoint passes, whatever way the
 * packet came; drop() the only place that ends a packet: it counts it, and tells about it if it is worth telling.
 */
#pragma once
#include "maps.h"
#include "packet.h"
#include "policy.h"

/* 0, or the reason why this packet does not pass from (SENDER) or to (RECEIVER) this endpoint. */
INLINE int allow(struct __sk_buff *skb, const struct packet *p, const struct malha_endpoint *endpoint, enum side local)
{
	__u32 id = endpoint->id;
	const struct malha_policy *policy;

	if (!(endpoint->flags & ENDPOINT_OPEN))
		return REASON_ENDPOINT_CLOSED;
	policy = bpf_map_lookup_elem(&policies, &id);
	return likely(!policy) ? 0 : judge(skb, p, id, local);
}

INLINE void count(void *counters, __u32 index, __u32 bytes)
{
	struct malha_counter *counter = bpf_map_lookup_elem(counters, &index);

	if (counter) {
		counter->packets++; /* Per CPU, and a program is not interrupted by another on the same hook. */
		counter->bytes += bytes;
	}
}

OUTLINED int drop(struct __sk_buff *skb, const struct packet *p, __u32 reason, __u32 hook, __u32 endpoint)
{
	struct malha_drop_event *event;
	__u16 ports[2] = {};

	count(&drops, reason, skb->len);
	if (reason >= 64 || !(REASON_EVENTS & (1ULL << reason)))
		return DROP;
	if (p->version && !p->headless && (p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP))
		bpf_skb_load_bytes(skb, p->l4, ports, sizeof(ports));
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(&lost, 0, skb->len);
		return DROP;
	}
	event->time = bpf_ktime_get_ns();
	event->reason = reason;
	event->hook = hook;
	event->ifindex = skb->ifindex;
	event->endpoint = endpoint;
	event->bytes = skb->len;
	event->source_port = net16(ports[0]);
	event->destination_port = net16(ports[1]);
	event->source = p->source.address;
	event->destination = p->destination.address;
	event->protocol = p->protocol;
	__builtin_memset(event->reserved, 0, sizeof(event->reserved));
	event->rule = reason >= REASON_POLICY_INGRESS ? skb->cb[0] : 0;
	bpf_ringbuf_submit(event, 0);
	return DROP;
}
