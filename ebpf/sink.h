/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sink.h - a datagram to a port of ours that came as far as the kernel's
 * sockets: put together from fragments, or in by an interface without the
 * program. No socket is bound to the port, and the kernel would answer with an
 * ICMP error; so user space's one socket of that family takes it, and hands it
 * to the program `reassembled`.
 */
#ifndef HAIRPIN_SINK_H
#define HAIRPIN_SINK_H

#include "find.h"

#define AF_INET		2
#define AF_INET6	10

enum sink {
	SINK_IP4,
	SINK_IP6,
	SINKS,
};

/* One socket of each family. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, SINKS);
	__type(key, __u32);
	__type(value, __u64);
} sinks SEC(".maps");

/* Index of the local address that is looked for, -1 if it is none of ours. */
static __always_inline int looked_for(const struct bpf_sk_lookup *ctx)
{
	const struct hp_host *table;
	__u32 words[4], zero = 0;

	if (ctx->family == AF_INET) {
		table = bpf_map_lookup_elem(&host, &zero);
		return table ? local_index(table, ctx->local_ip4) : -1;
	}
#pragma unroll
	for (int i = 0; i < 4; i++)
		words[i] = ctx->local_ip6[i];
	return local6_index((const void *)words);
}

/* Whether a port has a rule, or had one until lately. */
static __always_inline bool is_ours(const struct bpf_sk_lookup *ctx)
{
	const struct hp_rule *rule;
	__u32 index;
	int local;

	if (ctx->protocol != IPPROTO_UDP)
		return false;
	local = looked_for(ctx);
	if (local < 0)
		return false;
	index = rule_index(local, bpf_htons(ctx->local_port));
	rule = bpf_map_lookup_elem(&rules, &index);
	return rule && READ_ONCE(rule->control) >> 16 & (HP_LIVE | HP_CLOSED);
}

SEC("sk_lookup")
int sink(struct bpf_sk_lookup *ctx)
{
	__u32 which = ctx->family == AF_INET6 ? SINK_IP6 : SINK_IP4;
	struct bpf_sock *taker;

	if (!is_ours(ctx))
		return SK_PASS;
	taker = bpf_map_lookup_elem(&sinks, &which);
	if (!taker)
		return SK_PASS;
	bpf_sk_assign(ctx, taker, 0);
	bpf_sk_release(taker);
	return SK_PASS;
}

#endif
