/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * treat.h - media that is blocked or silenced. It is learned from and counted
 * at its port like any other; RTCP, STUN and DTLS pass. What is neither of
 * them nor RTP has no silence, and is no less media where all of it is blocked.
 */
#ifndef HAIRPIN_TREAT_H
#define HAIRPIN_TREAT_H

#include "classify.h"
#include "csum.h"

#define RTP_CSRCS	0x0f	/* rtp_header.first */
#define RTP_EXTENSION	0x10
#define RTP_PADDING	0x20

#define SILENCE_WORDS	192	/* 8-byte words of an Ethernet frame */

/* What is said of a payload type at a rule; all zeros if nothing is. */
static __always_inline struct hp_clock said_of(__u32 index, __u8 payload_type)
{
	struct hp_cold *c = bpf_map_lookup_elem(&cold, &index);
	const struct hp_clock *clock = c ? find_clock(c, payload_type) : NULL;

	return clock ? *clock : (struct hp_clock){};
}

/*
 * Write `length` bytes of the frame from `offset` on full of `fill`, the last
 * ones first, as in csum_bytes(); false if they are more than audio has.
 */
__attribute__((noinline)) int overwrite(struct xdp_md *ctx, __u32 offset, __u32 length, __u32 fill)
{
	__u64 pattern = (fill & 0xff) * 0x0101010101010101ULL;
	void *end = (void *)(long)ctx->data_end;
	void *at = (void *)(long)ctx->data;
	__u8 *tail;

	if (offset > CSUM_STEPS * 16 || length > SILENCE_WORDS * 8)
		return false;
	at += offset;
	tail = at + length / 8 * 8;
	for (__u32 i = 0; i < 7; i++) {
		if (i >= length % 8 || (void *)(tail + i + 1) > end)
			break;
		tail[i] = fill;
	}
	for (__u32 i = 0; i < SILENCE_WORDS; i++) {
		if (i >= length / 8 || at + 8 > end)
			break;
		*(word64 *)at = pattern;
		at += 8;
	}
	return true;
}

/* What csum_bytes() makes of that, before it is folded. */
static __always_inline __u64 csum_fill(__u32 length, __u8 fill)
{
	return (__u64)(length / 2) * (fill << 8 | fill) + (length % 2 ? fill : 0);
}

/* Bytes of RTP header, CSRC list and extension (RFC 3550 5.1, 5.3.1); 0 if they are cut off. */
static __always_inline __u32 header_length(struct xdp_md *ctx, __u32 offset, __u8 first,
					   __u32 payload)
{
	__u32 length = sizeof(struct rtp_header) + (first & RTP_CSRCS) * 4;
	__be16 extension[2];

	if (first & RTP_EXTENSION) {
		if (length + sizeof(extension) > payload ||
		    bpf_xdp_load_bytes(ctx, offset + length, extension, sizeof(extension)))
			return 0;
		length += sizeof(extension) + bpf_ntohs(extension[1]) * 4;
	}
	return length <= payload ? length : 0;
}

/* Bytes of padding at the end (RFC 3550 5.1), which say how many they are. */
static __always_inline __u32 padding_length(struct xdp_md *ctx, __u32 offset, __u8 first,
					    __u32 payload)
{
	__u8 last = 0;

	if (!(first & RTP_PADDING) || bpf_xdp_load_bytes(ctx, offset + payload - 1, &last, 1))
		return 0;
	return last;
}

/* Keep a UDP checksum right after `length` bytes of sum `before` became `fill`. */
static __always_inline void mend_sum(struct xdp_md *ctx, __u32 at, int before, __u32 length,
				     __u8 fill)
{
	__u16 check;

	if (bpf_xdp_load_bytes(ctx, at, &check, sizeof(check)))
		return;
	check = csum_apply(check, (__u16)~before + csum_fill(length, fill)) ?: 0xffff;
	bpf_xdp_store_bytes(ctx, at, &check, sizeof(check));
}

/*
 * Let the RTP packet of `payload` bytes at `offset` carry silence; true if it
 * does. `mend` says that its UDP checksum is one to keep right.
 */
__attribute__((noinline)) int silence(struct xdp_md *ctx, __u32 index, __u32 offset,
				      __u32 payload, __u32 mend)
{
	__u32 header, padding, length;
	__u8 rtp[2], fill;
	int before;

	if (payload < sizeof(struct rtp_header) ||
	    bpf_xdp_load_bytes(ctx, offset, rtp, sizeof(rtp)))
		return false;
	fill = said_of(index, rtp[1] & 0x7f).fill;
	header = header_length(ctx, offset, rtp[0], payload);
	padding = padding_length(ctx, offset, rtp[0], payload);
	if (!fill || !header || header + padding > payload)
		return false;
	length = payload - header - padding;
	before = csum_bytes(ctx, offset + header, length);
	if (before < 0 || !overwrite(ctx, offset + header, length, fill))
		return false;
	if (mend)
		mend_sum(ctx, offset - sizeof(__u16), before, length, fill);
	return true;
}

static __always_inline bool is_event(const struct packet *packet, const struct turn *turn)
{
	const __u8 *payload = payload_of(packet);

	return (void *)(payload + 2) <= packet->end &&
	       said_of(turn->index, payload[1] & 0x7f).khz_quarters == HP_EVENT_CLOCK;
}

/* What becomes of media at a rule with a treatment: go on with it, or drop it. */
static __always_inline int treat(struct xdp_md *ctx, const struct packet *packet,
				 const struct turn *turn, enum class class)
{
	__u64 offset = (void *)(packet->udp + 1) - (void *)packet->eth;
	__u16 treatment = turn->flags & HP_TREATMENT_MASK;
	bool mend;

	if (!treatment || class >= IS_RTCP)
		return GO_ON;
	if (treatment == HP_BLOCK_EVENTS && (class != IS_RTP || !is_event(packet, turn)))
		return GO_ON;
	if (treatment != HP_SILENCE || class != IS_RTP)
		return drop(turn->index, HP_COUNT_blocked);
	mend = packet->udp->check && !is_partial(packet);
	if (!silence(ctx, turn->index, offset, packet->payload, mend))
		return drop(turn->index, HP_COUNT_blocked);
	count(HP_COUNT_silenced);
	return GO_ON;
}

#endif
