/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Policy: what an isolated endpoint may send and get. The agent has compiled it into tables; here a table is looked up
 * once for a connection, by who is at the other end and the port that the connection is made to. What a connection
 * carries both ways passes from then on, until the endpoint's policy has another revision: then it is judged again, as
 * if it were made now.
 *
 * A connection's key is a flow's (flows.h): as its local pod sees it. When nobody knows who made a TCP connection, since
 * it is older than the endpoint's isolation or has been forgotten, either end may have: without a SYN nothing new begins.
 *
 * Everything else is closed: answers and ICMP errors without their connection, later fragments without their first.
 */
#pragma once
#include "flows.h"
#include "maps.h"
#include "packet.h"

#define SECOND 1000000000ULL
/* What has no end that could be seen is forgotten when it has been silent for so long. */
#define SILENCE (120 * SECOND)
/* Identifications come back; no fragment is late by more. */
#define FRAGMENT_LIFE (30 * SECOND)

#define ECHO_OUT 1
#define ECHO_IN 2

/* What a packet is to its connection. */
enum part {
	OPENING, /* It may begin one. */
	MIDDLE, /* Of a TCP connection: it begins nothing. */
	ANSWER, /* It belongs to one that is known, or to none: an ICMP error, an echo's reply. */
};

struct judged {
	struct malha_flow_key key;
	enum part part;
};

INLINE int is_icmp(__u8 protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

/* An echo: who asks, and its identifier. */
INLINE enum part read_echo(struct __sk_buff *skb, const struct packet *p, enum side local, struct malha_flow_key *key)
{
	struct {
		__u8 type, code;
		__u16 checksum, id, sequence;
	} header;
	int asks;

	if (p->fragment || bpf_skb_load_bytes(skb, p->l4, &header, sizeof(header)))
		return OPENING;
	asks = header.type == (p->version == 4 ? 8 : 128);
	if (!asks && header.type != (p->version == 4 ? 0 : 129))
		return OPENING;
	key->local_port = net16(header.id);
	key->remote_port = asks == (local == SENDER) ? ECHO_OUT : ECHO_IN;
	return asks ? OPENING : ANSWER;
}

/* Which connection the packet belongs to, and what it is to it. */
INLINE void describe(struct __sk_buff *skb, const struct packet *p, enum side local, struct judged *j)
{
	struct tuple t = { .source = &p->source.address, .destination = &p->destination.address };
	struct malha_prefix inner[2];
	__u8 flags = 0;

	j->part = OPENING;
	if (is_error(skb, p)) {
		j->part = ANSWER;
		read_error(skb, p, &t, inner);
	} else if (!p->headless) {
		read_ports(skb, p->l4, p->protocol, &t);
	}
	make_key(&j->key, &t, local);
	if (j->part == ANSWER)
		return;
	j->key.protocol = p->protocol;
	if (is_icmp(p->protocol))
		j->part = read_echo(skb, p, local, &j->key);
	else if (p->protocol == IPPROTO_TCP && !p->headless && !bpf_skb_load_bytes(skb, p->l4 + 13, &flags, 1))
		j->part = (flags & 0x12) == 0x02 ? OPENING : MIDDLE; /* SYN without ACK. */
}

INLINE __u32 identity_of(__u32 generation, const struct malha_address *address)
{
	struct malha_identity_key key = { .length = 160, .generation = generation, .address = *address };
	const struct malha_identity *found = bpf_map_lookup_elem(&identities, &key);

	return found ? found->identity : IDENTITY_NONE;
}

/* What a table says. The agent gives every table an entry for whoever has none. */
INLINE const struct malha_verdict *ask(__u32 table, __u32 identity, __u8 protocol, __u16 port)
{
	struct malha_peer_key peer = { .table = table, .identity = identity };
	const struct malha_verdict *verdict = bpf_map_lookup_elem(&peers, &peer);
	struct malha_port_key key = { .length = 56, .protocol = protocol, .port = { port >> 8, port & 0xff } };

	if (!verdict) {
		peer.identity = IDENTITY_NONE;
		verdict = bpf_map_lookup_elem(&peers, &peer);
	}
	if (!verdict || !verdict->class)
		return verdict;
	key.class = verdict->class;
	return bpf_map_lookup_elem(&ports, &key);
}

/* Whether the policy allows the connection if it was made in this direction. */
INLINE int may_connect(const struct malha_policy *policy, const struct malha_flow_key *key, __u32 direction, __u32 *rule)
{
	__u32 table = direction == DIRECTION_OUT ? policy->egress : policy->ingress;
	__u16 port = direction == DIRECTION_OUT ? key->remote_port : key->local_port;
	const struct malha_verdict *verdict;
	__u32 identity;

	*rule = 0;
	if (!table)
		return 1;
	identity = identity_of(policy->generation, &key->remote);
	/* Its backend is judged when it is known. */
	if (identity == IDENTITY_SERVICE && direction == DIRECTION_OUT)
		return 1;
	verdict = ask(table, identity, key->protocol, is_icmp(key->protocol) ? 0 : port);
	if (!verdict)
		return 0;
	*rule = verdict->rule;
	return verdict->flags & VERDICT_ALLOW;
}

/* Judge, and remember what is allowed. 0, or a reason. */
INLINE int judge_connection(struct __sk_buff *skb, const struct malha_policy *policy, struct judged *j, enum side local)
{
	struct malha_connection *known = bpf_map_lookup_elem(&connections, &j->key);
	struct malha_connection value = { .seen = bpf_ktime_get_ns(), .revision = policy->revision };
	__u32 here = local == SENDER ? DIRECTION_OUT : DIRECTION_IN;

	if (known && j->key.protocol != IPPROTO_TCP && value.seen - known->seen > SILENCE)
		known = 0;
	/* A connection that is made anew, maybe by the other end. */
	if (known && j->key.protocol == IPPROTO_TCP && j->part == OPENING && known->direction != here)
		known = 0;
	if (known && known->revision == value.revision) {
		if (value.seen - known->seen > SECOND)
			known->seen = value.seen;
		return 0;
	}
	if (!known && j->part == ANSWER)
		return REASON_NO_CONNECTION;
	value.direction = known ? known->direction : here;
	if (!may_connect(policy, &j->key, value.direction, &value.rule)) {
		skb->cb[0] = value.rule;
		if (!known && j->part == MIDDLE) {
			value.direction = DIRECTION_OUT + DIRECTION_IN - here;
			if (may_connect(policy, &j->key, value.direction, &value.rule))
				goto allowed;
		}
		/* What is known stays, so that nobody takes the rest of a connection for one that the other end made. */
		return here == DIRECTION_OUT ? REASON_POLICY_EGRESS : REASON_POLICY_INGRESS;
	}
allowed:
	bpf_map_update_elem(&connections, &j->key, &value, BPF_ANY);
	return 0;
}

/* 0, or the reason why this packet does not pass from or to the isolated endpoint. */
OUTLINED int judge(struct __sk_buff *skb, const struct packet *p, __u32 endpoint, enum side local)
{
	const struct malha_policy *policy = bpf_map_lookup_elem(&policies, &endpoint);
	struct malha_fragment_key part = {};
	struct malha_fragment first = {};
	struct judged j;
	int reason;

	if (!policy)
		return 0;
	skb->cb[0] = 0;
	if (p->fragment) {
		part.source = p->source.address;
		part.destination = p->destination.address;
		part.id = p->id;
		part.endpoint = endpoint;
		part.protocol = p->protocol;
		first.seen = bpf_ktime_get_ns();
	}
	if (p->headless) {
		const struct malha_fragment *passed = bpf_map_lookup_elem(&fragments, &part);

		return passed && first.seen - passed->seen <= FRAGMENT_LIFE ? 0 : REASON_LOST_FRAGMENT;
	}
	describe(skb, p, local, &j);
	reason = judge_connection(skb, policy, &j, local);
	if (!reason && p->fragment)
		bpf_map_update_elem(&fragments, &part, &first, BPF_ANY);
	return reason;
}
