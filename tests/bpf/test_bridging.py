"""From IPv4 to IPv6 and back (RFC 7915): A over IPv4 at PORT_A, B over IPv6 at PORT_B6."""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, IPOption_Timestamp
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from relay.dataplane import abi
from relay.types import Endpoint
from tests.bpf.switchboard import (
    A6,
    A_MAC,
    B6,
    OWN_MAC,
    PORT_A,
    PORT_A6,
    PORT_B,
    PORT_B6,
    SECOND,
    SECOND6,
    XDP_DROP,
    XDP_REDIRECT,
    A,
    B,
    Run,
    Switchboard,
    datagram,
    leaving,
)
from tests.bpf.test_forward import folded_pseudo_header
from tests.bpf.test_ip6 import unfinished_sum

PORTS = (PORT_A, PORT_B6)


def steady(board: Switchboard, flags: int = 0, tos: int = 0) -> None:
    board.steady_call(flags, tos, A, B6, PORTS)


def as_ip4(run: Run, source: Endpoint, to: Endpoint, payload: bytes = b"", ttl: int = 63, tos: int = 0) -> bytes:
    """The frame as it should leave over IPv4, with the identification it has: that is a number drawn at random."""
    frame = leaving(source, to, payload, ttl, tos)
    whole = len(payload) + 28 > 1260
    frame[IP].flags, frame[IP].id = ("DF", 0) if whole else (0, run.packet[IP].id)
    return bytes(frame)


SIZES = [0, 1, 2, 7, 8, 9, 171, 172, 1232, 1233, 1452]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("checksum", ["full", "unfinished", "absent"])
def test_ip4_leaves_as_ip6(board: Switchboard, size: int, checksum: str) -> None:
    steady(board)
    payload = bytes(index * 7 & 0xFF for index in range(size))
    arriving = datagram(A, PORT_A, payload)
    if checksum == "unfinished":
        arriving[UDP].chksum = folded_pseudo_header(arriving)
    if checksum == "absent":
        arriving[UDP].chksum = 0
    run = board.run(arriving)
    assert (run.verdict, run.data) == (XDP_REDIRECT, bytes(leaving(PORT_B6, B6, payload)))
    assert board.rule(PORT_A)["bytes"] == size


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("unfinished", [False, True])
def test_ip6_leaves_as_ip4(board: Switchboard, size: int, unfinished: bool) -> None:
    steady(board)
    payload = bytes(index * 7 & 0xFF for index in range(size))
    arriving = datagram(B6, PORT_B6, payload)
    if unfinished:
        arriving[UDP].chksum = unfinished_sum(arriving)
    run = board.run(arriving)
    assert (run.verdict, run.data) == (XDP_REDIRECT, as_ip4(run, PORT_A, A, payload))
    assert board.rule(PORT_B6)["bytes"] == size


def test_short_packets_over_ip4_are_told_apart(board: Switchboard) -> None:
    """RFC 7915 section 5.1: what may be fragmented further on needs an identification of its own."""
    steady(board)
    numbers = {board.run(datagram(B6, PORT_B6, b"short")).packet[IP].id for _ in range(20)}
    assert len(numbers) > 10


@pytest.mark.parametrize("checksum", ["full", "unfinished", "absent"])
def test_a_checksum_of_zero_is_sent_as_all_ones(board: Switchboard, checksum: str) -> None:
    steady(board)
    blank = Ether(bytes(leaving(PORT_B6, B6, b"\0\0")))
    arriving = datagram(A, PORT_A, struct.pack(">H", blank[UDP].chksum))
    if checksum != "full":
        arriving[UDP].chksum = folded_pseudo_header(arriving) if checksum == "unfinished" else 0
    assert board.run(arriving).packet[UDP].chksum == 0xFFFF


def test_a_wrong_checksum_is_not_made_right(board: Switchboard) -> None:
    steady(board)
    for source, port, to, near in ((A, PORT_A, B6, PORT_B6), (B6, PORT_B6, A, PORT_A)):
        arrived = Ether(bytes(datagram(source, port, b"damaged")))[UDP].chksum
        right = Ether(bytes(leaving(near, to, b"damaged")))[UDP].chksum
        assert board.run(datagram(source, port, b"damaged", chksum=arrived ^ 0x0101)).packet[UDP].chksum != right


def test_ip4_options_are_gone(board: Switchboard) -> None:
    steady(board)
    arriving = datagram(A, PORT_A, b"odd")
    arriving[IP].options = [IPOption_Timestamp(internet_address="0.0.0.0", timestamp=0)] * 3
    assert board.run(arriving).data == bytes(leaving(PORT_B6, B6, b"odd"))


@pytest.mark.parametrize("flag", ["DF", 0])
def test_df_has_no_place_in_ip6(board: Switchboard, flag: str | int) -> None:
    steady(board)
    arriving = datagram(A, PORT_A, b"x")
    arriving[IP].flags = flag
    assert board.run(arriving).data == bytes(leaving(PORT_B6, B6, b"x"))


@pytest.mark.parametrize(("tos", "rule_tos", "flags"), [(0xBB, 40, 0), (0xBB, 40, abi.KEEP_TOS), (0, 184, 0)])
def test_tos_and_traffic_class_are_one(board: Switchboard, tos: int, rule_tos: int, flags: int) -> None:
    steady(board, flags, rule_tos)
    leaves = tos if flags else rule_tos | tos & 3
    there, back = board.run(datagram(A, PORT_A, b"x", tos=tos)), board.run(datagram(B6, PORT_B6, b"x", tos=tos))
    assert there.data == bytes(leaving(PORT_B6, B6, b"x", tos=leaves))
    assert back.data == as_ip4(back, PORT_A, A, b"x", tos=leaves)


def test_ttl_and_hop_limit_are_one(board: Switchboard) -> None:
    steady(board)
    assert board.run(datagram(A, PORT_A, ttl=9)).packet[IPv6].hlim == 8
    assert board.run(datagram(B6, PORT_B6, ttl=9)).packet[IP].ttl == 8
    assert board.run(datagram(B6, PORT_B6, ttl=1)).verdict == XDP_DROP


def test_what_stands_behind_the_datagram_stays_there(board: Switchboard) -> None:
    steady(board)
    frame = Ether(src=A_MAC, dst=OWN_MAC) / IP(src=A.ip, dst=PORT_A.ip)
    arriving = frame / UDP(sport=A.port, dport=PORT_A.port, len=11, chksum=0) / Raw(b"abc trailing")
    run = board.run(bytes(arriving) + b"padding")
    assert run.packet[IPv6].plen == 8 + len(b"abc trailing")
    assert run.data.endswith(b"abc trailing" + b"padding")
    sent = Ether(bytes(leaving(PORT_B6, B6, b"abc")))
    assert (run.packet[UDP].len, run.packet[UDP].chksum) == (11, sent[UDP].chksum)


@pytest.mark.parametrize(("source", "port", "to", "near"), [(A, PORT_A, B6, PORT_B6), (B6, PORT_B6, A, PORT_A)])
def test_a_packet_without_next_hop_goes_up_in_its_new_family(
    board: Switchboard, source: Endpoint, port: Endpoint, to: Endpoint, near: Endpoint
) -> None:
    steady(board)
    board.set_nexthop(state=abi.NEXTHOP_NONE)
    assert board.run(datagram(source, port, b"hello")).verdict == XDP_DROP
    (copy,) = board.copies()
    if to is A:
        sent = leaving(near, to, b"hello")
        sent[IP].id = IP(copy.data).id
        assert copy.data == bytes(sent[IP])
    else:
        assert copy.data == bytes(leaving(near, to, b"hello")[IPv6])


def test_each_side_learns_addresses_of_its_own_family(board: Switchboard) -> None:
    board.call(0, 0, A, B6, PORTS)
    far, far6 = Endpoint("192.0.2.200", 1234), Endpoint("2001:db8:bad::1", 4321)
    board.run(datagram(far, PORT_A))
    assert board.learned(PORT_B6) == far
    there = board.run(datagram(far6, PORT_B6, b"to a"))
    assert board.learned(PORT_A) == far6
    assert (there.packet.dst, there.packet.src) == (A_MAC, OWN_MAC)
    assert there.data[14:] == as_ip4(there, PORT_A, far, b"to a")[14:]
    back = board.run(datagram(far, PORT_A, b"to b"))
    assert back.data[12:] == bytes(leaving(PORT_B6, far6, b"to b"))[12:]


NEAR, FAR = Endpoint(SECOND, 31000), Endpoint(SECOND, 31002)
NEAR6, FAR6 = Endpoint(SECOND6, 31000), Endpoint(SECOND6, 31002)


class TestPasses:
    """Two calls of this relay in series: what is between them never leaves it."""

    def run_chain(self, board: Switchboard, first: Endpoint, second: Endpoint, last: Endpoint, to: Endpoint) -> Run:
        board.call(0, 0, A, second, (PORT_A, first))
        board.call(0, 0, first, to, (second, last))
        run = board.run(datagram(A, PORT_A, b"chain"))
        assert run.verdict == XDP_REDIRECT
        assert board.standing(second) == (first, abi.CONFIRMED)
        return run

    def test_ip4_through_ip6_to_ip4(self, board: Switchboard) -> None:
        run = self.run_chain(board, PORT_B6, NEAR6, FAR, B)
        assert run.data == bytes(leaving(FAR, B, b"chain", ttl=62))

    def test_ip4_through_ip6_to_ip6(self, board: Switchboard) -> None:
        run = self.run_chain(board, PORT_B6, NEAR6, FAR6, B6)
        assert run.data == bytes(leaving(FAR6, B6, b"chain", ttl=62))

    def test_ip4_through_ip4_to_ip6(self, board: Switchboard) -> None:
        run = self.run_chain(board, PORT_B, NEAR, FAR6, B6)
        assert run.data == bytes(leaving(FAR6, B6, b"chain", ttl=62))

    def test_ip6_through_ip4_to_ip6(self, board: Switchboard) -> None:
        board.call(0, 0, A6, NEAR, (PORT_A6, PORT_B))
        board.call(0, 0, PORT_B, B6, (NEAR, FAR6))
        run = board.run(datagram(A6, PORT_A6, b"chain"))
        assert run.data == bytes(leaving(FAR6, B6, b"chain", ttl=62))


@pytest.mark.fuzz
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ports=st.tuples(st.integers(1, 65535), st.integers(1, 65535)),
    payload=st.binary(max_size=300),
    ttl=st.integers(2, 255),
    tos=st.integers(0, 255),
    checksum=st.sampled_from(["full", "unfinished", "absent"]),
    back=st.booleans(),
)
def test_any_packet_leaves_as_scapy_would_have_written_it(
    board: Switchboard, ports: tuple[int, int], payload: bytes, ttl: int, tos: int, checksum: str, back: bool
) -> None:
    party, other = Endpoint(A.ip, ports[0]), Endpoint(B6.ip, ports[1])
    board.steady_call(0, 184, party, other, PORTS)
    arriving = datagram(other, PORT_B6, payload, ttl, tos) if back else datagram(party, PORT_A, payload, ttl, tos)
    if checksum == "unfinished":
        arriving[UDP].chksum = unfinished_sum(arriving) if back else folded_pseudo_header(arriving)
    elif checksum == "absent" and not back:
        arriving[UDP].chksum = 0
    run = board.run(arriving)
    if back:
        assert run.data == as_ip4(run, PORT_A, party, payload, ttl - 1, 184 | tos & 3)
    else:
        assert run.data == bytes(leaving(PORT_B6, other, payload, ttl - 1, 184 | tos & 3))
