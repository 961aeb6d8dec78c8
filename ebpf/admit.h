/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* admit.h - whether a packet may pass a rule, and that it did. */
#ifndef HAIRPIN_ADMIT_H
#define HAIRPIN_ADMIT_H

#include "classify.h"
#include "learn.h"

/*
 * At most so many packets in a tick: the low bits of the packet counter are
 * compared with those at the tick's first packet. tick and mark are one word.
 */
static __always_inline bool too_many(struct hp_rule *r, __u32 packets)
{
	__u32 word = READ_ONCE(*(__u32 *)&r->tick);
	__u16 tick = bpf_jiffies64() >> settings.tick_shift;

	if ((__u16)word == tick)
		return (__u16)(packets - (word >> 16)) >= settings.rate_per_tick;
	WRITE_ONCE(*(__u32 *)&r->tick, tick | packets << 16);
	return false;
}

/* The one comparison of a steady packet: same source, window closed. */
static __always_inline bool is_expected(const struct turn *turn, __u64 source)
{
	__u64 tag = (__u64)control_generation(turn->control) << 2 | HP_CONFIRMED;
	__u64 open_bit = (__u64)(HP_CONFIRMED ^ HP_WEAK) << WORD_TAG;

	return (READ_ONCE(turn->rule->expected) | open_bit) == (source | tag << WORD_TAG);
}

/* Go on with an admitted packet, counted; else drop it. */
static __always_inline int admit(struct xdp_md *ctx, const struct packet *packet,
				 struct turn *turn, bool wire)
{
	struct hp_rule *r = turn->rule;
	__u32 packets = r->packets;
	__u64 source;
	int reason;

	if (!(turn->flags & HP_LIVE))
		return drop(turn->index, HP_COUNT_closed);
	if (too_many(r, packets))
		return drop(turn->index, HP_COUNT_rate);
	if (turn->from6)
		turn->saddr = expected_token(r, turn->from6);
	source = turn->saddr | (__u64)turn->sport << 32;
	if (!is_expected(turn, source)) {
		reason = learn(ctx, turn->index, turn->control, wire ? source | FROM_WIRE : source,
			       turn->from6);
		if (reason)
			return drop(turn->index, reason);
		if (turn->from6)
			turn->saddr = expected_token(r, turn->from6);
	}
	__sync_fetch_and_add(&r->packets, 1);
	__sync_fetch_and_add(&r->bytes, packet->payload);
	observe(ctx, packet, turn, packets);
	return GO_ON;
}

#endif
