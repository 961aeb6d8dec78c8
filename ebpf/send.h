/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * send.h - out to the next hop. Always by redirect, also to the interface the
 * frame came in on: on veth XDP_TX may leave frames lying in the peer's ring.
 */
#ifndef HAIRPIN_SEND_H
#define HAIRPIN_SEND_H

#include "alone.h"
#include "rewrite.h"

/* User space sends it, if it has not had enough from this rule; else it is lost. */
static __always_inline int send_up(struct xdp_md *ctx, const struct packet *packet,
				   const struct turn *turn)
{
	struct hp_cold *c = bpf_map_lookup_elem(&cold, &turn->index);

	if (c && within_budget(c) &&
	    copy_up(ctx, HP_COPY_UNRESOLVED, turn->index, packet->total, packet->offset)) {
		count(HP_COUNT_slow_path);
		return XDP_DROP;
	}
	return drop(turn->index, HP_COUNT_no_next_hop);
}

/* Bytes of IP it will have when it leaves. */
static __always_inline __u32 departing_total(const struct packet *packet, const struct turn *turn,
					     bool plain)
{
	__u32 header = (void *)packet->udp - (void *)packet->ip;

	if (plain)
		return packet->total;
	return packet->total - header + header_of(turn->from6);
}

/*
 * Larger than the next link takes. The sender is told what would have fitted
 * where it has forbidden fragments, as IPv6 always does.
 */
static __always_inline int refuse_size(struct xdp_md *ctx, const struct packet *packet,
				       const struct turn *turn, __u32 mtu, bool plain)
{
	struct hp_cold *c = bpf_map_lookup_elem(&cold, &turn->index);
	__u32 length = packet->total < HP_COPY_LARGE ? packet->total : HP_COPY_LARGE;
	__u64 fits = mtu + packet->total - departing_total(packet, turn, plain);
	bool whole = packet->ip6 || packet->ip->frag_off & bpf_htons(IP_DF);

	if (whole && c && within_budget(c))
		copy_up(ctx, fits << 32 | HP_COPY_TOO_BIG, turn->index, length, packet->offset);
	return drop(turn->index, HP_COUNT_too_big);
}

/* The link header in front of the rewritten packet; false if there is no room for it. */
static __always_inline bool put_header(struct xdp_md *ctx, const struct packet *packet,
				       const struct turn *turn, const struct link *link,
				       bool plain)
{
	__be16 proto = turn->from6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);

	if (plain && packet->offset == sizeof(struct ethhdr) && !link->vlan) {
		write_macs(packet->eth, link->destination, link->source);
		return true;
	}
	return put_link(ctx, packet->offset, link->destination, link->source,
			link->vlan << 16 | proto);
}

static __always_inline int send_out(struct xdp_md *ctx, const struct packet *packet,
				    const struct turn *turn, struct hp_nexthop *hop, bool plain)
{
	struct link link = {
		.destination = READ_ONCE(*(__u64 *)hop->destination_mac),
		.source = READ_ONCE(*(__u64 *)hop->source_mac),
		.vlan = READ_ONCE(hop->vlan),
	};
	__u32 now = bpf_jiffies64();

	if ((hop->used ^ now) >> settings.tick_shift)
		WRITE_ONCE(hop->used, now);
	if (bpf_redirect_map(&devices, link.source >> 48, XDP_DROP) != XDP_REDIRECT ||
	    !put_header(ctx, packet, turn, &link, plain))
		return send_up(ctx, packet, turn);
	count(HP_COUNT_forwarded);
	return XDP_REDIRECT;
}

/* Back the way the learned source's frames come, while no next hop is cached. */
static __always_inline int send_back(struct xdp_md *ctx, const struct packet *packet,
				     const struct turn *turn, bool plain)
{
	struct hp_cold *c = bpf_map_lookup_elem(&cold, &turn->index);
	struct link link = {};
	__u32 ifindex;

	if (!c || READ_ONCE(c->via_learned) != turn->learned || !c->via_ifindex)
		return send_up(ctx, packet, turn);
	__builtin_memcpy(&link.destination, c->via_mac, ETH_ALEN);
	__builtin_memcpy(&link.source, c->via_source_mac, ETH_ALEN);
	link.vlan = c->via_vlan;
	ifindex = c->via_ifindex;
	if (READ_ONCE(c->via_learned) != turn->learned ||
	    !put_header(ctx, packet, turn, &link, plain))
		return send_up(ctx, packet, turn);
	count(HP_COUNT_forwarded);
	return bpf_redirect(ifindex, 0);
}

/* The next hop of the signalled address, by generation; NULL if none is ready for this packet. */
static __always_inline struct hp_nexthop *cached(const struct turn *turn)
{
	__u32 entry = turn->rule->nexthop[turn->signalled >> 48 & 1];
	struct hp_nexthop *hop = bpf_map_lookup_elem(&nexthops, &entry);

	if (!entry || !hop || (__be32)turn->signalled != turn->daddr || hop->state != HP_NEXTHOP_READY)
		return NULL;
	return hop;
}

static __always_inline int send_as(struct xdp_md *ctx, struct packet *packet,
				   const struct turn *turn, bool plain)
{
	struct hp_nexthop *hop = cached(turn);

	if (hop && departing_total(packet, turn, plain) > hop->mtu)
		return refuse_size(ctx, packet, turn, hop->mtu, plain);
	if (rewrite(ctx, packet, turn, plain))
		return drop(turn->index, HP_COUNT_no_next_hop);
	if (hop)
		return send_out(ctx, packet, turn, hop, plain);
	if ((__be32)turn->learned == turn->daddr)
		return send_back(ctx, packet, turn, plain);
	return send_up(ctx, packet, turn);
}

/*
 * With nobody to keep the next hops, the way the kernel has for the packet. If
 * it has none or may not forward, what was known last may do.
 */
static __always_inline int ask_way(struct xdp_md *ctx, const struct packet *packet,
				   const struct turn *turn, struct link *link)
{
	bool plain = !packet->ip6 && !turn->from6;
	__u64 to = turn->daddr | (__u64)turn->dport << 32;
	__u32 size = departing_total(packet, turn, plain) | turn->tos << 16;

	return find_way(ctx, to, turn->control, size, link);
}

static __always_inline int send_along(struct xdp_md *ctx, struct packet *packet,
				      const struct turn *turn, const struct link *link, int ifindex)
{
	bool plain = !packet->ip6 && !turn->from6;

	if (rewrite(ctx, packet, turn, plain) || !put_header(ctx, packet, turn, link, plain))
		return drop(turn->index, HP_COUNT_no_next_hop);
	count(HP_COUNT_forwarded);
	return bpf_redirect(ifindex, 0);
}

/*
 * Rewrite the turned packet and send it. Written out twice, so that what
 * arrived as IPv4 and leaves so has one test for it all, and the verifier sees
 * that its frame has not been moved.
 */
static __always_inline int send(struct xdp_md *ctx, struct packet *packet, const struct turn *turn)
{
	struct link link = {};
	int way = is_alone() ? ask_way(ctx, packet, turn, &link) : WAY_NONE;

	if (way == WAY_NARROW)
		return drop(turn->index, HP_COUNT_too_big);
	if (way != WAY_NONE)
		return send_along(ctx, packet, turn, &link, way);
	if (packet->ip6 || turn->from6)
		return send_as(ctx, packet, turn, false);
	return send_as(ctx, packet, turn, true);
}

/* The same for a packet that user space sends: it is left in the frame. */
static __always_inline int hand_over(struct xdp_md *ctx, struct packet *packet,
				     const struct turn *turn)
{
	bool plain = !packet->ip6 && !turn->from6;
	struct link link = {};

	if (rewrite(ctx, packet, turn, plain) || !put_header(ctx, packet, turn, &link, false))
		return drop(turn->index, HP_COUNT_no_next_hop);
	count(HP_COUNT_reassembled);
	return XDP_TX;
}

#endif
