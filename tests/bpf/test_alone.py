"""What the program does while nobody beats: it asks the kernel for the way of each packet, and one day it stops."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether

from relay.dataplane import abi
from relay.types import Endpoint
from tests.bpf.switchboard import (
    A6,
    ALONE,
    B6,
    HOP_MAC,
    HOP_OWN_MAC,
    ORPHANED,
    PORT_A,
    PORT_A6,
    PORT_B,
    PORT_B6,
    RELAY,
    RELAY6,
    XDP_DROP,
    XDP_REDIRECT,
    B,
    Run,
    Switchboard,
    datagram,
    leaving,
)
from tests.lab import Host, Lab

NEW_HOP_MAC, NEW_OWN_MAC = "02:00:00:00:00:1b", "02:00:00:00:00:12"
TAGGED_MAC = "02:00:00:00:00:2b"
BEHIND_TAG = Endpoint("203.0.114.5", 5000)
VLAN = 7
MARGIN = 20_000
"""Jiffies that no test takes."""
AGES = [(0, False), (ALONE - MARGIN, False), (ALONE, True), (ORPHANED - MARGIN, True)]


@pytest.fixture
def crossing(lab: Lab) -> Host:
    """A host with ways to B, B6 and, by a device in the place of a VLAN's, to BEHIND_TAG; packets come in by `in`."""
    host = lab.host("crossing")
    for name in ("in", "out", "tagged"):
        host.ip("link", "add", name, "type", "veth", "peer", "name", f"{name}-far")
        host.ip("link", "set", name, "up")
        host.ip("link", "set", f"{name}-far", "up")
    for name in ("out", "tagged"):
        host.ip("link", "set", name, "address", NEW_OWN_MAC)
    for address in (f"{RELAY}/32", f"{RELAY6}/128", "203.0.113.1/25", "2001:db8:203::1/64"):
        host.ip("address", "add", address, "dev", "out", *(["nodad"] if ":" in address else []))
    host.ip("address", "add", "203.0.114.1/24", "dev", "tagged")
    for ip, device, mac in (
        (B.ip, "out", NEW_HOP_MAC),
        (B6.ip, "out", NEW_HOP_MAC),
        (BEHIND_TAG.ip, "tagged", TAGGED_MAC),
    ):
        host.ip("neighbour", "add", ip, "dev", device, "lladdr", mac, "nud", "permanent")
    allow(host, True)
    return host


def allow(host: Host, forwarding: bool) -> None:
    """Let the kernel forward what comes in by `in`, or not."""
    for family in ("ipv4", "ipv6"):
        host.sysctl(f"{family}/conf/in/forwarding", str(int(forwarding)))


def run(board: Switchboard, host: Host, frame: object) -> Run:
    """Run the program on a frame that comes in by `in`."""
    return host.call(lambda: board.run(bytes(frame), ifindex=socket.if_nametoindex("in")))  # type: ignore[call-overload]


def macs(result: Run) -> tuple[str, str]:
    frame = Ether(result.data)
    return frame.dst, frame.src


CACHED, FOUND = (HOP_MAC, HOP_OWN_MAC), (NEW_HOP_MAC, NEW_OWN_MAC)


@pytest.mark.parametrize(("age", "alone"), AGES)
def test_the_kernel_is_asked_from_an_age_on(board: Switchboard, crossing: Host, age: int, alone: bool) -> None:
    board.steady_call()
    board.beat(age)
    sent = run(board, crossing, datagram(payload=b"hello"))
    assert (sent.verdict, macs(sent)) == (XDP_REDIRECT, FOUND if alone else CACHED)
    assert sent.data[14:] == bytes(leaving(PORT_B, B, b"hello")[IP])
    assert board.counters() == {"forwarded": 1}


@pytest.mark.parametrize(("age", "alone"), AGES)
def test_the_same_over_ip6(board: Switchboard, crossing: Host, age: int, alone: bool) -> None:
    board.steady_call(a=A6, b=B6, ports=(PORT_A6, PORT_B6))
    board.beat(age)
    sent = run(board, crossing, datagram(A6, PORT_A6, b"hello"))
    assert (sent.verdict, macs(sent)) == (XDP_REDIRECT, FOUND if alone else CACHED)
    assert sent.data[14:] == bytes(leaving(PORT_B6, B6, b"hello")[IPv6])


def test_a_packet_changes_its_family_on_a_way_the_kernel_knows(board: Switchboard, crossing: Host) -> None:
    board.steady_call(a=A6, b=B, ports=(PORT_A6, PORT_B))
    board.beat(ALONE)
    sent = run(board, crossing, datagram(A6, PORT_A6, b"hello"))
    assert (sent.verdict, macs(sent), sent.packet[IP].dst) == (XDP_REDIRECT, FOUND, B.ip)


def test_a_vlan_device_is_its_lower_one_with_a_tag(board: Switchboard, crossing: Host) -> None:
    board.steady_call(b=BEHIND_TAG)
    board.beat(ALONE)
    lower, tagged = (crossing.call(lambda name=name: socket.if_nametoindex(name)) for name in ("out", "tagged"))  # type: ignore[misc]
    vlans = board.object.map("vlans")
    vlans.update(struct.pack("=I", tagged), struct.pack("=I", lower) + struct.pack("!H", VLAN) + bytes(2))
    try:
        sent = run(board, crossing, datagram(payload=b"hello"))
    finally:
        vlans.delete(struct.pack("=I", tagged))
    assert (sent.verdict, sent.packet[Dot1Q].vlan) == (XDP_REDIRECT, VLAN)
    assert macs(sent) == (TAGGED_MAC, NEW_OWN_MAC)
    assert sent.data[18:] == bytes(leaving(PORT_B, BEHIND_TAG, b"hello")[IP])


@pytest.mark.parametrize("trouble", ["forbidden", "no route", "no neighbour", "blackhole"])
def test_what_was_known_last_serves_where_the_kernel_knows_nothing(
    board: Switchboard, crossing: Host, trouble: str
) -> None:
    match trouble:
        case "forbidden":
            allow(crossing, False)
        case "no route":
            crossing.ip("address", "delete", "203.0.113.1/25", "dev", "out")
        case "no neighbour":
            crossing.ip("neighbour", "delete", B.ip, "dev", "out")
        case _:
            crossing.ip("route", "add", "blackhole", f"{B.ip}/32")
    board.steady_call()
    board.beat(ALONE)
    sent = run(board, crossing, datagram(payload=b"hello"))
    assert (sent.verdict, macs(sent)) == (XDP_REDIRECT, CACHED)


def test_no_next_hop_is_needed_where_the_kernel_knows_one(board: Switchboard, crossing: Host) -> None:
    board.steady_call()
    board.set_nexthop(state=abi.NEXTHOP_NONE)
    board.beat(ALONE)
    assert macs(run(board, crossing, datagram())) == FOUND


def test_a_learned_address_is_looked_up_as_well(board: Switchboard, crossing: Host) -> None:
    board.call(b=Endpoint("203.0.113.77", 1))
    board.run(datagram(B, PORT_B))
    board.beat(ALONE)
    assert macs(run(board, crossing, datagram())) == FOUND


def test_a_packet_larger_than_the_way_takes_is_dropped(board: Switchboard, crossing: Host) -> None:
    crossing.ip("link", "set", "out", "mtu", "1300")
    board.steady_call()
    board.beat(ALONE)
    assert run(board, crossing, datagram(payload=bytes(1272))).verdict == XDP_REDIRECT
    assert run(board, crossing, datagram(payload=bytes(1273))).verdict == XDP_DROP
    assert board.counters() == {"forwarded": 1, "too_big": 1}


def test_an_orphan_neither_forwards_nor_learns(board: Switchboard) -> None:
    board.call()
    board.beat(ORPHANED)
    assert board.run(datagram()).verdict == XDP_DROP
    assert board.counters() == {"orphaned": 1}
    assert board.drop_reason(PORT_A) == "orphaned"
    assert board.rule(PORT_A)["packets"] == 0
    assert board.standing(PORT_A)[0] is None
    board.beat()
    assert board.run(datagram()).verdict == XDP_REDIRECT


def test_what_is_not_ours_passes_an_orphan(board: Switchboard) -> None:
    board.steady_call()
    board.beat(ORPHANED)
    assert board.run(datagram(to=Endpoint(RELAY, 9))).verdict not in (XDP_DROP, XDP_REDIRECT)


class TestWithoutLimit:
    @pytest.fixture
    def patient(self, built_object: Path) -> Iterator[Switchboard]:
        board = Switchboard(built_object, orphaned=0)
        board.clear()
        yield board
        board.close()

    def test_it_never_stops(self, patient: Switchboard) -> None:
        patient.steady_call()
        patient.beat(1 << 30)
        assert patient.run(datagram()).verdict == XDP_REDIRECT
