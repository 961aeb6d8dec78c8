/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * relay.bpf.c - the relay: a packet to one of our ports makes a hairpin turn.
 *
 *	parse		parse.h		a UDP datagram, IPv4 or IPv6, behind
 *					tags or not (vlan.h)?
 *	find		find.h		to a port of ours: its rule
 *	keep_company	alone.h		does a daemon stand behind the tables?
 *	admit		admit.h		rate, source (learn.h, stand.h; ip6.h),
 *					counters, what it is (classify.h), RTP
 *					(quality.h)
 *	treat		treat.h		media that is blocked or silenced
 *	turn_round	rewrite.h	from our other port, to the other party;
 *					if that is a port of ours, its rule next
 *	rewrite		rewrite.h	into the frame, checksums (csum.h), also
 *					of the other family (translate.h)
 *	send		send.h		to the next hop
 *
 * What is dropped, counted or told to user space goes through events.h. What
 * is not for a port of ours passes untouched. A steady packet reads one cache
 * line of its own, its rule.
 */
#include "admit.h"
#include "alone.h"
#include "send.h"
#include "sink.h"
#include "treat.h"

/* Index of the local address the packet came to, -1 if it is none. */
static __always_inline int arrived_at(const struct hp_host *table, const struct packet *packet)
{
	if (packet->ip6)
		return local6_index((void *)&packet->ip6->daddr);
	return local_index(table, packet->ip->daddr);
}

/* The packet as it arrived. */
static __always_inline void begin_turn(const struct packet *packet, struct turn *turn)
{
	turn->sport = packet->udp->source;
	turn->dport = packet->udp->dest;
	if (packet->ip6) {
		turn->saddr = 0;
		turn->from6 = (void *)&packet->ip6->saddr;
		turn->ttl = packet->ip6->hop_limit;
		turn->tos = bpf_ntohl(*(word32 *)packet->ip6) >> 20;
		return;
	}
	turn->saddr = packet->ip->saddr;
	turn->from6 = NULL;
	turn->ttl = packet->ip->ttl;
	turn->tos = packet->ip->tos;
}

/* Begin with the rule of the port the packet came to. */
static __always_inline int find_first(const struct hp_host *table, const struct packet *packet,
				      struct turn *turn)
{
	int local = arrived_at(table, packet);

	if (local < 0)
		return XDP_PASS;
	if (!packet->udp) {
		count(HP_COUNT_fragments);
		return XDP_PASS;
	}
	begin_turn(packet, turn);
	if (!find(turn, local, HP_LIVE | HP_CLOSED))
		return XDP_PASS;
	if (packet->fault)
		return drop(turn->index, packet->fault);
	return GO_ON;
}

/*
 * RTCP of a party that has it on one port with RTP goes on by the rule of the
 * port above, where the other party has it on a port of its own. It may be the
 * first since both have become one here.
 */
static __always_inline int divert(struct turn *turn)
{
	__u32 index = turn->index;

	settle_above(index, mirror_index(turn->control), control_generation(turn->control));
	turn->index = index_above(index);
	return take(turn, HP_LIVE) ? GO_ON : drop(index, HP_COUNT_closed);
}

/* What but few rules ask for: treatment, and RTCP that goes another way. */
static __always_inline int set_apart(struct xdp_md *ctx, const struct packet *packet,
				     struct turn *turn)
{
	enum class class = classify(packet, turn->flags);

	if (class == IS_RTCP && turn->flags & HP_SPLIT)
		return divert(turn);
	return treat(ctx, packet, turn, class);
}

/* Index of the local address the turned packet goes to, -1 if it is none. */
static __always_inline int leads_to(const struct hp_host *table, const struct turn *turn)
{
	const struct hp_ip6 *peer;

	if (!turn->from6)
		return local_index(table, turn->daddr);
	peer = bpf_map_lookup_elem(&peers, &turn->daddr);
	return peer ? local6_index(peer) : -1;
}

/*
 * One rule after the other until the destination is none of our addresses. A
 * packet we send to ourselves would not come back, so all happens in one run.
 */
static __always_inline int apply_rules(struct xdp_md *ctx, const struct hp_host *table,
				       const struct packet *packet, struct turn *turn, bool wire)
{
	__u32 index = 0;
	int action, local;

#pragma clang loop unroll(disable)
	for (int pass = 0; pass < HP_PASSES; pass++) {
		action = admit(ctx, packet, turn, wire && pass == 0);
		if (action < 0 && turn->flags & (HP_TREATMENT_MASK | HP_SPLIT))
			action = set_apart(ctx, packet, turn);
		if (action < 0)
			action = turn_round(table, turn);
		if (action >= 0)
			return action;
		local = leads_to(table, turn);
		if (local < 0)
			return GO_ON;
		index = turn->index;
		if (!find(turn, local, HP_LIVE))
			return drop(index, HP_COUNT_no_rule_at_destination);
	}
	return drop(index, HP_COUNT_passes);
}

/* From the frame to the packet as the last rule turns it; GO_ON to send it. */
static __always_inline int relay(struct xdp_md *ctx, struct packet *packet, struct turn *turn,
				 bool wire)
{
	const struct hp_host *table;
	__u32 zero = 0;
	int action;

	table = bpf_map_lookup_elem(&host, &zero);
	if (!table)
		return XDP_PASS;
	action = parse(ctx, packet, wire);
	if (action >= 0)
		return action;
	action = find_first(table, packet, turn);
	if (action < 0)
		action = keep_company(table, turn);
	if (action >= 0)
		return action;
	return apply_rules(ctx, table, packet, turn, wire);
}

SEC("xdp")
int hairpin(struct xdp_md *ctx)
{
	struct packet packet;
	struct turn turn;
	int action = relay(ctx, &packet, &turn, true);

	return action >= 0 ? action : send(ctx, &packet, &turn);
}

/*
 * Never attached: user space runs it on packets that the kernel has put
 * together from fragments, behind an Ethernet header whose addresses are 0,
 * and sends what is left in the frame where the verdict is XDP_TX.
 */
SEC("xdp")
int reassembled(struct xdp_md *ctx)
{
	struct packet packet;
	struct turn turn;
	int action = relay(ctx, &packet, &turn, false);

	return action >= 0 ? action : hand_over(ctx, &packet, &turn);
}

/* User space cannot know what a jiffy is; it calls this twice. */
SEC("syscall")
int clocks(struct hp_clock_reading *context)
{
	context->jiffies = bpf_jiffies64();
	context->nanoseconds = bpf_ktime_get_ns();
	return 0;
}

/* User space calls this once a second: it is there, and keeps the tables. */
SEC("syscall")
int beat(void *context __attribute__((unused)))
{
	struct hp_host *table;
	__u32 zero = 0;

	table = bpf_map_lookup_elem(&host, &zero);
	if (table)
		WRITE_ONCE(table->beat, bpf_jiffies64());
	return 0;
}

/*
 * Attach-time self-test: frames that name an egress device behind their
 * Ethernet header leave by it, or not.
 */
SEC("xdp")
int probe(struct xdp_md *ctx)
{
	__u32 *slot = (void *)(long)ctx->data + sizeof(struct ethhdr);

	if ((void *)(slot + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	return bpf_redirect_map(&devices, *slot, XDP_DROP);
}

char _license[] SEC("license") = "Dual BSD/GPL";
