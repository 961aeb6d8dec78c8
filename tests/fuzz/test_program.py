"""Any frame at a table with rules of all kinds: an expected verdict, right checksums, and no trace where it did not go.

Frames are random, or put together from good parts and damaged by a few bytes. What is looked at here is what holds of
every frame; what becomes of which is for the tables of packets in tests/bpf.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet

from relay.dataplane import abi
from relay.dataplane.program import OBJECT
from relay.types import Endpoint
from tests.bpf.compiler import HOUSE
from tests.bpf.switchboard import (
    A6,
    A_MAC,
    ADDRESSES,
    B6,
    OWN_MAC,
    RELAY,
    RELAY6,
    SECOND,
    SECOND6,
    XDP_DROP,
    XDP_PASS,
    XDP_REDIRECT,
    XDP_TX,
    A,
    B,
    Switchboard,
    network,
    rtcp,
    rtp,
)

EXAMPLES = 1500
MUXED = abi.RTP | abi.RTCP
T = TypeVar("T")


@pytest.fixture(scope="module")
def board() -> Iterator[Switchboard]:
    if not shutil.which("clang"):
        pytest.skip("needs clang: run `make develop`")
    subprocess.run(["make", "--silent", "--directory", HOUSE / "ebpf"], check=True)
    made = Switchboard(OBJECT)
    yield made
    assert made.written_elsewhere() == 0
    made.close()


@dataclass(frozen=True)
class Kind:
    """An ordinary call whose rules have these flags, between parties of these families."""

    flags: int
    family: int = 4
    other: int = 4
    known: bool = False
    """The sources are confirmed."""


KINDS = (
    Kind(0),
    Kind(MUXED, known=True),
    Kind(MUXED, 6, 6),
    Kind(MUXED, 4, 6, known=True),
    Kind(MUXED, 6, 4),
    Kind(MUXED | abi.STRICT | abi.LEARN_HEURISTIC, 6, 6, known=True),
    Kind(MUXED | abi.HANDOVER | abi.LEARN_IMMEDIATE, 6, 4, known=True),
    Kind(MUXED | abi.LEARN_OFF | abi.KEEP_TOS, 4, 6),
    Kind(MUXED | abi.FIXED | abi.LOOPBACK, 6, 6),
    Kind(MUXED | abi.SILENCE),
    Kind(MUXED | abi.SILENCE, 6, 4, known=True),
    Kind(MUXED | abi.BLOCK_EVENTS, 4, 6),
    Kind(abi.RTP | abi.BLOCK, 6, 6),
    Kind(abi.RTCP),
)
FIRST = 30000
SPACING = 10
SPLIT = FIRST + SPACING * len(KINDS)
CHAIN = SPLIT + SPACING
CLOSED = CHAIN + SPACING


def local(family: int, port: int) -> Endpoint:
    return Endpoint(RELAY if family == 4 else RELAY6, port)


def party(family: int, other: bool) -> Endpoint:
    return {4: (A, B), 6: (A6, B6)}[family][other]


def install_kind(board: Switchboard, number: int, kind: Kind) -> set[Endpoint]:
    ports = local(kind.family, FIRST + SPACING * number), local(kind.other, FIRST + SPACING * number + 2)
    parties = party(kind.family, False), party(kind.other, True)
    (board.steady_call if kind.known else board.call)(kind.flags, 40, *parties, ports)
    for port in ports:
        board.cold(port)["clock"] = [(0, 0xFF, 32), (8, 0xD5, 32), (101, 0, abi.EVENT_CLOCK), (255, 0, 0)]
    return set(ports)


def install_split(board: Switchboard) -> set[Endpoint]:
    """A over IPv6 on one port, B over IPv4 on two."""
    a, above, b, control = local(6, SPLIT), local(6, SPLIT + 1), local(4, SPLIT + 2), local(4, SPLIT + 3)
    board.install(a, b, B, A6, MUXED | abi.SPLIT)
    board.install(above, control, Endpoint(B.ip, B.port + 1), A6, abi.RTCP)
    board.install(b, a, A6, B, abi.RTP)
    board.install(control, above, A6, Endpoint(B.ip, B.port + 1), abi.RTCP | abi.JOINED)
    return {a, above, b, control}


def install_chain(board: Switchboard) -> set[Endpoint]:
    """A over IPv4, between two calls over IPv6, B over IPv4."""
    first, second = (local(4, CHAIN), local(6, CHAIN + 2)), (Endpoint(SECOND6, CHAIN), Endpoint(SECOND, CHAIN + 2))
    board.call(MUXED, 0, A, second[0], first)
    board.call(MUXED, 0, first[1], B, second)
    return {*first, *second}


def install_all(board: Switchboard) -> list[set[Endpoint]]:
    """Rules of all kinds; gives back which ports a packet to one of them may leave a trace at."""
    board.clear()
    closed = local(4, CLOSED)
    board.rule(closed)["control"] = abi.CLOSED << 16
    calls = [install_kind(board, number, kind) for number, kind in enumerate(KINDS)]
    return [*calls, install_split(board), install_chain(board), {closed}]


OURS = [
    port
    for number, kind in enumerate(KINDS)
    for port in (local(kind.family, FIRST + SPACING * number), local(kind.other, FIRST + SPACING * number + 2))
]
OURS += [local(6, SPLIT), local(6, SPLIT + 1), local(4, SPLIT + 2), local(4, SPLIT + 3)]
OURS += [local(4, CHAIN), Endpoint(SECOND, CHAIN + 2), local(6, CHAIN + 2), local(4, CLOSED)]
NOT_OURS = st.builds(Endpoint, st.sampled_from([*ADDRESSES, "192.0.2.99", "2001:db8::99"]), st.integers(0, 65535))
SOURCES = {4: [A, B, Endpoint("192.0.2.200", 9)], 6: [A6, B6, Endpoint("2001:db8:bad::1", 9)]}


def rarely(usual: T, *others: T) -> st.SearchStrategy[T]:
    """The usual thing, nine times out of ten."""
    return st.integers(0, 9).flatmap(lambda turn: st.just(usual) if turn else st.sampled_from(others))


PAYLOADS = st.one_of(
    st.builds(rtp, st.integers(0, 65535), st.sampled_from([0, 8, 18, 101]), st.booleans()),
    st.binary(max_size=40).map(lambda more: rtp(1) + more),
    st.tuples(st.sampled_from([0x80, 0x8F, 0x90, 0xA0, 0xBF]), st.binary(min_size=11, max_size=90)).map(
        lambda parts: bytes([parts[0], 0]) + parts[1]
    ),
    st.just(rtcp()),
    st.sampled_from([b"\0\1\0\0" + bytes(16), b"\x16" + bytes(20), b"", bytes(1465), bytes(1600)]),
    st.binary(max_size=60),
)
TAGS: st.SearchStrategy[list[Packet]] = st.sampled_from(
    [[], [], [Dot1Q(vlan=7)], [Dot1AD(vlan=9)], [Dot1AD(vlan=9), Dot1Q(vlan=7)]]
)
FLAWS: st.SearchStrategy[list[tuple[int, int]]] = st.one_of(
    st.just([]), st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=2)
)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Mostly good frames, some of them damaged or cut."""
    to = draw(NOT_OURS) if draw(rarely(False, True)) else draw(st.sampled_from(OURS))
    source = draw(st.sampled_from(SOURCES[6 if ":" in to.ip else 4]))
    head = network(source, to, draw(rarely(64, 255, 2, 1, 0)), draw(st.integers(0, 255)))
    part = draw(rarely("whole", "first", "later"))
    if part != "whole" and isinstance(head, IP):
        head.flags, head.frag = ("MF", 0) if part == "first" else (0, 10)
    elif part != "whole":
        head = head / IPv6ExtHdrFragment(nh=17, m=part == "first", offset=0 if part == "first" else 10)
    frame: Packet = Ether(src=A_MAC, dst=draw(rarely(OWN_MAC, "ff:ff:ff:ff:ff:ff")))
    for tag in draw(TAGS):
        frame = frame / tag.copy()
    datagram = UDP(sport=source.port, dport=to.port)
    if draw(st.booleans()) and ":" not in to.ip:
        datagram.chksum = 0
    frame = frame / head / datagram / draw(PAYLOADS)
    octets = bytearray(bytes(frame))
    for place, value in draw(FLAWS):
        if place < len(octets):
            octets[place] = value
    cut = draw(rarely(0, 1, 8, 30))
    return bytes(octets[: max(len(octets) - cut, 14)]) + draw(st.sampled_from([b"", bytes(6)]))


ANY = st.one_of(frames(), frames(), frames(), st.binary(min_size=14, max_size=200))
FUZZ = settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@dataclass(frozen=True)
class Datagram:
    """A UDP datagram as it lies in a frame, read without scapy, which would mend what is wrong."""

    ip: bytes
    """The IP header."""
    to: Endpoint
    udp: bytes
    """Its header and payload, as long as it says it is."""

    @property
    def whole(self) -> bool:
        return len(self.udp) >= 8 and len(self.udp) == int.from_bytes(self.udp[4:6])

    @property
    def head_sum_right(self) -> bool:
        return self.ip[0] >> 4 == 6 or summed(self.ip) == 0xFFFF

    @property
    def sum_right(self) -> bool:
        """The UDP checksum is right, or absent over IPv4 (RFC 768)."""
        v4 = self.ip[0] >> 4 == 4
        pseudo = self.ip[12:20] if v4 else self.ip[8:40]
        total = summed(pseudo + struct.pack(">HH", 17, len(self.udp)) + self.udp)
        return total == 0xFFFF or (v4 and self.udp[6:8] == b"\0\0")


def summed(octets: bytes) -> int:
    """The sum of RFC 1071, not inverted."""
    padded = octets + bytes(len(octets) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def read(frame: bytes) -> Datagram | None:
    """The datagram in a frame behind any number of tags; None if there is none."""
    at = 12
    while frame[at : at + 2] in (b"\x81\0", b"\x88\xa8"):
        at += 4
    kind, packet = frame[at : at + 2], frame[at + 2 :]
    if kind == b"\x08\0" and len(packet) >= 28 and packet[0] >> 4 == 4 and packet[9] == 17:
        size, to = (packet[0] & 15) * 4, packet[16:20]
    elif kind == b"\x86\xdd" and len(packet) >= 48 and packet[0] >> 4 == 6 and packet[6] == 17:
        size, to = 40, packet[24:40]
    else:
        return None
    udp = packet[size:]
    length = int.from_bytes(udp[4:6])
    return Datagram(packet[:size], Endpoint(str(ip_address(to)), int.from_bytes(udp[2:4])), udp[:length])


def books(board: Switchboard, calls: list[set[Endpoint]]) -> dict[Endpoint, bytes]:
    return {port: board.rule(port).tobytes() + board.cold(port).tobytes() for ports in calls for port in ports}


def check(board: Switchboard, calls: list[set[Endpoint]], before: dict[Endpoint, bytes], arrived: bytes) -> None:
    """Nothing was written to a rule of another call than that of the port the frame came to."""
    found = read(arrived)
    mine = next((ports for ports in calls if found is not None and found.to in ports), set())
    after = books(board, calls)
    assert {port for port in after if after[port] != before[port]} <= mine


def check_sent(arrived: bytes, sent: bytes) -> None:
    """What leaves is whole, and its checksums are right where they were on arrival."""
    old, new = read(arrived), read(sent)
    assert old is not None
    assert new is not None
    assert new.whole
    changed_family = old.ip[0] >> 4 != new.ip[0] >> 4
    assert new.head_sum_right or not (old.head_sum_right or changed_family)
    assert new.sum_right or not old.sum_right
    if new.ip[0] >> 4 == 6:
        assert new.udp[6:8] != b"\0\0"


@pytest.mark.fuzz
@FUZZ
@given(frame=ANY)
def test_any_frame_has_one_of_three_fates(board: Switchboard, frame: bytes) -> None:
    calls = install_all(board)
    before = books(board, calls)
    run = board.run(frame)
    counters = board.counters()
    event(f"verdict {run.verdict}")
    assert run.verdict in (XDP_PASS, XDP_DROP, XDP_REDIRECT)
    if run.verdict == XDP_PASS:
        assert run.data == frame
        assert counters in ({}, {"fragments": 1})
        assert books(board, calls) == before
        return
    assert counters
    check(board, calls, before, frame)
    if run.verdict == XDP_REDIRECT:
        assert counters["forwarded"] == 1
        check_sent(frame, run.data)
    else:
        assert any(counters.get(reason) for reason in (*abi.DROP_REASONS, "slow_path"))


@pytest.mark.fuzz
@FUZZ
@given(frame=ANY)
def test_any_packet_that_was_put_together_too(board: Switchboard, frame: bytes) -> None:
    calls = install_all(board)
    before = books(board, calls)
    result = board.reassembled.test_run(frame)
    event(f"verdict {result.verdict}")
    assert result.verdict in (XDP_PASS, XDP_DROP, XDP_TX)
    if result.verdict == XDP_PASS:
        assert (result.data, books(board, calls)) == (frame, before)
        return
    check(board, calls, before, frame)
    if result.verdict == XDP_TX:
        assert board.counters()["reassembled"] == 1
        check_sent(frame, result.data)


@pytest.mark.fuzz
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(arriving=st.lists(ANY, min_size=2, max_size=30))
def test_no_order_of_frames_leads_out_of_bounds(board: Switchboard, arriving: list[bytes]) -> None:
    """One table under a row of frames, so that windows open, tokens run out and sources are displaced."""
    calls = install_all(board)
    for frame in arriving:
        before = books(board, calls)
        run = board.run(frame)
        if run.verdict == XDP_PASS:
            assert (run.data, books(board, calls)) == (frame, before)
        else:
            check(board, calls, before, frame)
        if run.verdict == XDP_REDIRECT:
            check_sent(frame, run.data)
