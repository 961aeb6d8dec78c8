/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * abi.h - everything that crosses between the XDP program and user space.
 *
 * The layout is written here and nowhere else: `make abi` reads it back from
 * the object's BTF and generates relay/dataplane/abi.py. Nothing is packed,
 * there are no bit fields, and every hole is a named field. What begins with
 * hp_ crosses, and nothing else of the program does.
 *
 * Addresses and ports are in network order, everything else in host order.
 *
 * A word has 32 bits for an address. On a rule of an IPv4 address they are the
 * address itself. An IPv6 address of a party is known by a token instead, its
 * place in the table "peers": 1 and up, in host order, 0 for none. "tokens"
 * finds the token of an address; "spare" holds the tokens nobody has. Who first
 * meets an address, the program or user space, takes a spare token, writes the
 * address to "peers" and enters it in "tokens"; who comes second puts his back.
 * User space takes a token out of "tokens" when no word holds it any more, and
 * gives it back to "spare" if a second later still none does.
 *
 * The tables outlive who wrote them. User space beats once a second: the
 * program "beat" stores the jiffies into hp_host.beat. While that is old, the
 * program asks the kernel itself for the way of each packet (alone.h).
 *
 * Who writes what. What may change while a rule is live stands in aligned
 * words that are valid alone, each with ONE writer and written by one store:
 *
 *   word                  bytes  writer  meaning
 *   rule.control            8    user    flags, TOS, where packets leave from
 *   rule.signalled          8    user    destination from the SDP
 *   rule.learned            8    XDP     destination as observed
 *   rule.expected           8    XDP     source this port accepts, window state
 *   rule.nexthop[2]         4    user    one slot per parity of a generation
 *   rule.tick, rule.mark    4    XDP     last seen, rate guard
 *   rule.packets, bytes    16    XDP     UDP payload, every admitted packet
 *   rule.ssrc, sequence     8    XDP     RTP as last seen
 *                          --
 *                          64    one cache line: all a steady packet touches
 *
 * Generations join the words. Port a faces party A, port b faces party B, and
 * the rule of each names the other as the place packets leave from. A's
 * address is the destination of rule b and the source of rule a, so a change
 * of A's address takes a new generation g:
 *   1. b.nexthop[g & 1]   2. b.signalled = {address, g}
 *   3. a.control.generation = g
 * A learned word counts only while its generation equals that of the signalled
 * word beside it; an expected word only while its generation equals that of
 * the control word beside it. The program learns only where a.control and
 * b.signalled agree. A generation steps by an odd number, so that its parity
 * flips, and never to a value that a stale learned or expected word holds.
 */
#ifndef HAIRPIN_ABI_H
#define HAIRPIN_ABI_H

/* An enumeration and not macros, so that BTF carries them to Python. */
enum hp_limit {
	HP_PORTS		= 65536, /* rules per local address */
	HP_ADDRESS_SLOTS	= 64,	/* power of two, at least 4 x addresses */
	HP_ADDRESS_PROBES	= 8,	/* slots looked at for one address */
	HP_NEXTHOPS		= 16384,
	HP_DEVICES		= 64,	/* egress slots in the devmap */
	HP_PASSES		= 4,	/* rules applied to one packet in one run */
	HP_GENERATION_MASK	= 0x3fff, /* 14 bits: two more carry the state */
	HP_CLOCKS		= 4,	/* payload types with a clock per rule */
	HP_COPY_SMALL		= 256,	/* sizes of a packet's copy in a ring */
	HP_COPY_LARGE		= 2048,
	HP_FIRST_CYCLE		= 0x10000, /* of rule.sequence: see there */
	HP_PEERS		= 131072, /* IPv6 addresses of parties, and one */
	HP_EVENT_CLOCK		= 0xffff, /* clock.khz_quarters of telephone-event */
	HP_JUMPED		= 0x80,	/* in cold.payload_type */
};

/* struct control, flags */
enum hp_flag {
	HP_LIVE		= 1 << 0,	/* packets are forwarded */
	HP_CLOSED	= 1 << 1,	/* was live lately: dropped in silence */
	HP_RTP		= 1 << 2,	/* carries RTP (with STUN and DTLS) */
	HP_RTCP		= 1 << 3,	/* carries RTCP; with HP_RTP: muxed */
	HP_STRICT	= 1 << 4,	/* strict-source */
	HP_HANDOVER	= 1 << 5,	/* media-handover */
	HP_KEEP_TOS	= 1 << 6,	/* leave the packet's DSCP */
	HP_FIXED	= 1 << 7,	/* this generation starts closed on the
					 * address signalled to the mirrored
					 * rule: restored or folded */
	HP_LOOPBACK	= 1 << 8,	/* may learn a loopback address */
	HP_TO_IP6	= 1 << 9,	/* packets leave over IPv6 */
	HP_SPLIT	= 1 << 10,	/* RTCP that comes to this port goes on by
					 * the rule of the port above: the party
					 * here has RTP and RTCP on one port, the
					 * other has not */
	HP_JOINED	= 1 << 11,	/* this rule's packets leave from the port
					 * below control.port, where that party
					 * has RTP and RTCP on one port */
	HP_LEARN_DELAYED	= 0 << 12,
	HP_LEARN_IMMEDIATE	= 1 << 12,
	HP_LEARN_HEURISTIC	= 2 << 12,
	HP_LEARN_OFF		= 3 << 12,
	HP_LEARN_MASK		= 3 << 12,
	/* what becomes of RTP that this port takes; RTCP passes */
	HP_BLOCK		= 1 << 14, /* dropped */
	HP_SILENCE		= 2 << 14, /* payload overwritten by clock.fill; a
					    * type without one is dropped */
	HP_BLOCK_EVENTS		= 3 << 14, /* telephone-event is dropped */
	HP_TREATMENT_MASK	= 3 << 14,
};

/*
 * The window in struct expected, tag = generation << 2 | state. Bit 1 of the
 * state says closed, which is all that a steady packet looks at.
 */
enum hp_window {
	HP_UNSEEN	= 0,	/* no packet of this generation yet */
	HP_OPEN		= 1,	/* learning */
	HP_WEAK		= 2,	/* closed by time on a source whose address is
				 * not the signalled one: that may still win */
	HP_CONFIRMED	= 3,
};

struct hp_control {
	__u16 generation;	/* of the source this port expects */
	__u16 flags;		/* enum hp_flag */
	__u8 tos;		/* the whole byte, low two bits zero */
	__u8 address;		/* index of the local address to send from */
	__be16 port;		/* local port to send from */
};

struct hp_peer {		/* rule.signalled, rule.learned */
	__be32 address;		/* or an IPv6 token; 0: none */
	__be16 port;
	__u16 generation;
};

struct hp_expected {
	__be32 address;		/* or an IPv6 token */
	__be16 port;
	__u16 tag;		/* generation << 2 | enum hp_window */
};

/*
 * One local port. Index = local address index << 16 | (port & 1) << 15 |
 * port >> 1: what is RTP stands side by side.
 */
struct hp_rule {
	__u64 control;		/* struct hp_control */
	__u64 signalled;	/* struct hp_peer */
	__u64 learned;		/* struct hp_peer */
	__u64 expected;		/* struct hp_expected */
	__u16 nexthop[2];	/* by parity of the destination's generation;
				 * 0: none known, to user space */
	__u16 tick;		/* jiffies >> settings.tick_shift, last packet */
	__u16 mark;		/* low bits of packets at the start of tick */
	__u64 packets;
	__u64 bytes;
	__u32 ssrc;
	__u32 sequence;		/* extended highest, RFC 3550 A.1, its cycles
				 * counted from 1: 0 says no RTP yet */
};

struct hp_clock {
	__u8 payload_type;	/* 255: unused */
	__u8 fill;		/* a byte of silence in this encoding, 0: none
				 * is known */
	__u16 khz_quarters;	/* clock rate in units of 250 Hz, 8000 Hz = 32;
				 * 0 where the rate is not a multiple;
				 * HP_EVENT_CLOCK: telephone-event */
};

/* The rest of a rule, touched on anomalies, changes and samples only. */
struct hp_cold {
	/* the way back to a learned destination no next hop is known for */
	__u64 via_learned;	/* the learned word this way belongs to */
	__u8 via_mac[6];	/* the frame's source: who to send to */
	__u8 via_source_mac[6];	/* the frame's destination: who to send as */
	__u32 via_ifindex;	/* 0: none */
	/* the source as signalled, written by user space */
	__be32 preferred;	/* received-from, or its token; 0: none */
	__u32 window_tick;	/* jiffies at which the window opened */
	__u64 source;		/* struct hp_peer: what a window compares with */
	/* RTP, RFC 3550 A.1 and A.3; XDP writes all of it */
	__u32 base_sequence;	/* extended, first of this SSRC */
	__u32 base_packets;	/* low bits of packets before that one */
	__u32 other;		/* packets since then that are not this RTP */
	__u32 prior_expected;	/* of earlier SSRCs */
	__u32 prior_received;
	__u32 missing_top;	/* extended sequence that bit 0 of missing is */
	__u64 missing;		/* bit n: missing_top - n has not arrived */
	__u32 duplicates;
	__u32 reordered;
	__u32 jitter;		/* microseconds << 4, RFC 3550 A.8, sampled */
	__u32 sample_timestamp;	/* RTP, first packet of a pair */
	__u64 sample_arrival;	/* of that packet: ns << 16 | sequence */
	__u32 drops;
	__u32 foreign;		/* packets from another source than expected */
	__u8 drop_reason;	/* last, enum hp_counter */
	__u8 slow_tick;		/* budget of packets and events to user space */
	__be16 via_vlan;	/* tag of that frame; 0: it had none */
	__u16 bad_sequence;	/* after a jump: the next one makes a restart */
	__u8 slow_count;
	__u8 payload_type;	/* of the last sampled packet; HP_JUMPED:
				 * bad_sequence says something */
	struct hp_clock clock[HP_CLOCKS];
};

/*
 * An address stands in the first free of HP_ADDRESS_PROBES slots from
 * local_slot(address) on (find.h), and stays while the program runs: a free
 * slot ends the search. One that is served no more has index -1.
 */
struct hp_local_address {
	__be32 address;		/* 0: free */
	__u32 index;
};

struct hp_ip6 {
	__u8 octets[16];
};

struct hp_local_ip6 {		/* as above, local6_slot(address) */
	struct hp_ip6 address;
	__u32 index;
	__u32 used;		/* 0: free */
};

/* One element, mapped. The indexes of both families are numbered together. */
struct hp_host {
	struct hp_local_address slot[HP_ADDRESS_SLOTS];
	__u64 beat;		/* jiffies; beside the first addresses, which
				 * every packet reads */
	__be32 address[256];	/* by index; 0: an IPv6 address */
	struct hp_local_ip6 slot6[HP_ADDRESS_SLOTS];
	struct hp_ip6 address6[256]; /* by index */
};

struct hp_vlan {		/* "vlans", by the ifindex of a VLAN device */
	__u32 lower;		/* the device its frames leave by */
	__be16 tci;		/* with this tag of 802.1Q */
	__u16 zero;
};

struct hp_prefix {		/* key of "denied" */
	__u32 length;		/* bits */
	__be32 address;
};

struct hp_prefix6 {		/* key of "denied6" */
	__u32 length;		/* bits */
	struct hp_ip6 address;
};

enum hp_nexthop_state {
	HP_NEXTHOP_NONE		= 0,	/* packets go up to user space */
	HP_NEXTHOP_READY	= 1,
};

struct hp_nexthop {		/* two user words and one XDP word */
	__u8 destination_mac[6];
	__u16 state;		/* enum hp_nexthop_state */
	__u8 source_mac[6];
	__u16 device;		/* slot in the devmap */
	__u32 mtu;
	__u32 used;		/* jiffies, low bits, last use */
	__be16 vlan;		/* TCI of the 802.1Q tag frames get; 0: none */
	__u16 zero[3];
} __attribute__((aligned(8)));	/* its words are loaded whole */

enum hp_event_kind {
	HP_EVENT_LEARNED	= 1,	/* rule.learned was written */
	HP_EVENT_CONFIRMED	= 2,	/* a window closed */
};

struct hp_event {		/* ring "events" */
	__u32 kind;		/* enum hp_event_kind */
	__u32 index;		/* rule whose source it is about */
	__u64 expected;		/* struct hp_expected after the event */
};

enum hp_copy_kind {
	HP_COPY_UNRESOLVED	= 1,	/* rewritten, to be sent by user space */
	HP_COPY_RTCP		= 2,	/* as it arrived, forwarded already */
	HP_COPY_TOO_BIG		= 3,	/* as it arrived, dropped: for an ICMP */
};

struct hp_copy {		/* ring "copies", followed by the IP packet */
	__u32 kind;		/* enum hp_copy_kind */
	__u32 index;		/* rule */
	__u32 length;		/* of the packet, from its IP header */
	__u32 ifindex;		/* it came in on */
	__u32 mtu;		/* HP_COPY_TOO_BIG: what would have fitted, in
				 * bytes of the packet as it arrived */
	__u32 zero;
};

/* Key of the map "counters", per CPU; cold.drop_reason. From counters.inc. */
enum hp_counter {
#define COUNTER(name, text)	HP_COUNT_##name,
#define DROP(name, text)	HP_COUNT_##name,
#include "counters.inc"
#undef COUNTER
#undef DROP
	HP_COUNTERS
};

/* Set before load; constants to the program. */
struct hp_settings {
	__u32 tick_shift;	/* jiffies >> this = a tick, about 1/4 s */
	__u32 rate_per_tick;	/* packets one port takes per tick; no limit
				 * from 65536 on */
	__u32 window_jiffies;	/* length of a learning window: 3 s */
	__u32 slow_ticks;	/* ticks in one budget period: 1 s */
	__u32 slow_packets;	/* packets and events one rule may send up in
				 * a budget period, at most 255 */
	__u32 alone_jiffies;	/* without a beat for so long the program finds
				 * its ways itself; 0: never */
	__u32 orphan_jiffies;	/* and for so long it stops forwarding; 0: never */
};

/* Context of the program "clocks": what jiffies are, for user space. */
struct hp_clock_reading {
	__u64 jiffies;
	__u64 nanoseconds;	/* CLOCK_MONOTONIC */
};

/*
 * What the program's maps do not mention by type, so that BTF has it all.
 * Never written, never read.
 */
union hp_abi {
	enum hp_limit limit;
	enum hp_flag flag;
	enum hp_window window;
	enum hp_counter counter;
	enum hp_nexthop_state nexthop_state;
	enum hp_event_kind event_kind;
	enum hp_copy_kind copy_kind;
	struct hp_prefix6 prefix6;
	struct hp_control control;
	struct hp_peer peer;
	struct hp_expected expected;
	struct hp_event event;
	struct hp_copy copy;
	struct hp_clock_reading clock_reading;
};

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words are taken apart by shifts: little-endian machines only"
#endif

_Static_assert(HP_COUNTERS <= 256, "a reason is one byte");
_Static_assert(sizeof(struct hp_control) == 8, "one store");
_Static_assert(sizeof(struct hp_peer) == 8, "one store");
_Static_assert(sizeof(struct hp_expected) == 8, "one store");
_Static_assert(sizeof(struct hp_rule) == 64, "one cache line");
_Static_assert(sizeof(struct hp_cold) == 128, "two cache lines");
_Static_assert(sizeof(struct hp_nexthop) == 32, "half a cache line");

#endif
