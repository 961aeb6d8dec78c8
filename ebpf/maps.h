/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* maps.h - the tables, and why each has its size. */
#ifndef HAIRPIN_MAPS_H
#define HAIRPIN_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

/* Constants to the program: user space fills them in before the load. */
const volatile struct hp_settings settings = {
	.tick_shift	= 6,	/* of 250 jiffies a second */
	.rate_per_tick	= 512,
	.window_jiffies	= 750,
	.slow_ticks	= 4,
	.slow_packets	= 16,
};

const volatile union hp_abi abi;

/* 65536 rules per local address; user space sets the number before the load. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HP_PORTS);
	__type(key, __u32);
	__type(value, struct hp_rule);
} rules SEC(".maps");

/* As many as there are rules, same index. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HP_PORTS);
	__type(key, __u32);
	__type(value, struct hp_cold);
} cold SEC(".maps");

/* One host. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hp_host);
} host SEC(".maps");

/* One entry per destination address in use; 16384 are 512 KiB. Entry 0 is none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HP_NEXTHOPS);
	__type(key, __u32);
	__type(value, struct hp_nexthop);
} nexthops SEC(".maps");

/* Egress interfaces, by the slot user space gave each. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, HP_DEVICES);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

/* VLAN devices, as bpf_fib_lookup() names them: which frames to send by which device. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct hp_vlan);
} vlans SEC(".maps");

/* The host's own addresses, broadcasts and the configured networks. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct hp_prefix);
	__type(value, __u8);
} denied SEC(".maps");

/* The same for IPv6. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct hp_prefix6);
	__type(value, __u8);
} denied6 SEC(".maps");

/*
 * IPv6 addresses of parties by token (abi.h), two or three for each of 25000
 * calls. User space makes all three tables one element small where no media
 * address is IPv6.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HP_PEERS);
	__type(key, __u32);
	__type(value, struct hp_ip6);
} peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HP_PEERS);
	__type(key, struct hp_ip6);
	__type(value, __u32);
} tokens SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, HP_PEERS);
	__type(value, __u32);
} spare SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HP_COUNTERS);
	__type(key, enum hp_counter);
	__type(value, __u64);
} counters SEC(".maps");

/* 32 bytes an event: 8192 learned sources between two looks of user space. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

/* 280 bytes a small packet: some 15000 RTCP packets or 2000 large ones. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 * 1024 * 1024);
} copies SEC(".maps");

#endif
