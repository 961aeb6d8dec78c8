/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * quality.h - loss, duplicates, reordering and jitter of what arrives.
 *
 * The packet next in order touches the hot line only. Whatever else happens
 * to the sequence goes through sequence_anomaly(), and one pair of packets in
 * sixteen through sample(); both work on the cold lines.
 *
 * expected = prior_expected + sequence - base_sequence + 1
 * received = prior_received + packets - base_packets - other
 */
#ifndef HAIRPIN_QUALITY_H
#define HAIRPIN_QUALITY_H

#include "events.h"

#define MAX_DROPOUT	3000	/* RFC 3550 A.1 */
#define MAX_MISORDER	100
#define SAMPLE_EVERY	16	/* packets; a power of two */
#define JITTER_CEILING	10000000 /* microseconds: a pause is no jitter */

struct rtp_header {
	__u8 first;		/* version, padding, extension, CSRC count */
	__u8 second;		/* marker, payload type */
	__be16 sequence;
	__be32 timestamp;
	__be32 ssrc;
};

/* One packet as the slow functions take it: too many values for arguments. */
struct heard {
	__u32 index;
	__u32 packets;		/* at this rule before this one, low bits */
	__u32 ssrc;
	__u32 timestamp;
	__u16 sequence;
	__u8 marker;
	__u8 payload_type;
};

/* A new SSRC, or the same one restarted: close the books on the one before. */
static __always_inline void begin_period(struct hp_rule *r, struct hp_cold *c,
					 const struct heard *heard, __u32 earlier)
{
	__u32 first = (HP_FIRST_CYCLE | heard->sequence) - earlier;
	__u32 before = heard->packets - earlier;

	if (r->sequence) {
		c->prior_expected += r->sequence - c->base_sequence + 1;
		c->prior_received += heard->packets - c->base_packets - c->other;
	}
	c->base_sequence = first;
	c->base_packets = before;
	c->other = 0;
	c->missing = 0;
	c->missing_top = first;
	c->payload_type = heard->payload_type; /* HP_JUMPED is off */
	c->sample_arrival = 0;
	r->ssrc = heard->ssrc;
	r->sequence = HP_FIRST_CYCLE | heard->sequence;
}

/* Let bit 0 of the bitmap stand for `top`; what was in order is not missing. */
static __always_inline void raise_missing(struct hp_cold *c, __u32 top)
{
	__u32 distance = top - c->missing_top;

	c->missing = distance < 64 ? c->missing << distance : 0;
	c->missing_top = top;
}

static __always_inline void note_gap(struct hp_rule *r, struct hp_cold *c, __u32 step)
{
	__u32 lost = step - 1;

	raise_missing(c, r->sequence + step);
	c->missing |= lost < 63 ? ((1ULL << lost) - 1) << 1 : ~1ULL;
	r->sequence += step;
}

/* `behind` the highest: late if it was missed or came before the first. */
static __always_inline void note_late(struct hp_rule *r, struct hp_cold *c, __u32 behind)
{
	__u64 bit = behind < 64 ? 1ULL << behind : 0;

	raise_missing(c, r->sequence);
	if (c->missing & bit) {
		c->missing &= ~bit;
		c->reordered++;
	} else if (r->sequence - behind < c->base_sequence) {
		c->reordered++;
	} else {
		c->duplicates++;
	}
}

/*
 * RFC 3550 A.1 without probation: a packet is believed at once, and a jump
 * after two packets in a row, of which the first belongs to what begins then.
 */
__attribute__((noinline)) int sequence_anomaly(const struct heard *heard)
{
	struct hp_rule *r;
	struct hp_cold *c;
	__u32 index;
	__u16 step;

	if (!heard)
		return 0;
	index = heard->index; /* Linux 6.1 takes no key from an argument's memory */
	r = bpf_map_lookup_elem(&rules, &index);
	c = bpf_map_lookup_elem(&cold, &index);
	if (!r || !c)
		return 0;
	step = heard->sequence - r->sequence;
	if (!r->sequence || r->ssrc != heard->ssrc)
		begin_period(r, c, heard, 0);
	else if (step != 0 && step < MAX_DROPOUT)
		note_gap(r, c, step);
	else if (step == 0 || step > 0x10000 - MAX_MISORDER)
		note_late(r, c, (__u16)-step);
	else if (c->payload_type & HP_JUMPED && heard->sequence == c->bad_sequence)
		begin_period(r, c, heard, 1);
	else {
		c->payload_type |= HP_JUMPED;
		c->bad_sequence = heard->sequence + 1;
		c->other++;
	}
	return 0;
}

/* The entry of a payload type, NULL if it has none. */
static __always_inline const struct hp_clock *find_clock(const struct hp_cold *c,
							 __u8 payload_type)
{
#pragma unroll
	for (int i = 0; i < HP_CLOCKS; i++) {
		if (c->clock[i].payload_type == payload_type)
			return &c->clock[i];
	}
	return NULL;
}

/* Clock rate of a payload type in units of 250 Hz, 0 if jitter is not for it. */
static __always_inline __u32 clock_quarters(const struct hp_cold *c, __u8 payload_type)
{
	const struct hp_clock *clock = find_clock(c, payload_type);

	return clock && clock->khz_quarters != HP_EVENT_CLOCK ? clock->khz_quarters : 0;
}

/* RFC 3550 A.8: the spacing on arrival against the spacing when sampled. */
static __always_inline void add_jitter(struct hp_cold *c, __u64 elapsed, __s32 step,
				       __u32 quarters)
{
	__u64 apart = elapsed / 1000;
	__u64 meant = (step < 0 ? -(__s64)step : (__s64)step) * 4000ULL / quarters;
	__s64 difference = step < 0 ? apart + meant : apart - meant;

	if (difference < 0)
		difference = -difference;
	if (difference < JITTER_CEILING)
		c->jitter += difference - ((c->jitter + 8) >> 4);
}

/* Begin a pair on the first packet of sixteen, end it on the second. */
__attribute__((noinline)) int sample(const struct heard *heard)
{
	__u64 now = bpf_ktime_get_ns() << 16, begun;
	struct hp_cold *c;
	__u32 index, quarters;

	if (!heard)
		return 0;
	index = heard->index; /* as above */
	c = bpf_map_lookup_elem(&cold, &index);
	if (!c)
		return 0;
	begun = c->sample_arrival;
	if (heard->packets % SAMPLE_EVERY == 0) {
		c->sample_timestamp = heard->timestamp;
		c->payload_type = (c->payload_type & HP_JUMPED) | heard->payload_type;
		c->sample_arrival = now | heard->sequence;
		return 0;
	}
	quarters = clock_quarters(c, heard->payload_type);
	if (begun && quarters && !heard->marker && (c->payload_type & 0x7f) == heard->payload_type &&
	    (__u16)(begun + 1) == heard->sequence)
		add_jitter(c, (now - (begun & ~0xffffULL)) >> 16,
			   heard->timestamp - c->sample_timestamp, quarters);
	c->sample_arrival = 0;
	return 0;
}

/* A packet of a port that carries RTP which is not RTP itself. */
static __always_inline void hear_other(const struct turn *turn)
{
	struct hp_cold *c = bpf_map_lookup_elem(&cold, &turn->index);

	if (c)
		__sync_fetch_and_add(&c->other, 1);
}

static __always_inline void hear(const struct turn *turn, const struct rtp_header *rtp,
				 __u32 packets)
{
	struct hp_rule *r = turn->rule;
	__u32 next = r->sequence + 1;
	bool in_order = next > HP_FIRST_CYCLE && (__u16)next == bpf_ntohs(rtp->sequence) &&
			r->ssrc == bpf_ntohl(rtp->ssrc);
	struct heard heard;

	if (in_order) {
		r->sequence = next;
		if (packets % SAMPLE_EVERY > 1)
			return;
	}
	heard.index = turn->index;
	heard.packets = packets;
	heard.ssrc = bpf_ntohl(rtp->ssrc);
	heard.timestamp = bpf_ntohl(rtp->timestamp);
	heard.sequence = bpf_ntohs(rtp->sequence);
	heard.marker = rtp->second >> 7;
	heard.payload_type = rtp->second & 0x7f;
	if (in_order)
		sample(&heard);
	else
		sequence_anomaly(&heard);
}

#endif
