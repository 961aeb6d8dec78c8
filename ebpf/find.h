/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* find.h - from an address and a port to a rule. */
#ifndef HAIRPIN_FIND_H
#define HAIRPIN_FIND_H

#include "ip6.h"

/* The packet as the rules so far have made it, and the rule at hand. */
struct turn {
	__be32 saddr;		/* or the token of the source, 0 where that is
				 * not the address the rule expects */
	__be32 daddr;		/* or a token */
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
	const struct hp_ip6 *from6; /* IPv6 source; NULL: the packet is IPv4 */
};

/* Knuth's multiplicative hash; relay/dataplane/addresses.py does the same. */
static __always_inline __u32 local_slot(__be32 address)
{
	return bpf_ntohl(address) * 2654435761u / (0x100000000 / HP_ADDRESS_SLOTS);
}

/* The same of the four words of an IPv6 address, laid over each other. */
static __always_inline __u32 local6_slot(const struct hp_ip6 *address)
{
	const word32 *word = (const void *)address;

	return local_slot(word[0] ^ word[1] ^ word[2] ^ word[3]);
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

__attribute__((noinline)) int local6_index(const struct hp_ip6 *address)
{
	const struct hp_host *table;
	__u32 zero = 0, slot;

	table = bpf_map_lookup_elem(&host, &zero);
	if (!table || !address)
		return -1;
	slot = local6_slot(address);
#pragma unroll
	for (int probe = 0; probe < HP_ADDRESS_PROBES; probe++) {
		const struct hp_local_ip6 *local =
			&table->slot6[(slot + probe) % HP_ADDRESS_SLOTS];

		if (!local->used)
			break;
		if (same_ip6(&local->address, address))
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

/* Place of the rule of the port above. */
static __always_inline __u32 index_above(__u32 index)
{
	__u16 port = index << 1 | (index >> 15 & 1);

	return rule_index(index >> 16, bpf_htons(port + 1));
}

/* Let turn stand at the rule of its index; false if that has none of the wanted flags. */
static __always_inline bool take(struct turn *turn, __u16 wanted)
{
	turn->rule = bpf_map_lookup_elem(&rules, &turn->index);
	if (!turn->rule)
		return false;
	turn->control = READ_ONCE(turn->rule->control);
	turn->flags = turn->control >> 16;
	return turn->flags & wanted;
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
	return take(turn, wanted);
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

/* Place of the rule of the port packets leave from. */
static __always_inline __u32 mirror_index(__u64 control)
{
	return rule_index(control_address(control), control_port(control));
}

#endif
