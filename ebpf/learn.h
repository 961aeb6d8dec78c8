/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * learn.h - who may send to a port, and where its answers go.
 *
 * Rule a takes packets from party A; rule b, which a names as the place they
 * leave from, sends to A. Both are looked at only when a packet's source is
 * not the one a.expected is closed on.
 *
 * A source is scored against what the signalling said:
 *	2 if its IP address is the SDP's or that the signalling came from,
 *	1 more if its port is the SDP's.
 *
 *	state		a packet from another source S
 *	UNSEEN		S stands. CONFIRMED if immediate, or good enough for the
 *			mode (delayed: 2, heuristic: 3), else OPEN. Who stood
 *			in the generation before is OPEN below 3: a party that
 *			has moved speaks from the old place until it is answered
 *	OPEN		delayed: S displaces unless its score is lower (last
 *			seen wins); heuristic: only if its score is higher
 *			over time: CONFIRMED with a score of 2 or more, else WEAK
 *	WEAK		S displaces with a score of 2 or more
 *	CONFIRMED	S displaces with a score of 3 one of 2: who forges the
 *			right address with a wrong port locks nobody out
 *
 * With media handover any source displaces a closed one. A source that does
 * not displace is foreign: forwarded, or dropped under strict-source once the
 * window is closed.
 */
#ifndef HAIRPIN_LEARN_H
#define HAIRPIN_LEARN_H

#include "events.h"

#define WORD_ENDPOINT	0xffffffffffffULL	/* address and port of a word */
#define WORD_TAG	48
#define WORD_CLOSED	((__u64)HP_WEAK << WORD_TAG)
#define SCORE_ADDRESS	2
#define SCORE_PORT	1
#define SCORE_EXACT	3
#define SETTLE_LOOKS	8

struct lesson {
	__u32 index;		/* of rule a */
	__u16 flags;
	__u16 generation;
	__u64 source;		/* endpoint */
	__u64 expected;		/* a.expected as read */
	__u64 learned;		/* b.learned as read */
	struct hp_rule *a;
	struct hp_rule *b;
	struct hp_cold *a_cold;
	struct hp_cold *b_cold;
};

static __always_inline __u64 expected_word(const struct lesson *l, __u64 endpoint, __u8 state)
{
	return endpoint | ((__u64)l->generation << 2 | state) << WORD_TAG;
}

static __always_inline __u32 score(const struct lesson *l, __u64 endpoint)
{
	__u64 signalled = READ_ONCE(l->a_cold->source);
	bool valid = signalled >> WORD_TAG == l->generation && (__be32)signalled;
	__be32 address = endpoint, preferred = l->a_cold->preferred;
	__u32 points = 0;

	if ((valid && address == (__be32)signalled) || (preferred && address == preferred))
		points += SCORE_ADDRESS;
	if (valid && endpoint >> 32 == (signalled & WORD_ENDPOINT) >> 32)
		points += SCORE_PORT;
	return points;
}

/* Addresses no packet is ever sent to. */
static __always_inline bool refused(__be32 address, __be16 port, __u16 flags)
{
	struct hp_prefix key = { .length = 32, .address = address };
	__u32 host_order = bpf_ntohl(address);
	__u8 first = host_order >> 24;

	return !port || first == 0 || first >= 224 || host_order >> 16 == 0xa9fe ||
	       (first == 127 && !(flags & HP_LOOPBACK)) ||
	       bpf_map_lookup_elem(&denied, &key);
}

/* Store a word if it still is what was read. */
static __always_inline bool replace(__u64 *word, __u64 read, __u64 next)
{
	return __sync_val_compare_and_swap(word, read, next) == read;
}

/* The way back to A is the way its frame came, until user space knows better. */
static __always_inline void note_way(struct xdp_md *ctx, struct hp_cold *c,
				     __u64 learned, bool wire)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	WRITE_ONCE(c->via_learned, 0);
	if (wire && (void *)(eth + 1) <= (void *)(long)ctx->data_end && !(eth->h_dest[0] & 1)) {
		__builtin_memcpy(c->via_mac, eth->h_source, ETH_ALEN);
		__builtin_memcpy(c->via_source_mac, eth->h_dest, ETH_ALEN);
		c->via_ifindex = ctx->ingress_ifindex;
	} else {
		c->via_ifindex = 0;
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
static __always_inline void settle(const struct lesson *l)
{
#pragma clang loop unroll(disable)
	for (int look = 0; look < SETTLE_LOOKS; look++) {
		__u64 learned = READ_ONCE(l->b->learned);
		__u64 expected = READ_ONCE(l->a->expected);
		__u64 answered = (expected & WORD_ENDPOINT) | (__u64)l->generation << WORD_TAG;

		if (expected >> WORD_TAG >> 2 != l->generation ||
		    learned >> WORD_TAG != l->generation || learned == answered ||
		    !replace(&l->b->learned, learned, answered))
			return;
	}
}

/*
 * Let the packet's source stand in `state`: b.learned first, then a.expected,
 * each only if it still is what was read. In the end both name one source.
 */
static __always_inline void stand(struct xdp_md *ctx, struct lesson *l, __u8 state, bool wire)
{
	__u64 expected = expected_word(l, l->source, state);
	__u64 learned = l->source | (__u64)l->generation << WORD_TAG;
	bool moved = learned != l->learned, stands;

	if (moved) {
		note_way(ctx, l->b_cold, learned, wire);
		if (!replace(&l->b->learned, l->learned, learned))
			return;
	}
	stands = replace(&l->a->expected, l->expected, expected);
	settle(l);
	if (!stands)
		return;
	if (moved) {
		count(HP_COUNT_learned);
		tell(l->a_cold, l->index, HP_EVENT_LEARNED, expected);
	}
	if (state >= HP_WEAK && (expected ^ l->expected) >> WORD_TAG)
		tell(l->a_cold, l->index, HP_EVENT_CONFIRMED, expected);
	l->expected = expected;
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

static __always_inline __u8 first_state(const struct lesson *l)
{
	__u32 points = score(l, l->source);

	switch (l->flags & HP_LEARN_MASK) {
	case HP_LEARN_IMMEDIATE:
		return HP_CONFIRMED;
	case HP_LEARN_HEURISTIC:
		return points == SCORE_EXACT ? HP_CONFIRMED : HP_OPEN;
	default:
		return points >= SCORE_ADDRESS ? HP_CONFIRMED : HP_OPEN;
	}
}

/* Modes that keep to a source whatever the signalling said of it. */
static __always_inline bool commits(const struct lesson *l)
{
	__u16 mode = l->flags & HP_LEARN_MASK;

	return mode == HP_LEARN_IMMEDIATE || mode == HP_LEARN_OFF;
}

static __always_inline __u8 closed_state(const struct lesson *l, __u64 endpoint)
{
	bool confirmed = commits(l) || score(l, endpoint) >= SCORE_ADDRESS;

	return confirmed ? HP_CONFIRMED : HP_WEAK;
}

/*
 * Who stood before the change may be on its way to where it has moved: it goes
 * on standing, but another source as good may follow within the window.
 */
static __always_inline bool may_move(const struct lesson *l)
{
	bool stood = (l->expected & WORD_ENDPOINT) == l->source;

	return stood && !commits(l) && score(l, l->source) < SCORE_EXACT;
}

/* The first packet of a generation. */
static __always_inline void open_window(struct xdp_md *ctx, struct lesson *l, bool wire)
{
	bool fixed = l->flags & HP_FIXED;
	__u64 start = fixed ? READ_ONCE(l->b->signalled) :
			      READ_ONCE(l->a_cold->source);
	__u64 endpoint = start & WORD_ENDPOINT;

	if (fixed || (l->flags & HP_LEARN_MASK) == HP_LEARN_OFF) {
		if (start >> WORD_TAG == l->generation && (__be32)start)
			close_on(l, endpoint, closed_state(l, endpoint));
		return;
	}
	WRITE_ONCE(l->a_cold->window_tick, (__u32)bpf_jiffies64());
	stand(ctx, l, may_move(l) ? HP_OPEN : first_state(l), wire);
}

/* An open window whose time is over closes on who stands. */
static __always_inline void close_in_time(struct lesson *l)
{
	__u64 standing = l->expected & WORD_ENDPOINT;
	__u32 age = (__u32)bpf_jiffies64() - READ_ONCE(l->a_cold->window_tick);

	if (commits(l) || age >= settings.window_jiffies)
		close_on(l, standing, closed_state(l, standing));
}

/* Whether a source may displace the standing one, and to which state. */
static __always_inline __u8 displaces(const struct lesson *l, __u8 state)
{
	__u32 points = score(l, l->source);
	__u32 standing = score(l, l->expected & WORD_ENDPOINT);
	__u16 mode = l->flags & HP_LEARN_MASK;
	bool forged = standing == SCORE_ADDRESS && points == SCORE_EXACT;
	bool better = points >= SCORE_ADDRESS && points > standing;

	if (mode == HP_LEARN_OFF)
		return HP_UNSEEN;
	if (state >= HP_WEAK && l->flags & HP_HANDOVER)
		return HP_CONFIRMED;
	if (state == HP_CONFIRMED)
		return forged ? HP_CONFIRMED : HP_UNSEEN;
	if (state == HP_WEAK)
		return better ? HP_CONFIRMED : HP_UNSEEN;
	if (points > standing || (points == standing && mode == HP_LEARN_DELAYED))
		return first_state(l);
	return HP_UNSEEN;
}

/* Where the window of this generation stands. */
static __always_inline __u8 window_state(const struct lesson *l)
{
	__u16 tag = l->expected >> WORD_TAG;

	return tag >> 2 == l->generation ? tag & 3 : HP_UNSEEN;
}

static __always_inline int judge(struct xdp_md *ctx, struct lesson *l, bool wire)
{
	__u8 state = window_state(l), next;

	if (state == HP_UNSEEN)
		open_window(ctx, l, wire);
	else if (state == HP_OPEN)
		close_in_time(l);
	state = window_state(l);
	if (state == HP_UNSEEN || (l->expected & WORD_ENDPOINT) == l->source)
		return 0;
	next = displaces(l, state);
	if (next) {
		stand(ctx, l, next, wire);
		return 0;
	}
	__sync_fetch_and_add(&l->a_cold->foreign, 1);
	return state >= HP_WEAK && l->flags & HP_STRICT ? HP_COUNT_source_mismatch : 0;
}

/*
 * A packet whose source is not the one the rule is closed on: 0 to admit it,
 * or the reason to drop it. `endpoint` is its source, `wire` whether it has
 * come straight from there and not from a rule before.
 */
__attribute__((noinline)) int learn(struct xdp_md *ctx, __u32 index, __u64 control,
				    __u64 endpoint, __u32 wire)
{
	__u32 other = rule_index(control_address(control), control_port(control));
	struct lesson l = {
		.index = index,
		.flags = control >> 16,
		.generation = control_generation(control),
		.source = endpoint & WORD_ENDPOINT,
	};

	if (refused(endpoint, endpoint >> 32, l.flags))
		return HP_COUNT_source_refused;
	l.a = bpf_map_lookup_elem(&rules, &index);
	l.a_cold = bpf_map_lookup_elem(&cold, &index);
	l.b = bpf_map_lookup_elem(&rules, &other);
	l.b_cold = bpf_map_lookup_elem(&cold, &other);
	if (!l.a || !l.a_cold || !l.b || !l.b_cold)
		return 0;
	/* in this order: a winner's learned word is seen with its expected one */
	l.learned = READ_ONCE(l.b->learned);
	l.expected = READ_ONCE(l.a->expected);
	/* a change is under way: what was signalled belongs to nobody yet */
	if (READ_ONCE(l.b->signalled) >> WORD_TAG != l.generation)
		return 0;
	return judge(ctx, &l, wire);
}

#endif
