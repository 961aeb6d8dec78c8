/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rewrite.h - what a rule makes of a packet, and writing that into the frame:
 * IPv4 in place and in line, all else by translate.h.
 */
#ifndef HAIRPIN_REWRITE_H
#define HAIRPIN_REWRITE_H

#include "translate.h"

#define ECN_MASK	3	/* RFC 3168: the TOS bits that are not ours */

/* As observed, where that belongs to what was signalled last. */
static __always_inline __u64 destination(const struct turn *turn)
{
	bool current = turn->learned >> 48 == turn->signalled >> 48;

	return current && (__be32)turn->learned ? turn->learned : turn->signalled;
}

/* Turn the packet round: from our port to the other party. */
static __always_inline int turn_round(const struct hp_host *table, struct turn *turn)
{
	__u64 to;

	turn->signalled = READ_ONCE(turn->rule->signalled);
	turn->learned = READ_ONCE(turn->rule->learned);
	to = destination(turn);
	if (!(__be32)to)
		return drop(turn->index, HP_COUNT_no_destination);
	if (turn->ttl <= 1)
		return drop(turn->index, HP_COUNT_ttl);
	turn->ttl--;
	turn->saddr = table->address[control_address(turn->control)];
	turn->sport = control_port(turn->control);
	turn->daddr = to;
	turn->dport = to >> 32;
	turn->from6 = NULL;
	if (turn->flags & HP_TO_IP6)
		turn->from6 = &table->address6[control_address(turn->control)];
	if (turn->flags & HP_JOINED)
		turn->sport = bpf_htons(bpf_ntohs(turn->sport) - 1);
	if (!(turn->flags & HP_KEEP_TOS))
		turn->tos = control_tos(turn->control) | (turn->tos & ECN_MASK);
	return GO_ON;
}

/*
 * The sum in full, for a packet that carries only its pseudo-header's: what a
 * sender on this machine leaves to a card that will not see the packet.
 */
static __always_inline __u16 complete(struct xdp_md *ctx, const struct packet *packet)
{
	const struct iphdr *ip = packet->ip;
	__be16 length = packet->udp->len;
	__u32 offset = (void *)packet->udp - (void *)packet->eth;
	int bytes = csum_bytes(ctx, offset, bpf_ntohs(length));

	/* longer than any frame: leave it out, RFC 768 */
	return bytes < 0 ? 0 : csum_udp(csum_pseudo(ip->saddr, ip->daddr, length) + bytes);
}

/* IPv4 in, IPv4 out: headers in place, checksums right. */
static __always_inline void rewrite_ip4(struct xdp_md *ctx, const struct packet *packet,
					const struct turn *turn)
{
	struct iphdr *ip = packet->ip;
	struct udphdr *udp = packet->udp;
	__u64 addresses = csum_change32(ip->saddr, turn->saddr) +
			  csum_change32(ip->daddr, turn->daddr);
	__u64 ports = csum_change16(udp->source, turn->sport) +
		      csum_change16(udp->dest, turn->dport);
	__u16 check = udp->check;
	bool partial = check == csum_fold(csum_pseudo(ip->saddr, ip->daddr, udp->len));

	ip->check = csum_apply(ip->check, addresses + csum_change16(ip->ttl, turn->ttl) +
			       csum_change16(ip->tos << 8, turn->tos << 8));
	ip->saddr = turn->saddr;
	ip->daddr = turn->daddr;
	ip->ttl = turn->ttl;
	ip->tos = turn->tos;
	udp->source = turn->sport;
	udp->dest = turn->dport;
	if (!check)
		return;		/* absent stays absent, RFC 768 */
	if (partial) {
		udp->check = 0;
		udp->check = complete(ctx, packet);
		return;
	}
	udp->check = csum_apply(check, addresses + ports) ?: 0xffff;
}

/* The same where IPv6 arrives or leaves; -1 if that cannot be done. */
static __always_inline int rewrite_ip6(struct xdp_md *ctx, struct packet *packet,
				       const struct turn *turn)
{
	__u32 header = (void *)packet->udp - (void *)packet->ip;
	struct departure d = {
		.saddr = turn->saddr,
		.daddr = turn->daddr,
		.sport = turn->sport,
		.dport = turn->dport,
		.offset = packet->offset,
		.header = header,
		.payload = packet->total - header,
		.ttl = turn->ttl,
		.tos = turn->tos,
		.from_ip6 = packet->ip6 != NULL,
		.to_ip6 = turn->from6 != NULL,
		.local = control_address(turn->control),
		.unsummed = !packet->udp->check || is_partial(packet),
	};

	packet->total = d.payload + header_of(turn->from6);
	return translate(ctx, &d);
}

/* Write the turned packet into the frame, `plain` from IPv4 to IPv4; -1 if that cannot be done. */
static __always_inline int rewrite(struct xdp_md *ctx, struct packet *packet,
				   const struct turn *turn, bool plain)
{
	if (!plain)
		return rewrite_ip6(ctx, packet, turn);
	rewrite_ip4(ctx, packet, turn);
	return 0;
}

#endif
