/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* events.h - what is counted, dropped, and told to user space. */
#ifndef HAIRPIN_EVENTS_H
#define HAIRPIN_EVENTS_H

#include "find.h"

static __always_inline void count(enum hp_counter which)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &which);

	if (value)
		*value += 1;
}

/* The one way a packet of ours is dropped: with a reason, at its rule. */
__attribute__((noinline)) int drop(__u32 index, __u32 reason)
{
	struct hp_cold *c = bpf_map_lookup_elem(&cold, &index);

	count(reason);
	if (c) {
		__sync_fetch_and_add(&c->drops, 1);
		c->drop_reason = reason;
	}
	return XDP_DROP;
}

/* Whether a rule may send one more thing up in this period. */
static __always_inline bool within_budget(struct hp_cold *c)
{
	__u8 period = (bpf_jiffies64() >> settings.tick_shift) / settings.slow_ticks;

	if (c->slow_tick != period) {
		c->slow_tick = period;
		c->slow_count = 0;
	}
	if (c->slow_count >= settings.slow_packets || c->slow_count == 255)
		return false;
	c->slow_count++;
	return true;
}

static __always_inline void tell(struct hp_cold *c, __u32 index, __u32 kind, __u64 expected)
{
	struct hp_event *event;

	if (!within_budget(c)) {
		count(HP_COUNT_events_held);
		return;
	}
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(HP_COUNT_events_full);
		return;
	}
	event->kind = kind;
	event->index = index;
	event->expected = expected;
	bpf_ringbuf_submit(event, 0);
}

/* Fill and submit a reserved record. */
static __always_inline bool submit_copy(struct xdp_md *ctx, struct hp_copy *copy, __u64 what,
					__u32 index, __u32 length, __u32 offset)
{
	if (!copy) {
		count(HP_COUNT_copies_full);
		return false;
	}
	copy->kind = what;
	copy->index = index;
	copy->length = length;
	copy->ifindex = ctx->ingress_ifindex;
	copy->mtu = what >> 32;
	copy->zero = 0;
	if (bpf_xdp_load_bytes(ctx, offset, copy + 1, length)) {
		bpf_ringbuf_discard(copy, 0);
		return false;
	}
	bpf_ringbuf_submit(copy, 0);
	return true;
}

/*
 * A copy of the packet for user space, `length` bytes from its IP header, which
 * is at `offset`. `what` is the kind, and in its upper half what hp_copy.mtu
 * says. The ring takes records of a size known to the verifier: small or large.
 */
__attribute__((noinline)) int copy_up(struct xdp_md *ctx, __u64 what, __u32 index, __u32 length,
				      __u32 offset)
{
	const __u64 small = sizeof(struct hp_copy) + HP_COPY_SMALL;
	const __u64 large = sizeof(struct hp_copy) + HP_COPY_LARGE;

	/* Linux 6.1 learns no minimum from a test for 0, and nothing from two tests made one. */
	if (length < sizeof(struct iphdr))
		return false;
	barrier_var(length);
	if (length > HP_COPY_LARGE)
		return false;
	if (length <= HP_COPY_SMALL)
		return submit_copy(ctx, bpf_ringbuf_reserve(&copies, small, 0), what, index,
				   length, offset);
	return submit_copy(ctx, bpf_ringbuf_reserve(&copies, large, 0), what, index, length,
			   offset);
}

#endif
