"""Packets that outgrow the next link are dropped, and their senders are told what would have fitted."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, IPOption_Timestamp

from relay.dataplane import abi
from relay.types import Endpoint
from tests.bpf.switchboard import (
    A6,
    B6,
    PORT_A,
    PORT_A6,
    PORT_B,
    PORT_B6,
    SLOW_PACKETS,
    XDP_DROP,
    XDP_REDIRECT,
    A,
    B,
    Switchboard,
    datagram,
)

PAYLOAD = bytes(index & 0xFF for index in range(1000))
LEGS = {
    "IPv4 to IPv4": ((A, PORT_A), (B, PORT_B), 1028, 1028),
    "IPv4 to IPv6": ((A, PORT_A), (B6, PORT_B6), 1028, 1048),
    "IPv6 to IPv4": ((A6, PORT_A6), (B, PORT_B), 1048, 1028),
    "IPv6 to IPv6": ((A6, PORT_A6), (B6, PORT_B6), 1048, 1048),
}
Side = tuple[Endpoint, Endpoint]


@pytest.mark.parametrize(("near", "far", "arriving", "leaving"), LEGS.values(), ids=LEGS)
@pytest.mark.parametrize("room", [0, -1, -100])
def test_the_size_that_counts_is_that_of_the_family_it_leaves_in(
    board: Switchboard, near: Side, far: Side, arriving: int, leaving: int, room: int
) -> None:
    board.steady_call(0, 0, near[0], far[0], (near[1], far[1]))
    board.set_nexthop(mtu=leaving + room)
    frame = datagram(near[0], near[1], PAYLOAD)
    if IP in frame:
        frame[IP].flags = "DF"
    run = board.run(frame)
    if not room:
        assert run.verdict == XDP_REDIRECT
        return
    assert (run.verdict, run.data) == (XDP_DROP, bytes(frame))
    assert board.counters() == {"too_big": 1}
    assert board.drop_reason(near[1]) == "too_big"
    (copy,) = board.copies()
    assert (copy.kind, copy.port, copy.mtu) == (abi.COPY_TOO_BIG, near[1], arriving + room)
    assert copy.data == bytes(frame)[14:]


def test_ip4_that_may_be_fragmented_is_dropped_in_silence(board: Switchboard) -> None:
    board.steady_call()
    board.set_nexthop(mtu=1027)
    assert board.run(datagram(payload=PAYLOAD)).verdict == XDP_DROP
    assert board.counters() == {"too_big": 1}
    assert board.copies() == []


def test_options_that_go_make_room(board: Switchboard) -> None:
    board.steady_call(0, 0, A, B6, (PORT_A, PORT_B6))
    frame = datagram(A, PORT_A, PAYLOAD)
    frame[IP].options, frame[IP].flags = [IPOption_Timestamp(internet_address="0.0.0.0", timestamp=0)], "DF"
    options = len(bytes(frame)) - 14 - 1028
    board.set_nexthop(mtu=1047)
    board.run(frame)
    assert [copy.mtu for copy in board.copies()] == [1027 + options]
    board.set_nexthop(mtu=1048)
    assert board.run(frame).verdict == XDP_REDIRECT


def test_what_user_space_hears_of_it_is_bounded(board: Switchboard) -> None:
    board.steady_call(0, 0, A6, B6, (PORT_A6, PORT_B6))
    board.set_nexthop(mtu=1047)
    for _ in range(SLOW_PACKETS + 5):
        board.run(datagram(A6, PORT_A6, PAYLOAD))
    assert len(board.copies()) == SLOW_PACKETS
    assert board.counters() == {"too_big": SLOW_PACKETS + 5}


def test_a_large_packet_is_copied_as_far_as_there_is_room(board: Switchboard) -> None:
    board.steady_call(0, 0, A6, B6, (PORT_A6, PORT_B6))
    frame = bytes(datagram(A6, PORT_A6, bytes(3000)))
    board.run(frame)
    assert [copy.data for copy in board.copies()] == [frame[14 : 14 + abi.COPY_LARGE]]


def test_the_size_is_that_on_the_last_of_several_rules(board: Switchboard) -> None:
    near6, far6 = Endpoint(PORT_A6.ip, 31000), Endpoint(PORT_A6.ip, 31002)
    board.call(0, 0, A, near6, (PORT_A, PORT_B6))
    board.call(0, 0, PORT_B6, B6, (near6, far6))
    board.set_nexthop(mtu=1047)
    assert board.run(datagram(A, PORT_A, PAYLOAD)).verdict == XDP_DROP
    assert board.drop_reason(near6) == "too_big"
