"""The layout that ebpf/abi.h gives to what the XDP program and Python share.

Generated from the object's BTF by `make abi` (relay.dataplane.generate_abi). Do not edit.
A field in network order has a big-endian dtype: plain numbers go in and come out.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

DIGEST: Final = "3d698a225034b0e2"

# enum hp_copy_kind
COPY_UNRESOLVED: Final = 1
COPY_RTCP: Final = 2
COPY_TOO_BIG: Final = 3

# enum hp_event_kind
EVENT_LEARNED: Final = 1
EVENT_CONFIRMED: Final = 2

# enum hp_flag
LIVE: Final = 1
CLOSED: Final = 2
RTP: Final = 4
RTCP: Final = 8
STRICT: Final = 16
HANDOVER: Final = 32
KEEP_TOS: Final = 64
FIXED: Final = 128
LOOPBACK: Final = 256
TO_IP6: Final = 512
SPLIT: Final = 1024
JOINED: Final = 2048
LEARN_DELAYED: Final = 0
LEARN_IMMEDIATE: Final = 4096
LEARN_HEURISTIC: Final = 8192
LEARN_OFF: Final = 12288
LEARN_MASK: Final = 12288
BLOCK: Final = 16384
SILENCE: Final = 32768
BLOCK_EVENTS: Final = 49152
TREATMENT_MASK: Final = 49152

# enum hp_limit
PORTS: Final = 65536
ADDRESS_SLOTS: Final = 64
ADDRESS_PROBES: Final = 8
NEXTHOPS: Final = 16384
DEVICES: Final = 64
PASSES: Final = 4
GENERATION_MASK: Final = 16383
CLOCKS: Final = 4
COPY_SMALL: Final = 256
COPY_LARGE: Final = 2048
FIRST_CYCLE: Final = 65536
PEERS: Final = 131072
EVENT_CLOCK: Final = 65535
JUMPED: Final = 128

# enum hp_nexthop_state
NEXTHOP_NONE: Final = 0
NEXTHOP_READY: Final = 1

# enum hp_window
UNSEEN: Final = 0
OPEN: Final = 1
WEAK: Final = 2
CONFIRMED: Final = 3

# enum hp_counter: names by index, what each says to the operator, and which are reasons of a drop
COUNTERS: Final = (
    "forwarded",
    "slow_path",
    "rtcp_copied",
    "stun",
    "dtls",
    "fragments",
    "reassembled",
    "silenced",
    "learned",
    "events_full",
    "events_held",
    "copies_full",
    "copies_held",
    "closed",
    "orphaned",
    "malformed",
    "rate",
    "blocked",
    "too_big",
    "no_token",
    "ttl",
    "source_refused",
    "source_mismatch",
    "no_destination",
    "no_rule_at_destination",
    "passes",
    "no_next_hop",
)
COUNTER_TEXTS: Final = {
    "forwarded": "packets forwarded",
    "slow_path": "packets handed to user space for lack of a next hop",
    "rtcp_copied": "RTCP packets copied to user space for statistics",
    "stun": "STUN messages passed on end to end",
    "dtls": "DTLS records passed on end to end",
    "fragments": "fragments left to the kernel to put together",
    "reassembled": "datagrams put together by the kernel and forwarded from user space",
    "silenced": "packets whose payload was overwritten with silence",
    "learned": "sources learned",
    "events_full": "events lost to a full ring",
    "events_held": "events held back by the budget of their rule",
    "copies_full": "packet copies lost to a full ring",
    "copies_held": "RTCP copies held back by the budget of their rule",
    "closed": "to a port whose call has ended",
    "orphaned": "left behind by a relay that nobody has taken over from in time",
    "malformed": "lengths that contradict each other",
    "rate": "more packets than a port may take",
    "blocked": "blocked on the proxy's or an operator's word",
    "too_big": "larger than the next link takes",
    "no_token": "from more IPv6 addresses than can be remembered",
    "ttl": "TTL used up",
    "source_refused": "from an address that is never answered",
    "source_mismatch": "from another source than the call's, under strict-source",
    "no_destination": "the other side's address is not known yet",
    "no_rule_at_destination": "sent to a local address without a call on that port",
    "passes": "through more local ports than one run applies",
    "no_next_hop": "no next hop, and user space has had enough copies",
}
DROP_REASONS: Final = (
    "closed",
    "orphaned",
    "malformed",
    "rate",
    "blocked",
    "too_big",
    "no_token",
    "ttl",
    "source_refused",
    "source_mismatch",
    "no_destination",
    "no_rule_at_destination",
    "passes",
    "no_next_hop",
)

CLOCK: Final[np.dtype[Any]] = np.dtype(
    [
        ("payload_type", "u1"),
        ("fill", "u1"),
        ("khz_quarters", "u2"),
    ]
)

CLOCK_READING: Final[np.dtype[Any]] = np.dtype(
    [
        ("jiffies", "u8"),
        ("nanoseconds", "u8"),
    ]
)

COLD: Final[np.dtype[Any]] = np.dtype(
    [
        ("via_learned", "u8"),
        ("via_mac", "u1", (6,)),
        ("via_source_mac", "u1", (6,)),
        ("via_ifindex", "u4"),
        ("preferred", ">u4"),
        ("window_tick", "u4"),
        ("source", "u8"),
        ("base_sequence", "u4"),
        ("base_packets", "u4"),
        ("other", "u4"),
        ("prior_expected", "u4"),
        ("prior_received", "u4"),
        ("missing_top", "u4"),
        ("missing", "u8"),
        ("duplicates", "u4"),
        ("reordered", "u4"),
        ("jitter", "u4"),
        ("sample_timestamp", "u4"),
        ("sample_arrival", "u8"),
        ("drops", "u4"),
        ("foreign", "u4"),
        ("drop_reason", "u1"),
        ("slow_tick", "u1"),
        ("via_vlan", ">u2"),
        ("bad_sequence", "u2"),
        ("slow_count", "u1"),
        ("payload_type", "u1"),
        ("clock", CLOCK, (4,)),
    ]
)

CONTROL: Final[np.dtype[Any]] = np.dtype(
    [
        ("generation", "u2"),
        ("flags", "u2"),
        ("tos", "u1"),
        ("address", "u1"),
        ("port", ">u2"),
    ]
)

COPY: Final[np.dtype[Any]] = np.dtype(
    [
        ("kind", "u4"),
        ("index", "u4"),
        ("length", "u4"),
        ("ifindex", "u4"),
        ("mtu", "u4"),
        ("zero", "u4"),
    ]
)

EVENT: Final[np.dtype[Any]] = np.dtype(
    [
        ("kind", "u4"),
        ("index", "u4"),
        ("expected", "u8"),
    ]
)

EXPECTED: Final[np.dtype[Any]] = np.dtype(
    [
        ("address", ">u4"),
        ("port", ">u2"),
        ("tag", "u2"),
    ]
)

LOCAL_ADDRESS: Final[np.dtype[Any]] = np.dtype(
    [
        ("address", ">u4"),
        ("index", "u4"),
    ]
)

IP6: Final[np.dtype[Any]] = np.dtype(
    [
        ("octets", "u1", (16,)),
    ]
)

LOCAL_IP6: Final[np.dtype[Any]] = np.dtype(
    [
        ("address", IP6),
        ("index", "u4"),
        ("used", "u4"),
    ]
)

HOST: Final[np.dtype[Any]] = np.dtype(
    [
        ("slot", LOCAL_ADDRESS, (64,)),
        ("beat", "u8"),
        ("address", ">u4", (256,)),
        ("slot6", LOCAL_IP6, (64,)),
        ("address6", IP6, (256,)),
    ]
)

NEXTHOP: Final[np.dtype[Any]] = np.dtype(
    [
        ("destination_mac", "u1", (6,)),
        ("state", "u2"),
        ("source_mac", "u1", (6,)),
        ("device", "u2"),
        ("mtu", "u4"),
        ("used", "u4"),
        ("vlan", ">u2"),
        ("zero", "u2", (3,)),
    ]
)

PEER: Final[np.dtype[Any]] = np.dtype(
    [
        ("address", ">u4"),
        ("port", ">u2"),
        ("generation", "u2"),
    ]
)

PREFIX: Final[np.dtype[Any]] = np.dtype(
    [
        ("length", "u4"),
        ("address", ">u4"),
    ]
)

PREFIX6: Final[np.dtype[Any]] = np.dtype(
    [
        ("length", "u4"),
        ("address", IP6),
    ]
)

RULE: Final[np.dtype[Any]] = np.dtype(
    [
        ("control", "u8"),
        ("signalled", "u8"),
        ("learned", "u8"),
        ("expected", "u8"),
        ("nexthop", "u2", (2,)),
        ("tick", "u2"),
        ("mark", "u2"),
        ("packets", "u8"),
        ("bytes", "u8"),
        ("ssrc", "u4"),
        ("sequence", "u4"),
    ]
)

SETTINGS: Final[np.dtype[Any]] = np.dtype(
    [
        ("tick_shift", "u4"),
        ("rate_per_tick", "u4"),
        ("window_jiffies", "u4"),
        ("slow_ticks", "u4"),
        ("slow_packets", "u4"),
        ("alone_jiffies", "u4"),
        ("orphan_jiffies", "u4"),
    ]
)

VLAN: Final[np.dtype[Any]] = np.dtype(
    [
        ("lower", "u4"),
        ("tci", ">u2"),
        ("zero", "u2"),
    ]
)
