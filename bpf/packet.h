/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the hooks know of a packet: one description for both families, read once. */
#pragma once
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "abi.h"
#include "helpers.h"

struct packet {
	/* The addresses as keys: `.address` for the endpoints, the whole for the routes. */
	struct malha_prefix source;
	struct malha_prefix destination;
	__u32 l4; /* Offset of what follows the IP header (and IPv4 options). */
	__u8 version; /* 4 or 6; 0: not IP. */
	__u8 protocol;
	__u8 ttl; /* Hops left. */
	__u8 fragment; /* Part of a larger packet. */
	__u8 headless; /* A later part: no ports at l4. */
	__u32 id; /* Of a fragment: which packet it is a part of. */
};

INLINE void map_four(struct malha_prefix *to, __u32 address)
{
	to->address.words[0] = 0;
	to->address.words[1] = 0;
	to->address.words[2] = net32(0xffff);
	to->address.words[3] = address;
}

INLINE void copy_six(struct malha_prefix *to, const struct in6_addr *from)
{
	to->address.words[0] = from->in6_u.u6_addr32[0];
	to->address.words[1] = from->in6_u.u6_addr32[1];
	to->address.words[2] = from->in6_u.u6_addr32[2];
	to->address.words[3] = from->in6_u.u6_addr32[3];
}

INLINE int is_four(const struct malha_address *a)
{
	return a->words[2] == net32(0xffff) && !a->words[0] && !a->words[1];
}

INLINE int same_address(const struct malha_address *a, const struct malha_address *b)
{
	return a->words[3] == b->words[3] && a->words[2] == b->words[2] && a->words[1] == b->words[1] &&
	       a->words[0] == b->words[0];
}

/* Link-local, or the unspecified address that duplicate address detection sends from. */
INLINE int is_link_local(const struct malha_address *a)
{
	return (a->words[0] & net32(0xffc00000)) == net32(0xfe800000) ||
	       !(a->words[0] | a->words[1] | a->words[2] | a->words[3]);
}

INLINE int is_loopback(const struct malha_address *a)
{
	if (is_four(a))
		return (a->words[3] & net32(0xff000000)) == net32(0x7f000000);
	return a->words[3] == net32(1) && !(a->words[0] | a->words[1] | a->words[2]);
}

/* IPv6 ff00::/8; IPv4 224.0.0.0/4 and everything above it, which holds the broadcast address. */
INLINE int is_multicast(const struct malha_address *a)
{
	if (is_four(a))
		return (a->words[3] & net32(0xe0000000)) == net32(0xe0000000);
	return (a->words[0] & net32(0xff000000)) == net32(0xff000000);
}

/* Look behind an IPv6 fragment header. Other extension headers are not worth a loop: such packets show no ports. */
INLINE int parse_fragment(struct __sk_buff *skb, struct packet *p)
{
	struct {
		__u8 next;
		__u8 reserved;
		__u16 offset;
		__u32 id;
	} header;

	if (bpf_skb_load_bytes(skb, p->l4, &header, sizeof(header)))
		return REASON_MALFORMED;
	p->protocol = header.next;
	p->l4 += sizeof(header);
	p->fragment = 1;
	p->headless = (header.offset & net16(0xfff8)) != 0;
	p->id = header.id;
	return 0;
}

/* Read the headers. 0, or the reason why the packet is none that is routed. */
INLINE int parse(struct __sk_buff *skb, struct packet *p)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const __u32 need = ETH_HLEN + sizeof(struct ipv6hdr);

	__builtin_memset(p, 0, sizeof(*p));
	p->source.length = 128;
	p->destination.length = 128;
	if (skb->protocol != net16(ETH_P_IP) && skb->protocol != net16(ETH_P_IPV6))
		return REASON_NOT_IP;
	if (unlikely(data + need > end)) {
		bpf_skb_pull_data(skb, skb->len < need ? skb->len : need);
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
	}
	if (skb->protocol == net16(ETH_P_IP)) {
		struct iphdr *four = data + ETH_HLEN;

		if ((void *)(four + 1) > end || four->version != 4 || four->ihl < 5 ||
		    ETH_HLEN + four->ihl * 4 > skb->len)
			return REASON_MALFORMED;
		p->version = 4;
		map_four(&p->source, four->saddr);
		map_four(&p->destination, four->daddr);
		p->l4 = ETH_HLEN + four->ihl * 4;
		p->protocol = four->protocol;
		p->ttl = four->ttl;
		p->fragment = (four->frag_off & net16(0x3fff)) != 0;
		p->headless = (four->frag_off & net16(0x1fff)) != 0;
		p->id = four->id;
		return 0;
	}

	struct ipv6hdr *six = data + ETH_HLEN;

	if ((void *)(six + 1) > end || six->version != 6)
		return REASON_MALFORMED;
	p->version = 6;
	copy_six(&p->source, &six->saddr);
	copy_six(&p->destination, &six->daddr);
	p->l4 = ETH_HLEN + sizeof(*six);
	p->protocol = six->nexthdr;
	p->ttl = six->hop_limit;
	return unlikely(p->protocol == IPPROTO_FRAGMENT) ? parse_fragment(skb, p) : 0;
}

/* As parse(), and only what the pod network carries: unicast beyond the link. */
INLINE int parse_unicast(struct __sk_buff *skb, struct packet *p)
{
	int reason = parse(skb, p);

	if (reason)
		return reason;
	if (is_multicast(&p->destination.address))
		return REASON_MULTICAST;
	if (is_link_local(&p->source.address) || is_link_local(&p->destination.address))
		return REASON_LINK_LOCAL;
	/* The stack refuses them, unless the link has `route_localnet`, as the links of pods with host ports do. */
	if (is_loopback(&p->destination.address))
		return REASON_LOOPBACK;
	return 0;
}
