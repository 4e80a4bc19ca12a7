/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The few kernel helpers the hooks call, and what a BPF object needs around them. */
#pragma once
#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define OUTLINED static __attribute__((noinline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Map declarations in BTF: the loader reads the type of these members. */
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define net16(x) ((__u16)__builtin_bswap16(x))
#define net32(x) ((__u32)__builtin_bswap32(x))
#else
#define net16(x) ((__u16)(x))
#define net32(x) ((__u32)(x))
#endif

#define HELPER(ret, name, ...) static ret (*bpf_##name)(__VA_ARGS__) = (void *)BPF_FUNC_##name
HELPER(void *, map_lookup_elem, void *map, const void *key);
HELPER(long, map_update_elem, void *map, const void *key, const void *value, __u64 flags);
HELPER(__u64, ktime_get_ns, void);
HELPER(long, skb_pull_data, struct __sk_buff *skb, __u32 length);
HELPER(long, skb_load_bytes, const void *skb, __u32 offset, void *to, __u32 length);
HELPER(long, skb_store_bytes, struct __sk_buff *skb, __u32 offset, const void *from, __u32 length, __u64 flags);
HELPER(long, skb_change_type, struct __sk_buff *skb, __u32 type);
HELPER(long, skb_get_tunnel_key, struct __sk_buff *skb, struct bpf_tunnel_key *key, __u32 size, __u64 flags);
HELPER(long, skb_set_tunnel_key, struct __sk_buff *skb, struct bpf_tunnel_key *key, __u32 size, __u64 flags);
HELPER(long, redirect, __u32 ifindex, __u64 flags);
HELPER(long, redirect_peer, __u32 ifindex, __u64 flags);
HELPER(long, redirect_neigh, __u32 ifindex, struct bpf_redir_neigh *params, int size, __u64 flags);
HELPER(void *, ringbuf_reserve, void *ring, __u64 size, __u64 flags);
HELPER(void, ringbuf_submit, void *data, __u64 flags);
#undef HELPER

/* The tunnel key without the local address, which kernels before 6.0 do not know and all others let be left out. */
#define TUNNEL_KEY_SIZE (__builtin_offsetof(struct bpf_tunnel_key, tunnel_label) + sizeof(__u32))

/* "Not mine to decide": the next program, filter or the stack goes on. Unlike TC_ACT_OK it leaves room for others. */
#define PASS (-1)
#define DROP 2 /* TC_ACT_SHOT */
