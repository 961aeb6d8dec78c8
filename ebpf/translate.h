/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * translate.h - a packet's headers written anew where IPv6 arrives or leaves;
 * between the families by RFC 7915, which our packets meet as no fragments.
 */
#ifndef HAIRPIN_TRANSLATE_H
#define HAIRPIN_TRANSLATE_H

#include "csum.h"
#include "events.h"

#define DF_ABOVE	1260	/* RFC 7915 5.1: bytes of IPv4 from which on DF is set */

/* A turned packet: too much for arguments. */
struct departure {
	__be32 saddr;		/* IPv4 */
	__be32 daddr;		/* IPv4, or a token */
	__be16 sport;
	__be16 dport;
	__u16 offset;		/* of the IP header in the frame */
	__u16 header;		/* bytes of it as it arrived */
	__u16 payload;		/* bytes behind it */
	__u8 ttl;
	__u8 tos;
	__u8 from_ip6;
	__u8 to_ip6;
	__u8 unsummed;		/* the UDP checksum is to be made in full */
	__u8 local;		/* index of our address */
};

static __always_inline __u32 header_of(bool is_ip6)
{
	return is_ip6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
}

/* Options of IPv4 are gone, and the flow label is 0 (RFC 7915 4.1). */
static __always_inline __u64 put_ip6(struct ipv6hdr *ip, const struct departure *d)
{
	__u32 zero = 0, token = d->daddr;
	const struct hp_host *table = bpf_map_lookup_elem(&host, &zero);
	const struct hp_ip6 *peer = bpf_map_lookup_elem(&peers, &token);

	if (!table || !peer)
		return 0;
	*(word32 *)ip = bpf_htonl(6 << 28 | d->tos << 20);
	ip->payload_len = bpf_htons(d->payload);
	ip->nexthdr = IPPROTO_UDP;
	ip->hop_limit = d->ttl;
	copy_ip6(&ip->saddr, &table->address6[d->local]);
	copy_ip6(&ip->daddr, peer);
	return csum_ip6(&ip->saddr) + csum_ip6(&ip->daddr);
}

/* Short packets may be fragmented further on and are told apart (RFC 7915 5.1). */
static __always_inline __u64 put_ip4(struct iphdr *ip, const struct departure *d)
{
	__u32 total = sizeof(*ip) + d->payload;
	const word32 *word = (void *)ip;

	ip->version = 4;
	ip->ihl = sizeof(*ip) / 4;
	ip->tos = d->tos;
	ip->tot_len = bpf_htons(total);
	ip->id = total > DF_ABOVE ? 0 : bpf_get_prandom_u32();
	ip->frag_off = total > DF_ABOVE ? bpf_htons(IP_DF) : 0;
	ip->ttl = d->ttl;
	ip->protocol = IPPROTO_UDP;
	ip->check = 0;
	ip->saddr = d->saddr;
	ip->daddr = d->daddr;
	ip->check = ~csum_fold((__u64)word[0] + word[1] + word[2] + word[3] + word[4]);
	return (__u64)d->saddr + d->daddr;
}

/* Ports and checksum; `before` and `after` are sums of the addresses, `offset` is the datagram's. */
static __always_inline int put_udp(struct xdp_md *ctx, struct udphdr *udp, __u32 offset,
				   const struct departure *d, __u64 before, __u64 after)
{
	__u64 change = csum_change16(csum_fold(before), csum_fold(after)) +
		       csum_change16(udp->source, d->sport) +
		       csum_change16(udp->dest, d->dport);
	int bytes;

	udp->source = d->sport;
	udp->dest = d->dport;
	if (!d->unsummed) {
		udp->check = csum_apply(udp->check, change) ?: 0xffff;
		return 0;
	}
	udp->check = 0;
	bytes = csum_bytes(ctx, offset, bpf_ntohs(udp->len));
	if (bytes < 0)
		return -1;
	udp->check = csum_udp(after + bpf_htons(IPPROTO_UDP) + udp->len + bytes);
	return 0;
}

/* Sum of the addresses of the packet as it arrived. */
static __always_inline __u64 arrived_sum(const void *ip, const void *end, bool ip6)
{
	const struct ipv6hdr *six = ip;
	const struct iphdr *four = ip;

	if (!ip6)
		return (void *)(four + 1) <= end ? (__u64)four->saddr + four->daddr : 0;
	return (void *)(six + 1) <= end ? csum_ip6(&six->saddr) + csum_ip6(&six->daddr) : 0;
}

/*
 * Write the packet's headers anew, its IP header where it was; what stands
 * before that is lost where its length changes. -1 if it cannot be done.
 */
__attribute__((noinline)) int translate(struct xdp_md *ctx, const struct departure *d)
{
	__u32 offset, header;
	__u64 before, after;
	struct udphdr *udp;
	void *ip, *end;
	bool to_ip6;
	int shift;

	if (!d)
		return -1;
	/* what the verifier knows of an argument's memory it forgets with each load */
	offset = READ_ONCE(d->offset) & PLACE_OFFSET;
	to_ip6 = READ_ONCE(d->to_ip6);
	header = header_of(to_ip6);
	ip = (void *)(long)ctx->data + offset;
	before = arrived_sum(ip, (void *)(long)ctx->data_end, d->from_ip6);
	shift = (int)d->header - (int)header;
	if (shift && bpf_xdp_adjust_head(ctx, shift))
		return -1;
	end = (void *)(long)ctx->data_end;
	ip = (void *)(long)ctx->data + offset;
	udp = ip + header;
	if ((void *)(udp + 1) > end)
		return -1;
	after = to_ip6 ? put_ip6(ip, d) : put_ip4(ip, d);
	if (!after)
		return -1;
	return put_udp(ctx, udp, offset + header, d, before, after);
}

#endif
