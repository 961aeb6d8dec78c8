/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * generator.bpf.c - the benches' sender, reflector and sink.
 *
 * BPF_PROG_TEST_RUN keeps what a program did to the packet for the next
 * repeat, and live frames come back from the page pool as the relay left
 * them. So both generators write all headers of each packet anew, from a flow
 * table that user space has shuffled:
 *
 *   drive	writes a packet and tail-calls the program under test; the same
 *		with an empty program is what has to be subtracted
 *   send	writes a packet and redirects it into a device, no faster than
 *		it was told and no faster than packets come back
 *
 * reflect is the least a forwarding program can do, sink counts what returns,
 * and chase tells what this machine takes for one cache line out of a table.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define TTL		64
#define FLOWS		(1 << 18)
#define LINES		(1 << 17)
#define STEPS		(1 << 16)	/* looks at lines in one run of chase */
#define TARGETS		4	/* relay and reflector, by either generator */
#define SINKS		64	/* by interface index, modulo */
#define SPIN_LIMIT	(1 << 20)	/* looks at the clock, some 30 ms */
#define LOOK_EVERY	32	/* of them, one at the counter the sink writes */

struct rtp {
	__u8 first;
	__u8 payload_type;
	__be16 sequence;
	__be32 timestamp;
	__be32 ssrc;
};

/* One sender's packets; 16 bytes, for the table is read on the relay's way. */
struct gen_flow {
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
	__u16 ip_check;		/* as in the header */
	__u16 udp_sum;		/* folded, without sequence and timestamp */
};

/* Written by user space before a run. */
struct gen_order {
	__u32 target;		/* cursor in use */
	__u32 flows;		/* entries of the flow table in use */
	__u32 device;		/* slot in devices */
	__u32 burst;		/* packets sent together */
	__u64 interval;		/* ns from burst to burst, 0: no pause */
	__u8 destination_mac[6];
	__u8 source_mac[6];
	__u16 samples;		/* RTP clock ticks per packet */
	__u16 sink;		/* slot in sunk */
	__u32 window;		/* packets on their way at most, 0: any number */
	__u32 zero;
};

/* Where a target's stream of packets stands; RTP goes on from run to run. */
struct gen_cursor {
	__u32 position;		/* in the flow table */
	__u32 pass;		/* over the whole table */
	__u64 sent;
	__u64 lost;		/* will not come back, or never was to */
	__u64 due;		/* ns, next burst */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOWS);
	__type(key, __u32);
	__type(value, struct gen_flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gen_order);
} orders SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, TARGETS);
	__type(key, __u32);
	__type(value, struct gen_cursor);
} cursors SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SINKS);
	__type(key, __u32);
	__type(value, __u64);
} sunk SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, TARGETS);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

/* As large as a rule and as many, each naming the next one to look at. */
struct gen_line {
	__u32 next;
	__u32 zero[15];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LINES);
	__type(key, __u32);
	__type(value, struct gen_line);
} lines SEC(".maps");

/* Slot 0: the program that drive calls. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} under_test SEC(".maps");

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static __always_inline void write_ip(struct iphdr *ip,
				     const struct gen_flow *flow, __u16 length)
{
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = 0;
	ip->tot_len = bpf_htons(length);
	ip->id = 0;
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = TTL;
	ip->protocol = IPPROTO_UDP;
	ip->check = flow->ip_check;
	ip->saddr = flow->source;
	ip->daddr = flow->destination;
}

static __always_inline void write_udp(struct udphdr *udp,
				      const struct gen_flow *flow,
				      const struct rtp *rtp, __u16 length)
{
	__u32 sum = flow->udp_sum;

	sum += rtp->sequence;
	sum += rtp->timestamp & 0xffff;
	sum += rtp->timestamp >> 16;
	udp->source = flow->source_port;
	udp->dest = flow->destination_port;
	udp->len = bpf_htons(length);
	udp->check = ~fold(sum) ?: 0xffff;
}

/* SSRC: the flow's place in the table, from 1. */
static __always_inline void write_rtp(struct rtp *rtp,
				      const struct gen_order *order,
				      const struct gen_cursor *cursor)
{
	rtp->first = 0x80;
	rtp->payload_type = 0;
	rtp->sequence = bpf_htons(cursor->pass);
	rtp->timestamp = bpf_htonl(cursor->pass * order->samples);
	rtp->ssrc = bpf_htonl(cursor->position + 1);
}

static __always_inline void advance(struct gen_cursor *cursor, __u32 flow_count)
{
	cursor->sent++;
	if (++cursor->position < flow_count)
		return;
	cursor->position = 0;
	cursor->pass++;
}

static __always_inline int write_packet(struct xdp_md *ctx,
					const struct gen_order *order,
					struct gen_cursor *cursor)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct udphdr *udp = (void *)(ip + 1);
	struct rtp *rtp = (void *)(udp + 1);
	__u16 length = end - (void *)ip;
	__u32 position = cursor->position;
	struct gen_flow *flow = bpf_map_lookup_elem(&flows, &position);

	if (!flow || (void *)(rtp + 1) > end)
		return -1;
	__builtin_memcpy(eth->h_dest, order->destination_mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, order->source_mac, ETH_ALEN);
	eth->h_proto = bpf_htons(ETH_P_IP);
	write_ip(ip, flow, length);
	write_rtp(rtp, order, cursor);
	write_udp(udp, flow, rtp, length - sizeof(*ip));
	advance(cursor, order->flows);
	return 0;
}

static long is_due(__u32 turn __attribute__((unused)), __u64 *due)
{
	return bpf_ktime_get_ns() >= *due;
}

/* A sender that fell behind does not catch up: a gap is no reason for a flood. */
static __always_inline void wait_until_due(const struct gen_order *order,
					   struct gen_cursor *cursor)
{
	__u64 now, due = cursor->due;

	bpf_loop(SPIN_LIMIT, is_due, &due, 0);
	now = bpf_ktime_get_ns();
	cursor->due = (now > due + order->interval ? now : due) + order->interval;
}

struct room {
	__u64 enough;		/* packets that must have come back */
	__u32 sink;
	__u32 found;
};

static long has_room(__u32 turn, struct room *room)
{
	__u64 *count;

	if (turn % LOOK_EVERY) {
		bpf_ktime_get_ns();
		return 0;
	}
	count = bpf_map_lookup_elem(&sunk, &room->sink);
	room->found = count && *(volatile __u64 *)count >= room->enough;
	return room->found;
}

/* No faster than packets come back, so that no ring between here and the sink
 * overflows: gaps in RTP would cost the relay what they do not cost a reflector.
 */
static __always_inline void wait_for_room(const struct gen_order *order,
					  struct gen_cursor *cursor)
{
	__u64 out = cursor->sent - cursor->lost + order->burst;
	struct room room = { .sink = order->sink };

	if (out <= order->window)
		return;
	room.enough = out - order->window;
	bpf_loop(SPIN_LIMIT, has_room, &room, 0);
	if (!room.found)	/* what was on its way is not coming */
		cursor->lost += order->window;
}

static __always_inline void pace(const struct gen_order *order,
				 struct gen_cursor *cursor)
{
	if (cursor->sent % (order->burst ?: 1))
		return;
	if (order->interval)
		wait_until_due(order, cursor);
	if (order->window)
		wait_for_room(order, cursor);
}

static __always_inline struct gen_order *find_order(struct gen_cursor **cursor)
{
	__u32 zero = 0, target;
	struct gen_order *order = bpf_map_lookup_elem(&orders, &zero);

	if (!order)
		return NULL;
	target = order->target;
	*cursor = bpf_map_lookup_elem(&cursors, &target);
	return *cursor ? order : NULL;
}

SEC("xdp")
int drive(struct xdp_md *ctx)
{
	struct gen_cursor *cursor;
	struct gen_order *order = find_order(&cursor);

	if (order && !write_packet(ctx, order, cursor))
		bpf_tail_call(ctx, &under_test, 0);
	return XDP_ABORTED;
}

SEC("xdp")
int send(struct xdp_md *ctx)
{
	struct gen_cursor *cursor;
	struct gen_order *order = find_order(&cursor);

	if (!order)
		return XDP_ABORTED;
	pace(order, cursor);
	if (write_packet(ctx, order, cursor))
		return XDP_ABORTED;
	return bpf_redirect_map(&devices, order->device, 0);
}

SEC("xdp")
int empty_tx(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_TX;
}

SEC("xdp")
int empty_redirect(struct xdp_md *ctx __attribute__((unused)))
{
	return bpf_redirect_map(&devices, 0, 0);
}

static __always_inline struct udphdr *find_udp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) ||
	    ip->protocol != IPPROTO_UDP)
		return NULL;
	return udp;
}

/* Slot TARGETS - 1 holds the reflector's own device: into a veth always
 * redirect, for its XDP_TX may lie in the peer's ring until something kicks it.
 */
SEC("xdp")
int reflect(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	__u8 mac[ETH_ALEN];

	if (!find_udp(ctx))
		return XDP_PASS;
	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	return bpf_redirect_map(&devices, TARGETS - 1, 0);
}

/* Media ends here; signalling and ARP go on. RTP by its length, which the
 * template sets and nothing else on these links has. One thread per device.
 */
SEC("xdp")
int sink(struct xdp_md *ctx)
{
	__u32 slot = ctx->ingress_ifindex % SINKS;
	__u64 *count = bpf_map_lookup_elem(&sunk, &slot);

	if (!count || !find_udp(ctx) || ctx->data_end - ctx->data != 214)
		return XDP_PASS;
	++*count;
	return XDP_DROP;
}

static long step(__u32 turn __attribute__((unused)), __u32 *at)
{
	struct gen_line *line = bpf_map_lookup_elem(&lines, at);

	if (!line)
		return 1;
	*at = line->next;
	return 0;
}

/* Each look waits for the one before: nothing hides what a line costs. */
SEC("xdp")
int chase(struct xdp_md *ctx __attribute__((unused)))
{
	__u32 at = 0;

	return bpf_loop(STEPS, step, &at, 0) == STEPS ? XDP_PASS : XDP_ABORTED;
}

char _license[] SEC("license") = "Dual BSD/GPL";
