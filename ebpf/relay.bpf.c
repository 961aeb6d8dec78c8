/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * relay.bpf.c - the relay: a packet to one of our ports makes a hairpin turn.
 *
 *	parse		parse.h		an IPv4 UDP datagram?
 *	find		parse.h		to a port of ours: its rule
 *	admit		admit.h		rate, source (learn.h), counters,
 *					what it is (classify.h), RTP (quality.h)
 *	turn_round	rewrite.h	from our other port, to the other party;
 *					if that is a port of ours, its rule next
 *	rewrite		rewrite.h	into the frame, checksums (csum.h)
 *	send		send.h		to the next hop
 *
 * What is dropped, counted or told to user space goes through events.h. What
 * is not for a port of ours passes untouched. A steady packet reads one cache
 * line of its own, its rule.
 */
#include "admit.h"
#include "parse.h"
#include "rewrite.h"
#include "send.h"

/* Begin with the rule of the port the packet came to. */
static __always_inline int find_first(const struct hp_host *table, const struct packet *packet,
				      struct turn *turn)
{
	turn->saddr = packet->ip->saddr;
	turn->daddr = packet->ip->daddr;
	turn->sport = packet->udp->source;
	turn->dport = packet->udp->dest;
	turn->ttl = packet->ip->ttl;
	turn->tos = packet->ip->tos;
	if (!find(turn, local_index(table, turn->daddr), HP_LIVE | HP_CLOSED))
		return XDP_PASS;
	if (packet->fault == HP_COUNT_fragments) {
		count(packet->fault);
		return XDP_PASS;
	}
	if (packet->fault)
		return drop(turn->index, packet->fault);
	return GO_ON;
}

/*
 * One rule after the other until the destination is none of our addresses. A
 * packet we send to ourselves would not come back, so all happens in one run.
 */
static __always_inline int apply_rules(struct xdp_md *ctx, const struct hp_host *table,
				       const struct packet *packet, struct turn *turn)
{
	__u32 index = 0;
	int action, local;

#pragma clang loop unroll(disable)
	for (int pass = 0; pass < HP_PASSES; pass++) {
		action = admit(ctx, packet, turn, pass == 0);
		if (action >= 0)
			return action;
		action = turn_round(table, turn);
		if (action >= 0)
			return action;
		local = local_index(table, turn->daddr);
		if (local < 0)
			return GO_ON;
		index = turn->index;
		if (!find(turn, local, HP_LIVE))
			return drop(index, HP_COUNT_no_rule_at_destination);
	}
	return drop(index, HP_COUNT_passes);
}

SEC("xdp")
int hairpin(struct xdp_md *ctx)
{
	const struct hp_host *table;
	struct packet packet;
	struct turn turn;
	__u32 zero = 0;
	int action;

	table = bpf_map_lookup_elem(&host, &zero);
	if (!table)
		return XDP_PASS;
	action = parse(ctx, &packet);
	if (action >= 0)
		return action;
	action = find_first(table, &packet, &turn);
	if (action >= 0)
		return action;
	action = apply_rules(ctx, table, &packet, &turn);
	if (action >= 0)
		return action;
	rewrite(ctx, &packet, &turn);
	return send(ctx, &packet, &turn);
}

/* User space cannot know what a jiffy is; it calls this twice. */
SEC("syscall")
int clocks(struct hp_clock_reading *context)
{
	context->jiffies = bpf_jiffies64();
	context->nanoseconds = bpf_ktime_get_ns();
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
