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

#include "events.h"

#define WORD_ENDPOINT	0xffffffffffffULL	/* address and port of a word */
#define WORD_TAG	48
#define FROM_WIRE	(1ULL << WORD_TAG) /* beside an endpoint, for learn() */
#define SCORE_ADDRESS	2
#define SCORE_PORT	1
#define SCORE_EXACT	3
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
	__be16 port = l->source >> 32;

	if (!l->address)
		return refused(l->source, port, l->flags);
	if (!port || refused6(l->address, l->flags))
		return true;
	if (!(__be32)l->source)
		l->source |= (__u32)token_of(l->address);
	return false;
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
