/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * stand.h - the words that say who is expected at a port and where it is
 * answered, stored so that they name one source in the end.
 */
#ifndef HAIRPIN_STAND_H
#define HAIRPIN_STAND_H

#include "events.h"

#define WORD_ENDPOINT	0xffffffffffffULL	/* address and port of a word */
#define WORD_TAG	48
#define FROM_WIRE	(1ULL << WORD_TAG) /* beside an endpoint, for learn() */
#define SETTLE_LOOKS	8

struct lesson {
	__u32 index;		/* of rule a */
	__u32 b_index;
	__u16 flags;
	__u16 generation;
	__u64 source;		/* endpoint; its token is 0 if it has none */
	__u64 expected;		/* a.expected as read */
	__u64 learned;		/* b.learned as read */
	struct hp_rule *a;
	struct hp_rule *b;
	struct hp_cold *a_cold;
	struct hp_cold *b_cold;
	const struct hp_ip6 *address;	/* of an IPv6 source, or NULL */
	bool wire;
};

static __always_inline __u64 expected_word(const struct lesson *l, __u64 endpoint, __u8 state)
{
	return endpoint | ((__u64)l->generation << 2 | state) << WORD_TAG;
}

/* Store a word if it still is what was read. */
static __always_inline bool replace(__u64 *word, __u64 read, __u64 next)
{
	return __sync_val_compare_and_swap(word, read, next) == read;
}

/*
 * The way back to A is the way its frame came, until user space knows better:
 * with its tag of 802.1Q, but not with other tags than one of those.
 */
static __always_inline void note_way(struct xdp_md *ctx, struct hp_cold *c,
				     __u64 learned, bool wire)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct tag *tag = (void *)(eth + 1);
	bool tagged;

	WRITE_ONCE(c->via_learned, 0);
	c->via_ifindex = 0;
	if (wire && (void *)(tag + 1) <= (void *)(long)ctx->data_end && !(eth->h_dest[0] & 1)) {
		tagged = eth->h_proto == bpf_htons(ETH_P_8021Q);
		__builtin_memcpy(c->via_mac, eth->h_source, ETH_ALEN);
		__builtin_memcpy(c->via_source_mac, eth->h_dest, ETH_ALEN);
		c->via_vlan = tagged ? tag->tci : 0;
		if (eth->h_proto != bpf_htons(ETH_P_8021AD) && !(tagged && is_tag(tag->proto)))
			c->via_ifindex = ctx->ingress_ifindex;
	}
	WRITE_ONCE(c->via_learned, learned);
}

/*
 * Answer who is expected. Between the two stores of stand() the words may name
 * two sources, for as long as that processor is kept away; packets of the one
 * that is expected would not mend it, they come no further than is_expected().
 * So whoever has stored looks again: who stores last sees what stays, and if a
 * store of learned fails, another has stored and looks. Only expected moving
 * away under each of the looks could outlast them.
 */
__attribute__((noinline)) int settle(__u32 a_index, __u32 b_index, __u32 generation)
{
	struct hp_rule *a = bpf_map_lookup_elem(&rules, &a_index);
	struct hp_rule *b = bpf_map_lookup_elem(&rules, &b_index);

	if (!a || !b)
		return 0;
#pragma clang loop unroll(disable)
	for (int look = 0; look < SETTLE_LOOKS; look++) {
		__u64 learned = READ_ONCE(b->learned);
		__u64 expected = READ_ONCE(a->expected);
		__u64 answered = (expected & WORD_ENDPOINT) | (__u64)generation << WORD_TAG;

		if (expected >> WORD_TAG >> 2 != generation ||
		    READ_ONCE(b->signalled) >> WORD_TAG != generation ||
		    learned == answered || !replace(&b->learned, learned, answered))
			break;
	}
	return 0;
}

/*
 * Let the rule of the port above b answer who is expected at a, too: what it
 * has learned belongs to the generation of its own pair. A change of A writes
 * the signalled words of both before the control words of both, so that where
 * b still has a's generation the other pair has not begun a new one.
 */
__attribute__((noinline)) int settle_above(__u32 a_index, __u32 b_index, __u32 generation)
{
	__u32 a_above = index_above(a_index), b_above = index_above(b_index);
	struct hp_rule *a = bpf_map_lookup_elem(&rules, &a_index);
	struct hp_rule *b = bpf_map_lookup_elem(&rules, &b_index);
	struct hp_rule *from = bpf_map_lookup_elem(&rules, &a_above);
	struct hp_rule *to = bpf_map_lookup_elem(&rules, &b_above);

	if (!a || !b || !from || !to)
		return 0;
#pragma clang loop unroll(disable)
	for (int look = 0; look < SETTLE_LOOKS; look++) {
		__u64 learned = READ_ONCE(to->learned);
		__u64 expected = READ_ONCE(a->expected);
		__u64 own = control_generation(READ_ONCE(from->control));
		__u64 answered = (expected & WORD_ENDPOINT) | own << WORD_TAG;

		if (expected >> WORD_TAG >> 2 != generation ||
		    READ_ONCE(to->signalled) >> WORD_TAG != own ||
		    READ_ONCE(b->signalled) >> WORD_TAG != generation ||
		    learned == answered || !replace(&to->learned, learned, answered))
			break;
	}
	return 0;
}

/* Draw a token for the source if it has none yet, within reason. */
static __always_inline bool name_source(struct lesson *l)
{
	__u32 token = (__be32)l->source;

	if (!token && within_budget(l->a_cold))
		token = draw_token(l->address);
	l->source |= token;
	return token;
}

/* The rule above b learns what b has, the way back included. */
static __always_inline void teach_above(struct xdp_md *ctx, const struct lesson *l)
{
	__u32 above = index_above(l->b_index);
	struct hp_rule *r = bpf_map_lookup_elem(&rules, &above);
	struct hp_cold *c = bpf_map_lookup_elem(&cold, &above);
	__u64 learned;

	if (!r || !c)
		return;
	learned = (READ_ONCE(r->signalled) & ~WORD_ENDPOINT) | l->source;
	if (READ_ONCE(r->learned) != learned)
		note_way(ctx, c, learned, l->wire);
	settle_above(l->index, l->b_index, l->generation);
}

/*
 * Let the packet's source stand in `state`: b.learned first, then a.expected,
 * each only if it still is what was read. In the end both name one source, and
 * so does the rule above b. 0, or the reason to drop the packet.
 */
static __always_inline int stand(struct xdp_md *ctx, struct lesson *l, __u8 state)
{
	__u64 expected, learned;
	bool moved, stands;

	if (!name_source(l))
		return HP_COUNT_no_token;
	expected = expected_word(l, l->source, state);
	learned = l->source | (__u64)l->generation << WORD_TAG;
	moved = learned != l->learned;
	if (moved) {
		note_way(ctx, l->b_cold, learned, l->wire);
		if (!replace(&l->b->learned, l->learned, learned))
			return 0;
	}
	stands = replace(&l->a->expected, l->expected, expected);
	settle(l->index, l->b_index, l->generation);
	if (l->flags & HP_SPLIT)
		teach_above(ctx, l);
	if (!stands)
		return 0;
	if (moved) {
		count(HP_COUNT_learned);
		tell(l->a_cold, l->index, HP_EVENT_LEARNED, expected);
	}
	if (state >= HP_WEAK && (expected ^ l->expected) >> WORD_TAG)
		tell(l->a_cold, l->index, HP_EVENT_CONFIRMED, expected);
	l->expected = expected;
	return 0;
}

/* Close the window on who stands, or on who was signalled. */
static __always_inline void close_on(struct lesson *l, __u64 endpoint, __u8 state)
{
	__u64 expected = expected_word(l, endpoint, state);

	if (!replace(&l->a->expected, l->expected, expected))
		return;
	l->expected = expected;
	tell(l->a_cold, l->index, HP_EVENT_CONFIRMED, expected);
}

#endif
