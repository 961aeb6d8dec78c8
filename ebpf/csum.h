/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * csum.h - Internet checksums (RFC 1071), kept right by the difference
 * (RFC 1624) or, where a local sender left one unfinished, made in full.
 */
#ifndef HAIRPIN_CSUM_H
#define HAIRPIN_CSUM_H

#include "find.h"

#define CSUM_STEPS	576	/* steps of 16 bytes through a jumbo frame */

/* Of a sum below 2^40, which no few words of headers reach. */
static __always_inline __u16 csum_fold(__u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* To add to the complement of a checksum where `before` became `after`. */
static __always_inline __u64 csum_change32(__u32 before, __u32 after)
{
	return (__u64)(__u32)~before + after;
}

static __always_inline __u64 csum_change16(__u16 before, __u16 after)
{
	return (__u64)(__u16)~before + after;
}

static __always_inline __u16 csum_apply(__u16 check, __u64 change)
{
	return ~csum_fold((__u16)~check + change);
}

/* As it stands in a UDP header, where 0 says there is none. */
static __always_inline __u16 csum_udp(__u64 sum)
{
	return (__u16)~csum_fold(sum) ?: 0xffff;
}

static __always_inline __u64 csum_ip6(const void *address)
{
	const word32 *word = address;

	return (__u64)word[0] + word[1] + word[2] + word[3];
}

static __always_inline __u64 csum_change_ip6(const void *before, const void *after)
{
	return 4 * 0xffffffffULL - csum_ip6(before) + csum_ip6(after);
}

static __always_inline __u64 csum_pseudo(__be32 saddr, __be32 daddr, __be16 length)
{
	return (__u64)saddr + daddr + bpf_htons(IPPROTO_UDP) + length;
}

static __always_inline __u64 csum_pseudo6(const struct ipv6hdr *ip, __be16 length)
{
	return csum_ip6(&ip->saddr) + csum_ip6(&ip->daddr) + bpf_htons(IPPROTO_UDP) + length;
}

/* Whether a UDP datagram carries the sum of its pseudo-header alone. */
static __always_inline bool is_partial(const struct packet *packet)
{
	const struct udphdr *udp = packet->udp;
	__u64 pseudo;

	if (packet->ip6)
		pseudo = csum_pseudo6(packet->ip6, udp->len);
	else
		pseudo = csum_pseudo(packet->ip->saddr, packet->ip->daddr, udp->len);
	return udp->check == csum_fold(pseudo);
}

/* Sum of the last 1 to 15 bytes. */
static __always_inline __u64 csum_tail(void *at, void *end, __u32 left)
{
	__u64 sum = 0;

	for (__u32 i = 0; i < 15; i++) {
		if (i >= left || at + i + 1 > end)
			break;
		sum += (__u64)((__u8 *)at)[i] << (i % 2 * 8);
	}
	return sum;
}

/* One's complement addition of words. */
static __always_inline __u64 csum_add(__u64 sum, __u64 word)
{
	sum += word;
	return sum + (sum < word);
}

/*
 * Folded sum of `length` bytes of the frame from `offset` on, -1 if that is
 * more than the verifier was promised. The tail comes first, for the verifier
 * follows what comes after the loop once for each of its lengths.
 */
__attribute__((noinline)) int csum_bytes(struct xdp_md *ctx, __u32 offset, __u32 length)
{
	void *end = (void *)(long)ctx->data_end;
	void *at = (void *)(long)ctx->data;
	__u64 sum;

	if (offset > CSUM_STEPS * 16 || length > CSUM_STEPS * 16)
		return -1;
	at += offset;
	sum = csum_tail(at + length / 16 * 16, end, length % 16);
	for (__u32 i = 0; i < CSUM_STEPS; i++) {
		if (i >= length / 16 || at + 16 > end)
			break;
		sum = csum_add(sum, ((word64 *)at)[0]);
		sum = csum_add(sum, ((word64 *)at)[1]);
		at += 16;
	}
	sum = (sum & 0xffffffff) + (sum >> 32);
	return csum_fold(sum);
}

#endif
