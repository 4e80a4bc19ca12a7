/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows that the node's stack has a hand in: a service's address or a host port that it translates, most of all. The
 * hooks redirect past the stack, so the answers of such a flow would never be translated back. That is why the egress
 * hooks, which see what the stack has forwarded, remember each flow whose answers would be redirected, and the ingress
 * hooks give both directions of a remembered flow to the stack. Nobody has to know who translates, or what to.
 *
 * A key is a flow as its local pod sees it, so both directions have the same. A flow that is remembered although it is
 * no longer translated thus loses the short way and nothing else: the stack sees all of it, or none of it.
 *
 * Most packets belong to no such flow, and shall not pay for a lookup. A filter of one bit for each pair of addresses
 * (or for several: it is a hash) says whether there ever was one between the two. It is never cleared: how many pairs a
 * node sees is bounded by its few addresses. Fragments, and packets of protocols without ports, cannot be told apart any
 * further than that, and go the way of their pair.
 */
#pragma once
#include "maps.h"
#include "packet.h"

/* Which end of a packet is the pod that the hook stands at. */
enum side { SENDER, RECEIVER };

struct tuple {
	const struct malha_address *source, *destination;
	__u16 source_port, destination_port; /* 0: not known. */
	__u8 protocol; /* 0: not known. */
};

INLINE void make_key(struct malha_flow_key *key, const struct tuple *t, enum side local)
{
	__u16 source_port = t->source_port, destination_port = t->destination_port;

	if (local == SENDER) {
		key->local = *t->source;
		key->remote = *t->destination;
		key->local_port = source_port;
		key->remote_port = destination_port;
	} else {
		key->local = *t->destination;
		key->remote = *t->source;
		key->local_port = destination_port;
		key->remote_port = source_port;
	}
	key->protocol = t->protocol;
	__builtin_memset(key->reserved, 0, sizeof(key->reserved));
}

INLINE int has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/* Protocol and ports, if that is one that has them and they are at l4. */
INLINE void read_ports(struct __sk_buff *skb, __u32 l4, __u8 protocol, struct tuple *t)
{
	__u16 ports[2];

	if (!has_ports(protocol) || bpf_skb_load_bytes(skb, l4, ports, sizeof(ports)))
		return;
	t->protocol = protocol;
	t->source_port = net16(ports[0]);
	t->destination_port = net16(ports[1]);
}

/* Of the packet that an ICMP error is about, turned round: whoever gets the error sent that packet. */
INLINE void read_error(struct __sk_buff *skb, const struct packet *p, struct tuple *t, struct malha_prefix *inner)
{
	union {
		struct iphdr four;
		struct ipv6hdr six;
	} header;
	__u32 at = p->l4 + 8;
	__u16 port;

	if (p->version == 4) {
		if (bpf_skb_load_bytes(skb, at, &header.four, sizeof(header.four)))
			return;
		map_four(&inner[0], header.four.saddr);
		map_four(&inner[1], header.four.daddr);
		if (!(header.four.frag_off & net16(0x1fff)))
			read_ports(skb, at + header.four.ihl * 4, header.four.protocol, t);
	} else {
		if (bpf_skb_load_bytes(skb, at, &header.six, sizeof(header.six)))
			return;
		copy_six(&inner[0], &header.six.saddr);
		copy_six(&inner[1], &header.six.daddr);
		read_ports(skb, at + sizeof(header.six), header.six.nexthdr, t);
	}
	port = t->source_port;
	t->source_port = t->destination_port;
	t->destination_port = port;
	t->source = &inner[1].address;
	t->destination = &inner[0].address;
}

INLINE int is_error(struct __sk_buff *skb, const struct packet *p)
{
	__u8 type;

	if (p->protocol != (p->version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) || p->fragment ||
	    bpf_skb_load_bytes(skb, p->l4, &type, 1))
		return 0;
	if (p->version == 6)
		return type < 128;
	/* Unreachable, source quench, redirect, time exceeded, parameter problem. */
	return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

/* Not a key's hash: all it has to do is to spread the addresses of pods, which differ in few bits. */
INLINE __u32 fold(const struct malha_address *a)
{
	return a->words[3] + (a->words[1] ^ a->words[2]) * 0x9e3779b1;
}

/* The pair's bit is the upper 16 bits' of this. */
INLINE __u32 pair_of(const struct malha_address *local, const struct malha_address *remote)
{
	return (fold(local) * 0x85ebca6b) ^ (fold(remote) * 0xc2b2ae35);
}

INLINE __u64 *word_of(__u32 pair)
{
	__u32 index = pair >> 22;

	return bpf_map_lookup_elem(&pairs, &index);
}

INLINE __u64 bit_of(__u32 pair)
{
	return 1ULL << (pair >> 16 & 63);
}

INLINE int is_in_filter(const struct malha_address *local, const struct malha_address *remote)
{
	__u32 pair = pair_of(local, remote);
	const __u64 *word = word_of(pair);

	return word && *word & bit_of(pair);
}

OUTLINED int is_known(struct __sk_buff *skb, const struct packet *p, enum side local)
{
	struct tuple t = { .source = &p->source.address, .destination = &p->destination.address };
	struct malha_prefix inner[2];
	struct malha_flow_key key;

	if (is_error(skb, p))
		read_error(skb, p, &t, inner);
	else if (!p->fragment)
		read_ports(skb, p->l4, p->protocol, &t);
	make_key(&key, &t, local);
	if (!is_in_filter(&key.local, &key.remote))
		return 0;
	if (!key.protocol)
		return 1;
	/* The verifier wants to see which map it is. */
	return key.protocol == IPPROTO_UDP ? bpf_map_lookup_elem(&datagrams, &key) != 0 :
					     bpf_map_lookup_elem(&flows, &key) != 0;
}

/* Whether the packet's flow is one that the stack has a hand in. */
INLINE int is_for_stack(struct __sk_buff *skb, const struct packet *p, enum side local)
{
	const struct malha_address *source = &p->source.address, *destination = &p->destination.address;
	int found = local == SENDER ? is_in_filter(source, destination) : is_in_filter(destination, source);

	/* An ICMP error may come from a router, about a packet to somebody else. */
	if (likely(!found && p->protocol != IPPROTO_ICMP && p->protocol != IPPROTO_ICMPV6))
		return 0;
	return is_known(skb, p, local);
}

/* To look an entry up is to keep it. */
INLINE void keep(void *map, const struct malha_flow_key *key, __u32 hook)
{
	struct malha_flow value = {};

	if (bpf_map_lookup_elem(map, key))
		return;
	value.since = bpf_ktime_get_ns();
	value.hook = hook;
	bpf_map_update_elem(map, key, &value, BPF_ANY);
}

/* The stack has forwarded this packet. ICMP errors only follow a flow and make none. */
OUTLINED int remember(struct __sk_buff *skb, const struct packet *p, enum side local, __u32 hook)
{
	struct tuple t = { .source = &p->source.address, .destination = &p->destination.address };
	struct malha_flow_key key;
	__u32 pair;
	__u64 *word;

	if (is_error(skb, p))
		return 0;
	if (!p->headless)
		read_ports(skb, p->l4, p->protocol, &t);
	make_key(&key, &t, local);
	pair = pair_of(&key.local, &key.remote);
	word = word_of(pair);
	if (word && !(*word & bit_of(pair)))
		__sync_fetch_and_or(word, bit_of(pair));
	if (key.protocol == IPPROTO_UDP)
		keep(&datagrams, &key, hook);
	else if (key.protocol)
		keep(&flows, &key, hook);
	return 0;
}
