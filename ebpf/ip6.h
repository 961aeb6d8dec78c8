/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ip6.h - IPv6 addresses of parties and the tokens they are known by (abi.h).
 *
 * A steady packet's source is compared with the address behind the token its
 * rule expects. Only who learns looks up or draws a token.
 */
#ifndef HAIRPIN_IP6_H
#define HAIRPIN_IP6_H

#include "parse.h"

typedef __u32 __attribute__((may_alias)) word32;
typedef __u64 __attribute__((may_alias)) word64;

static __always_inline void copy_ip6(void *to, const void *from)
{
	((word64 *)to)[0] = ((const word64 *)from)[0];
	((word64 *)to)[1] = ((const word64 *)from)[1];
}

static __always_inline bool same_ip6(const void *one, const void *other)
{
	const word64 *a = one, *b = other;

	return a[0] == b[0] && a[1] == b[1];
}

/* The token a rule expects, if it is this address's; else 0. */
static __always_inline __u32 expected_token(const struct hp_rule *r, const struct hp_ip6 *address)
{
	__u32 token = READ_ONCE(r->expected);
	const struct hp_ip6 *peer = bpf_map_lookup_elem(&peers, &token);

	return peer && same_ip6(peer, address) ? token : 0;
}

/* The token of an address, 0 if it has none. */
static __always_inline __u32 find_token(const struct hp_ip6 *address)
{
	__u32 *token = bpf_map_lookup_elem(&tokens, address);

	return token ? *token : 0;
}

/* Linux 6.1 takes no key from an argument's memory, so all of these copy it. */
__attribute__((noinline)) int token_of(const struct hp_ip6 *address)
{
	struct hp_ip6 key __attribute__((aligned(8)));

	if (!address)
		return 0;
	copy_ip6(&key, address);
	return find_token(&key);
}

/* A token for an address that had none; 0 if there is none left. */
__attribute__((noinline)) int draw_token(const struct hp_ip6 *address)
{
	struct hp_ip6 key __attribute__((aligned(8)));
	struct hp_ip6 *peer;
	__u32 token;

	if (!address || bpf_map_pop_elem(&spare, &token))
		return 0;
	peer = bpf_map_lookup_elem(&peers, &token);
	if (!peer)
		return 0;
	copy_ip6(&key, address);
	copy_ip6(peer, address);
	if (!bpf_map_update_elem(&tokens, &key, &token, BPF_NOEXIST))
		return token;
	bpf_map_push_elem(&spare, &token, 0);
	return find_token(&key); /* another processor was first */
}

/* Whether an address is one that no packet is ever sent to. */
static __always_inline bool refused4(__be32 address, __u32 flags)
{
	struct hp_prefix key = { .length = 32, .address = address };
	__u32 host_order = bpf_ntohl(address);
	__u8 first = host_order >> 24;

	return first == 0 || first >= 224 || host_order >> 16 == 0xa9fe ||
	       (first == 127 && !(flags & HP_LOOPBACK)) ||
	       bpf_map_lookup_elem(&denied, &key);
}

/* The same of an IPv6 address. */
__attribute__((noinline)) int refused6(const struct hp_ip6 *address, __u32 flags)
{
	const word32 *word = (const void *)address;
	struct hp_prefix6 key = { .length = 128 };
	bool high_zero;
	__u32 first;

	if (!address)
		return true;
	first = bpf_ntohl(word[0]);
	high_zero = !word[0] && !word[1];
	if (first >> 24 == 0xff || first >> 22 == 0xfe80 >> 6)
		return true;	/* multicast, link-local */
	if (high_zero && word[2] == bpf_htonl(0xffff))
		return true;	/* an IPv4 address, RFC 4291 2.5.5.2 */
	if (high_zero && !word[2])	/* another, 2.5.5.1, but for ::1 */
		return word[3] != bpf_htonl(1) || !(flags & HP_LOOPBACK);
	__builtin_memcpy(&key.address, address, sizeof(key.address));
	return bpf_map_lookup_elem(&denied6, &key) != NULL;
}

/* Whether a gateway makes an IPv4 address of it: NAT64 (RFC 6052 2.1), 6to4 (RFC 3056). */
static __always_inline bool leads_to_ip4(const struct hp_ip6 *address, __be32 *ip4)
{
	const word32 *word = (const void *)address;
	__u32 first = bpf_ntohl(word[0]);

	if (first == 0x64ff9b && !word[1] && !word[2])
		*ip4 = word[3];
	else if (first >> 16 == 0x2002)
		*ip4 = bpf_htonl(first << 16 | bpf_ntohl(word[1]) >> 16);
	else
		return false;
	return true;
}

#endif
