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

#define WAY_NONE	0	/* what find_way() says, if not an interface */
#define WAY_NARROW	(-1)	/* the packet is larger than it takes */

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
static __always_inline bool fill_addresses(struct bpf_fib_lookup *fib, __u32 daddr, __u8 local,
					   __u8 tos, bool to_ip6)
{
	const struct hp_host *table;
	const struct hp_ip6 *peer;
	__u32 zero = 0;

	table = bpf_map_lookup_elem(&host, &zero);
	if (!table)
		return false;
	if (!to_ip6) {
		fib->family = FAMILY_IP4;
		fib->tos = tos;
		fib->ipv4_src = table->address[local];
		fib->ipv4_dst = daddr;
		return true;
	}
	peer = bpf_map_lookup_elem(&peers, &daddr);
	if (!peer)
		return false;
	fib->family = FAMILY_IP6;
	fib->flowinfo = bpf_htonl((__u32)tos << 20);
	__builtin_memcpy(fib->ipv6_src, &table->address6[local], sizeof(fib->ipv6_src));
	__builtin_memcpy(fib->ipv6_dst, peer, sizeof(fib->ipv6_dst));
	return true;
}

/*
 * Ask the kernel for the way of a packet to address, or token, and port `to`,
 * as a word has them, by the rule of `control`; `size` is its bytes of IP, and
 * in its upper half its TOS. The interface it is to leave by, or one of the
 * above; `link` becomes what to put before it. What leaves by a VLAN device
 * leaves by the one below it with its tag.
 */
__attribute__((noinline)) int find_way(struct xdp_md *ctx, __u64 to, __u64 control, __u32 size,
				       struct link *link)
{
	struct bpf_fib_lookup fib = {};
	const struct hp_vlan *vlan;
	__u32 ifindex;
	long result;

	if (!link || !fill_addresses(&fib, to, control_address(control), size >> 16,
				     control >> 16 & HP_TO_IP6))
		return WAY_NONE;
	fib.l4_protocol = IPPROTO_UDP;
	fib.sport = control_port(control);
	fib.dport = to >> 32;
	fib.tot_len = size;
	fib.ifindex = ctx->ingress_ifindex;
	result = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	if (result)
		return result == BPF_FIB_LKUP_RET_FRAG_NEEDED ? WAY_NARROW : WAY_NONE;
	ifindex = fib.ifindex;
	vlan = bpf_map_lookup_elem(&vlans, &ifindex);
	link->vlan = vlan ? vlan->tci : 0;
	__builtin_memcpy(&link->destination, fib.dmac, ETH_ALEN);
	__builtin_memcpy(&link->source, fib.smac, ETH_ALEN);
	return vlan ? vlan->lower : ifindex;
}

#endif
