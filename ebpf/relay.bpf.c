/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"
#include "maps.h"
SEC("xdp")
int hairpin(struct xdp_md *ctx __attribute__((unused)))
{
	__u32 zero = 0;
	struct hp_host *h = bpf_map_lookup_elem(&host, &zero);
	struct hp_rule *r = bpf_map_lookup_elem(&rules, &zero);
	struct hp_cold *c = bpf_map_lookup_elem(&cold, &zero);
	bpf_map_lookup_elem(&nexthops, &zero);
	struct hp_prefix px = {32, 0}; bpf_map_lookup_elem(&denied, &px);
	bpf_map_lookup_elem(&counters, &zero);
	if (r && settings.rule_count == r->packets) bpf_ringbuf_output(&events, &zero, 4, 0);
	if (c && settings.rule_count == c->other) bpf_ringbuf_output(&copies, &zero, 4, 0);
	if (h && settings.rule_count == h->address[1]) return bpf_redirect_map(&devices,0,0);
	return XDP_PASS;
}
char _license[] SEC("license") = "Dual BSD/GPL";
