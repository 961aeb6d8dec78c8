/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vlan.h - what stands before the IP header: an Ethernet header and up to two
 * tags on arrival (802.1Q, 802.1ad), none or one when a packet leaves.
 *
 * A card that strips tags gives untagged frames, which is all the program can
 * see of it.
 */
#ifndef HAIRPIN_VLAN_H
#define HAIRPIN_VLAN_H

#include <stdbool.h>

#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>

#include "maps.h"

#define PLACE_OFFSET	0x1f	/* what locate() returns: of the IP header */
#define PLACE_IP6	0x20	/* it is one of IPv6 */

struct tag {
	__be16 tci;
	__be16 proto;
};

/* The link header a packet leaves with. */
struct link {
	__u64 destination;	/* MAC in the low 48 bits */
	__u64 source;
	__be16 vlan;		/* 0: no tag */
};

static __always_inline bool is_tag(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

/* Where the IP header of a frame is, behind at most two tags; -1 if there is none. */
__attribute__((noinline)) int locate(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct tag *tag = (void *)(eth + 1);
	int offset = sizeof(*eth);
	__be16 proto;

	if ((void *)tag > end)
		return -1;
	proto = eth->h_proto;
#pragma unroll
	for (int tags = 0; tags < 2; tags++) {
		if (!is_tag(proto))
			break;
		if ((void *)(tag + 1) > end)
			return -1;
		proto = tag->proto;
		tag++;
		offset += sizeof(*tag);
	}
	if (proto == bpf_htons(ETH_P_IP))
		return offset;
	return proto == bpf_htons(ETH_P_IPV6) ? offset | PLACE_IP6 : -1;
}

static __always_inline void write_macs(struct ethhdr *eth, __u64 destination, __u64 source)
{
	__u16 *half = (__u16 *)eth;

	half[0] = destination;
	half[1] = destination >> 16;
	half[2] = destination >> 32;
	half[3] = source;
	half[4] = source >> 16;
	half[5] = source >> 32;
}

/*
 * Write a link header right before the IP header, which is at `offset`: MACs,
 * and as `kind` the protocol and in its upper half the tag. False if there is
 * no room for it.
 */
__attribute__((noinline)) int put_link(struct xdp_md *ctx, __u32 offset, __u64 destination,
				       __u64 source, __u32 kind)
{
	__be16 proto = kind, vlan = kind >> 16;
	struct ethhdr *eth;
	struct tag *tag;
	__u32 length;

	length = sizeof(*eth) + (vlan ? sizeof(*tag) : 0);
	if (length != offset && bpf_xdp_adjust_head(ctx, (int)(offset - length)))
		return false;
	eth = (void *)(long)ctx->data;
	tag = (void *)(eth + 1);
	if ((void *)(tag + 1) > (void *)(long)ctx->data_end)
		return false;
	write_macs(eth, destination, source);
	eth->h_proto = proto;
	if (vlan) {
		eth->h_proto = bpf_htons(ETH_P_8021Q);
		tag->tci = vlan;
		tag->proto = proto;
	}
	return true;
}

#endif
