/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* classify.h - what a datagram is, as far as its rule wants to know. */
#ifndef HAIRPIN_CLASSIFY_H
#define HAIRPIN_CLASSIFY_H

#include "quality.h"

enum class {
	IS_OTHER,	/* of no known kind: forwarded all the same */
	IS_RTP,
	IS_RTCP,
	IS_STUN,
	IS_DTLS,
};

/*
 * RFC 7983 by the first byte, then RFC 5761 by the second: what would be a
 * payload type of 64 to 95 with the marker is RTCP where RTCP may come.
 */
static __always_inline enum class classify(const struct packet *packet, __u16 flags)
{
	const __u8 *payload = payload_of(packet);

	if (packet->payload < 2 || (void *)(payload + 2) > packet->end)
		return IS_OTHER;
	if (payload[0] >= 128 && payload[0] <= 191) {
		if (flags & HP_RTCP && payload[1] >= 192 && payload[1] <= 223)
			return IS_RTCP;
		return flags & HP_RTP ? IS_RTP : IS_OTHER;
	}
	if (!(flags & (HP_RTP | HP_RTCP)))
		return IS_OTHER;
	if (payload[0] <= 3)
		return IS_STUN;
	return payload[0] >= 20 && payload[0] <= 63 ? IS_DTLS : IS_OTHER;
}

/* Statistics for user space, if the party itself sent it and within reason. */
static __always_inline void copy_rtcp(struct xdp_md *ctx, const struct packet *packet,
				      const struct turn *turn)
{
	struct hp_cold *c = bpf_map_lookup_elem(&cold, &turn->index);
	__u64 expected = READ_ONCE(turn->rule->expected);

	if (!c || (__be32)expected != turn->saddr || (__be16)(expected >> 32) != turn->sport)
		return;
	if (!within_budget(c))
		count(HP_COUNT_copies_held);
	else if (copy_up(ctx, HP_COPY_RTCP, turn->index, packet->total, packet->offset))
		count(HP_COUNT_rtcp_copied);
}

/* `packets` were admitted at this port before this one. */
static __always_inline void observe(struct xdp_md *ctx, const struct packet *packet,
				    const struct turn *turn, __u32 packets)
{
	const struct rtp_header *rtp = payload_of(packet);
	enum class class;

	if (!(turn->flags & (HP_RTP | HP_RTCP)))
		return;
	class = classify(packet, turn->flags);
	if (class == IS_RTP && packet->payload >= sizeof(*rtp) &&
	    (void *)(rtp + 1) <= packet->end) {
		hear(turn, rtp, packets);
		return;
	}
	if (turn->flags & HP_RTP)
		hear_other(turn);
	if (class == IS_RTCP)
		copy_rtcp(ctx, packet, turn);
	else if (class == IS_STUN)
		count(HP_COUNT_stun);
	else if (class == IS_DTLS)
		count(HP_COUNT_dtls);
}

#endif
