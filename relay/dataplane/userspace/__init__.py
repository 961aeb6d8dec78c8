"""The data plane of ordinary users: a UDP socket for every port in force, forwarded by the daemon itself.

It needs no privileges and serves loopback, so it is what a laptop, a test and an unprivileged container use. Every
packet passes through Python, and every port takes a descriptor: some hundreds of calls, where XDP takes tens of
thousands.

    plane       the contract (relay.dataplane.Dataplane): rules in, sockets opened and closed
    port        what stands for one rule: counters, the address packets go to, the guard of the rate
    window      whose packets a port takes for its party's (ebpf/learn.h's rules)         pure
    payload     what a datagram is, and what blocking and silence make of it              pure
    reception   loss, duplicates, reordering and jitter (ebpf/quality.h's books)          pure
    sockets     datagrams in and out, with their TTL and TOS byte
"""

from __future__ import annotations

from relay.dataplane.userspace.plane import COUNTER_TEXTS, UserspaceDataplane, UserspaceSettings

__all__ = ["COUNTER_TEXTS", "UserspaceDataplane", "UserspaceSettings"]
