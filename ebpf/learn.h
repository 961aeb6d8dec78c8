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
 *
 * A party with RTP and RTCP on one port is learned at that port alone, for
 * both rules that send to it: b, and the one of the port above (HP_SPLIT).
 * What comes to the port above a is foreign, for its mirror says HP_JOINED.
 */
#ifndef HAIRPIN_LEARN_H
#define HAIRPIN_LEARN_H

#include "stand.h"

#define SCORE_ADDRESS	2
#define SCORE_PORT	1
#define SCORE_EXACT	3

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

/* The first packet of a generation: the state its source is to stand in, or none. */
static __always_inline __u8 open_window(struct lesson *l)
{
	bool fixed = l->flags & HP_FIXED;
	__u64 start = fixed ? READ_ONCE(l->b->signalled) :
			      READ_ONCE(l->a_cold->source);
	__u64 endpoint = start & WORD_ENDPOINT;

	if (fixed || (l->flags & HP_LEARN_MASK) == HP_LEARN_OFF) {
		if (start >> WORD_TAG == l->generation && (__be32)start)
			close_on(l, endpoint, closed_state(l, endpoint));
		return HP_UNSEEN;
	}
	WRITE_ONCE(l->a_cold->window_tick, (__u32)bpf_jiffies64());
	return may_move(l) ? HP_OPEN : first_state(l);
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

/* Another source than the one that stands. */
static __always_inline int turn_away(const struct lesson *l, bool closed)
{
	__sync_fetch_and_add(&l->a_cold->foreign, 1);
	return closed && l->flags & HP_STRICT ? HP_COUNT_source_mismatch : 0;
}

static __always_inline int judge(struct xdp_md *ctx, struct lesson *l)
{
	__u8 state = window_state(l), next = HP_UNSEEN;

	if (state == HP_UNSEEN)
		next = open_window(l);
	else if (state == HP_OPEN)
		close_in_time(l);
	if (!next) {
		state = window_state(l);
		if (state == HP_UNSEEN || (l->expected & WORD_ENDPOINT) == l->source)
			return 0;
		next = displaces(l, state);
	}
	return next ? stand(ctx, l, next) : turn_away(l, state >= HP_WEAK);
}

/* The rules and cold halves a lesson is about; false if one is not there. */
static __always_inline bool open_books(struct lesson *l, __u64 control)
{
	__u32 index = l->index;
	__u32 b = mirror_index(control);

	l->b_index = b;
	l->a = bpf_map_lookup_elem(&rules, &index);
	l->a_cold = bpf_map_lookup_elem(&cold, &index);
	l->b = bpf_map_lookup_elem(&rules, &b);
	l->b_cold = bpf_map_lookup_elem(&cold, &b);
	return l->a && l->a_cold && l->b && l->b_cold;
}

/* Whether the source is one that is never answered; if not, its token is looked up. */
static __always_inline bool refuse_source(struct lesson *l)
{
	__be32 ip4 = l->source;
	__u16 flags = l->flags;

	if (!(__be16)(l->source >> 32))
		return true;
	if (l->address) {
		if (refused6(l->address, flags))
			return true;
		if (!(__be32)l->source)
			l->source |= (__u32)token_of(l->address);
		if (!leads_to_ip4(l->address, &ip4))
			return false;
		flags = 0;
	}
	return refused4(ip4, flags);
}

/*
 * A packet whose source is not the one the rule is closed on: 0 to admit it,
 * or the reason to drop it. `source` is its endpoint, with FROM_WIRE if it has
 * come straight from there and not from a rule before. An IPv6 source is given
 * by `address`, and its token is 0 unless it is the one the rule expects.
 */
__attribute__((noinline)) int learn(struct xdp_md *ctx, __u32 index, __u64 control, __u64 source,
				    const struct hp_ip6 *address)
{
	struct lesson l;

	l.index = index;
	l.flags = control >> 16;
	l.generation = control_generation(control);
	l.source = source & WORD_ENDPOINT;
	l.wire = source & FROM_WIRE;
	l.address = address;
	if (refuse_source(&l))
		return HP_COUNT_source_refused;
	if (!open_books(&l, control))
		return 0;
	if (READ_ONCE(l.b->control) >> 16 & HP_JOINED)
		return turn_away(&l, true);
	/* in this order: a winner's learned word is seen with its expected one */
	l.learned = READ_ONCE(l.b->learned);
	l.expected = READ_ONCE(l.a->expected);
	/* a change is under way: what was signalled belongs to nobody yet */
	if (READ_ONCE(l.b->signalled) >> WORD_TAG != l.generation)
		return 0;
	return judge(ctx, &l);
}

#endif
