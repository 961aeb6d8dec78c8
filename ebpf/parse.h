/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* parse.h - from a frame to a UDP datagram. */
#ifndef HAIRPIN_PARSE_H
#define HAIRPIN_PARSE_H

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include "vlan.h"

#define GO_ON	(-1)	/* not decided yet; else an XDP verdict */

#define PAYLOAD_OFFSET	0x7f	/* beyond two tags and options of IPv4 */

#define IP_DF		0x4000	/* iphdr.frag_off, host order */
#define IP_MF		0x2000
#define IP_OFFSET	0x1fff

#define READ_ONCE(x)	(*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

struct packet {
	void *end;
	struct ethhdr *eth;
	struct iphdr *ip;
	struct ipv6hdr *ip6;	/* the same if it is IPv6, or NULL. A pointer, for
				 * Linux 6.1 forgets what bytes of the stack hold */
	struct udphdr *udp;	/* NULL: a fragment, its ports may not show */
	__u32 offset;		/* of the IP header in the frame */
	__u32 total;		/* bytes from the IP header, no Ethernet padding */
	__u32 payload;		/* bytes of UDP payload */
	enum hp_counter fault;	/* why it goes no further if its port is ours */
};

/* The lengths of a datagram that ends within packet->total. */
static __always_inline enum hp_counter find_fault(struct packet *packet)
{
	__u32 header = (void *)packet->udp - (void *)packet->ip;
	__u32 datagram = bpf_ntohs(packet->udp->len);

	packet->payload = datagram - sizeof(struct udphdr);
	if (packet->total > packet->end - (void *)packet->ip ||
	    datagram < sizeof(struct udphdr) ||
	    header + datagram > packet->total)
		return HP_COUNT_malformed;
	return 0;
}

static __always_inline int is_fragment(struct packet *packet)
{
	packet->udp = NULL;
	packet->total = 0;
	packet->payload = 0;
	packet->fault = 0;
	return GO_ON;
}

static __always_inline int parse_ip4(struct packet *packet)
{
	struct iphdr *ip = packet->ip;

	if ((void *)(ip + 1) > packet->end || ip->version != 4 || ip->ihl < 5 ||
	    ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	packet->ip6 = NULL;
	if (ip->frag_off & bpf_htons(IP_MF | IP_OFFSET))
		return is_fragment(packet);
	packet->udp = (void *)ip + ip->ihl * 4;
	if ((void *)(packet->udp + 1) > packet->end)
		return XDP_PASS;
	packet->total = bpf_ntohs(ip->tot_len);
	packet->fault = find_fault(packet);
	return GO_ON;
}

/* No extension headers: what has others than Fragment is no media. */
static __always_inline int parse_ip6(struct packet *packet)
{
	struct ipv6hdr *ip = (void *)packet->ip;
	__u8 *next = (void *)(ip + 1);

	if ((void *)(next + 1) > packet->end || ip->version != 6)
		return XDP_PASS;
	packet->ip6 = ip;
	if (ip->nexthdr == IPPROTO_FRAGMENT)
		return *next == IPPROTO_UDP ? is_fragment(packet) : XDP_PASS;
	packet->udp = (void *)next;
	if (ip->nexthdr != IPPROTO_UDP || (void *)(packet->udp + 1) > packet->end)
		return XDP_PASS;
	packet->total = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	packet->fault = find_fault(packet);
	if (!packet->udp->check)
		packet->fault = HP_COUNT_malformed; /* RFC 8200 8.1 */
	return GO_ON;
}

/*
 * The UDP payload, by way of a number: else the verifier would follow what
 * comes later once for each length that was looked at.
 */
static __always_inline void *payload_of(const struct packet *packet)
{
	__u64 offset = (void *)(packet->udp + 1) - (void *)packet->eth;

	return (void *)packet->eth + (offset & PAYLOAD_OFFSET);
}

/*
 * Go on with UDP that shows its ports and with fragments, pass everything
 * else. Untagged IPv4 is looked at in place, where frames come from the wire;
 * what else there is goes by the number locate() returns, so that the verifier
 * follows it once and not for each number of tags.
 */
static __always_inline int parse(struct xdp_md *ctx, struct packet *packet, bool wire)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	int place;

	packet->end = (void *)(long)ctx->data_end;
	packet->eth = eth;
	packet->offset = sizeof(*eth);
	packet->ip = (void *)(eth + 1);
	if ((void *)(eth + 1) > packet->end)
		return XDP_PASS;
	if (wire && eth->h_proto == bpf_htons(ETH_P_IP))
		return parse_ip4(packet);
	place = locate(ctx);
	if (place < 0)
		return XDP_PASS;
	packet->offset = place & PLACE_OFFSET;
	packet->ip = (void *)eth + packet->offset;
	return place & PLACE_IP6 ? parse_ip6(packet) : parse_ip4(packet);
}

#endif
