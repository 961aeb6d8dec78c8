/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* parse.h - from a frame to a UDP datagram, and from an address to a rule. */
#ifndef HAIRPIN_PARSE_H
#define HAIRPIN_PARSE_H

#include <stdbool.h>

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>

#include "maps.h"

#define GO_ON	(-1)	/* not decided yet; else an XDP verdict */

#define IP_OFFSET	0x1fff	/* iphdr.frag_off, host order */
#define IP_MF		0x2000

#define READ_ONCE(x)	(*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

struct packet {
	void *end;
	struct ethhdr *eth;
	struct iphdr *ip;
	struct udphdr *udp;
	__u32 total;		/* bytes from the IP header, no Ethernet padding */
	__u32 payload;		/* bytes of UDP payload */
	enum hp_counter fault;	/* why it goes no further if its port is ours */
};

/* The packet as the rules so far have made it, and the rule at hand. */
struct turn {
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__u8 ttl;
	__u8 tos;
	__u16 flags;		/* of control */
	__u32 index;
	__u64 control;
	__u64 signalled;
	__u64 learned;
	struct hp_rule *rule;
};

static __always_inline enum hp_counter find_fault(struct packet *packet)
{
	__u32 header = (void *)packet->udp - (void *)packet->ip;
	__u32 datagram = bpf_ntohs(packet->udp->len);

	packet->total = bpf_ntohs(packet->ip->tot_len);
	packet->payload = datagram - sizeof(struct udphdr);
	if (packet->ip->frag_off & bpf_htons(IP_MF))
		return HP_COUNT_fragments;
	if (packet->total > packet->end - (void *)packet->ip ||
	    datagram < sizeof(struct udphdr) ||
	    header + datagram > packet->total)
		return HP_COUNT_malformed;
	return 0;
}

/* Go on with untagged IPv4 UDP that shows its ports, pass everything else. */
static __always_inline int parse(struct xdp_md *ctx, struct packet *packet)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp;

	packet->end = (void *)(long)ctx->data_end;
	packet->eth = eth;
	packet->ip = ip;
	if ((void *)(ip + 1) > packet->end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (ip->version != 4 || ip->ihl < 5 || ip->protocol != IPPROTO_UDP ||
	    ip->frag_off & bpf_htons(IP_OFFSET))
		return XDP_PASS;
	udp = (void *)ip + ip->ihl * 4;
	if ((void *)(udp + 1) > packet->end)
		return XDP_PASS;
	packet->udp = udp;
	packet->fault = find_fault(packet);
	return GO_ON;
}

/* Knuth's multiplicative hash; relay/dataplane/addresses.py does the same. */
static __always_inline __u32 local_slot(__be32 address)
{
	return bpf_ntohl(address) * 2654435761u / (0x100000000 / HP_ADDRESS_SLOTS);
}

/* Index of a local address, -1 if it is none. */
static __always_inline int local_index(const struct hp_host *table, __be32 address)
{
	__u32 slot = local_slot(address);

#pragma unroll
	for (int probe = 0; probe < HP_ADDRESS_PROBES; probe++) {
		const struct hp_local_address *local =
			&table->slot[(slot + probe) % HP_ADDRESS_SLOTS];

		if (!local->address)
			break;
		if (local->address == address)
			return local->index;
	}
	return -1;
}

/*
 * Place of a port's rule: the even ports of an address before its odd ones,
 * so that the rules of RTP, which are hit all the time, lie side by side.
 */
static __always_inline __u32 rule_index(__u32 local, __be16 port)
{
	__u32 number = bpf_ntohs(port);

	return local << 16 | (number & 1) << 15 | number >> 1;
}

/*
 * Look up the rule of the port turn is destined to at local address number
 * `local`; false if that port has none of the wanted flags.
 */
static __always_inline bool find(struct turn *turn, int local, __u16 wanted)
{
	if (local < 0)
		return false;
	turn->index = rule_index(local, turn->dport);
	turn->rule = bpf_map_lookup_elem(&rules, &turn->index);
	if (!turn->rule)
		return false;
	turn->control = READ_ONCE(turn->rule->control);
	turn->flags = turn->control >> 16;
	return turn->flags & wanted;
}

/* struct hp_control, the parts that are not flags */
static __always_inline __u16 control_generation(__u64 control)
{
	return control & HP_GENERATION_MASK;
}

static __always_inline __u8 control_tos(__u64 control)
{
	return control >> 32;
}

static __always_inline __u8 control_address(__u64 control)
{
	return control >> 40;
}

static __always_inline __be16 control_port(__u64 control)
{
	return control >> 48;
}

#endif
