/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * alone.h - while no daemon keeps the tables, because it is being replaced or
 * has died: rules stay as they are, next hops may be out of date. So the kernel
 * is asked for the way of each packet, which it answers where it may forward
 * what comes in by that interface (net.ipv4.conf.IF.forwarding and its like).
 */
#ifndef HAIRPIN_ALONE_H
#define HAIRPIN_ALONE_H

#include "events.h"

#define FAMILY_IP4	2	/* AF_INET */
#define FAMILY_IP6	10	/* AF_INET6 */

/* What find_way() says. */
enum way_found {
	WAY_NONE,
	WAY_FOUND,
	WAY_NARROW,	/* the packet is larger than it takes */
};

/* A question to the kernel, and its answer in the last two. */
struct way {
	__be32 daddr;		/* or a token */
	__be16 sport;
	__be16 dport;
	__u16 total;		/* bytes of IP */
	__u8 tos;
	__u8 local;		/* index of our address */
	__u32 to_ip6;
	__u32 ifindex;
	struct link link;
};

/* Whether the last beat was so many jiffies ago; never, where they are 0. */
static __always_inline bool is_silent(const struct hp_host *table, __u32 jiffies)
{
	__u64 beat = READ_ONCE(table->beat);

	return jiffies && (__s64)(bpf_jiffies64() - beat) >= (__s64)jiffies;
}

/* Whether the next hops may be out of date. */
static __always_inline bool is_alone(void)
{
	const struct hp_host *table;
	__u32 zero = 0;

	table = bpf_map_lookup_elem(&host, &zero);
	return table && is_silent(table, settings.alone_jiffies);
}

/* Go on while a daemon beats, and for some time after it has ceased. */
static __always_inline int keep_company(const struct hp_host *table, const struct turn *turn)
{
	if (is_silent(table, settings.orphan_jiffies))
		return drop(turn->index, HP_COUNT_orphaned);
	return GO_ON;
}

/* The addresses of the question; false if they are not known. */
static __always_inline bool fill_addresses(struct bpf_fib_lookup *fib, const struct way *way)
{
	__u32 zero = 0, token = way->daddr;
	const struct hp_host *table = bpf_map_lookup_elem(&host, &zero);
	const struct hp_ip6 *peer;

	if (!table)
		return false;
	if (!way->to_ip6) {
		fib->family = FAMILY_IP4;
		fib->tos = way->tos;
		fib->ipv4_src = table->address[way->local];
		fib->ipv4_dst = way->daddr;
		return true;
	}
	peer = bpf_map_lookup_elem(&peers, &token);
	if (!peer)
		return false;
	fib->family = FAMILY_IP6;
	fib->flowinfo = bpf_htonl((__u32)way->tos << 20);
	__builtin_memcpy(fib->ipv6_src, &table->address6[way->local], sizeof(fib->ipv6_src));
	__builtin_memcpy(fib->ipv6_dst, peer, sizeof(fib->ipv6_dst));
	return true;
}

/* Ask the kernel; what leaves by a VLAN device leaves by the one below it with its tag. */
__attribute__((noinline)) int find_way(struct xdp_md *ctx, struct way *way)
{
	struct bpf_fib_lookup fib = {};
	const struct hp_vlan *vlan;
	__u32 ifindex;
	long result;

	if (!way || !fill_addresses(&fib, way))
		return WAY_NONE;
	fib.l4_protocol = IPPROTO_UDP;
	fib.sport = way->sport;
	fib.dport = way->dport;
	fib.tot_len = way->total;
	fib.ifindex = ctx->ingress_ifindex;
	result = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	if (result)
		return result == BPF_FIB_LKUP_RET_FRAG_NEEDED ? WAY_NARROW : WAY_NONE;
	ifindex = fib.ifindex;
	vlan = bpf_map_lookup_elem(&vlans, &ifindex);
	way->ifindex = vlan ? vlan->lower : ifindex;
	way->link.vlan = vlan ? vlan->tci : 0;
	__builtin_memcpy(&way->link.destination, fib.dmac, ETH_ALEN);
	__builtin_memcpy(&way->link.source, fib.smac, ETH_ALEN);
	return WAY_FOUND;
}

#endif
