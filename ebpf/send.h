/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * send.h - out to the next hop. Always by redirect, also to the interface the
 * frame came in on: on veth XDP_TX may leave frames lying in the peer's ring.
 */
#ifndef HAIRPIN_SEND_H
#define HAIRPIN_SEND_H

#include "events.h"

static __always_inline void write_macs(struct ethhdr *eth, __u64 destination, __u64 source)
{
	__u16 *half = (__u16 *)eth;

	half[0] = destination;
	half[1] = destination >> 16;
	half[2] = destination >> 32;
	half[3] = source;
	half[4] = source >> 16;
	half[5] = source >> 32;
}

/* User space sends it, if it has not had enough from this rule; else it is lost. */
static __always_inline int send_up(struct xdp_md *ctx, const struct packet *packet,
				   const struct turn *turn)
{
	struct hp_cold *c = bpf_map_lookup_elem(&cold, &turn->index);

	if (c && within_budget(c) &&
	    copy_up(ctx, HP_COPY_UNRESOLVED, turn->index, packet->total)) {
		count(HP_COUNT_slow_path);
		return XDP_DROP;
	}
	return drop(turn->index, HP_COUNT_no_next_hop);
}

static __always_inline int send_out(struct xdp_md *ctx, const struct packet *packet,
				    const struct turn *turn, __u32 entry)
{
	struct hp_nexthop *hop = bpf_map_lookup_elem(&nexthops, &entry);
	__u64 destination, source;
	__u32 now = bpf_jiffies64();

	if (!hop)
		return send_up(ctx, packet, turn);
	destination = READ_ONCE(*(__u64 *)hop->destination_mac);
	source = READ_ONCE(*(__u64 *)hop->source_mac);
	if (destination >> 48 != HP_NEXTHOP_READY || packet->total > hop->mtu)
		return send_up(ctx, packet, turn);
	if ((hop->used ^ now) >> settings.tick_shift)
		WRITE_ONCE(hop->used, now);
	if (bpf_redirect_map(&devices, source >> 48, XDP_DROP) != XDP_REDIRECT)
		return send_up(ctx, packet, turn);
	write_macs(packet->eth, destination, source);
	count(HP_COUNT_forwarded);
	return XDP_REDIRECT;
}

/* Back the way the learned source's frames come, while no next hop is cached. */
static __always_inline int send_back(struct xdp_md *ctx, const struct packet *packet,
				     const struct turn *turn)
{
	struct hp_cold *c = bpf_map_lookup_elem(&cold, &turn->index);
	__u8 macs[2 * ETH_ALEN];
	__u32 ifindex;

	if (!c || READ_ONCE(c->via_learned) != turn->learned || !c->via_ifindex)
		return send_up(ctx, packet, turn);
	__builtin_memcpy(macs, c->via_mac, ETH_ALEN);
	__builtin_memcpy(macs + ETH_ALEN, c->via_source_mac, ETH_ALEN);
	ifindex = c->via_ifindex;
	if (READ_ONCE(c->via_learned) != turn->learned)
		return send_up(ctx, packet, turn);
	__builtin_memcpy(packet->eth, macs, sizeof(macs));
	count(HP_COUNT_forwarded);
	return bpf_redirect(ifindex, 0);
}

/* The cached next hop is that of the signalled address; its slot goes by generation. */
static __always_inline int send(struct xdp_md *ctx, const struct packet *packet,
				const struct turn *turn)
{
	__u32 entry = turn->rule->nexthop[turn->signalled >> 48 & 1];

	if ((__be32)turn->signalled == turn->daddr && entry)
		return send_out(ctx, packet, turn, entry);
	if ((__be32)turn->learned == turn->daddr)
		return send_back(ctx, packet, turn);
	return send_up(ctx, packet, turn);
}

#endif
