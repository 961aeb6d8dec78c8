"""What the kernel put together from fragments: turned and rewritten like any packet, for user space to send."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from relay.dataplane import abi
from relay.types import Endpoint
from tests.bpf.switchboard import (
    A6,
    B6,
    PORT_A,
    PORT_A6,
    PORT_B,
    PORT_B6,
    RELAY,
    XDP_DROP,
    XDP_PASS,
    XDP_TX,
    A,
    B,
    Switchboard,
    datagram,
    leaving,
    rtcp,
    rtp,
)

LEGS = {
    "IPv4": ((A, PORT_A), (B, PORT_B)),
    "IPv6": ((A6, PORT_A6), (B6, PORT_B6)),
    "IPv4 to IPv6": ((A, PORT_A), (B6, PORT_B6)),
    "IPv6 to IPv4": ((A6, PORT_A6), (B, PORT_B)),
}
Side = tuple[Endpoint, Endpoint]


def network_part(frame: Packet) -> Packet:
    return frame.payload


@pytest.mark.parametrize(("near", "far"), LEGS.values(), ids=LEGS)
@pytest.mark.parametrize("size", [0, 171, 3000])
def test_the_frame_holds_the_packet_to_send(board: Switchboard, near: Side, far: Side, size: int) -> None:
    board.steady_call(0, 0, near[0], far[0], (near[1], far[1]))
    payload = bytes(index * 7 & 0xFF for index in range(size))
    run = board.run_reassembled(network_part(datagram(near[0], near[1], payload)))
    sent = network_part(leaving(far[1], far[0], payload))
    if isinstance(sent, IP) and ":" in near[0].ip:
        sent.id, sent.flags = (0, "DF") if size > 1232 else (run.packet[IP].id, 0)
    kind = b"\x86\xdd" if isinstance(sent, IPv6) else b"\x08\x00"
    assert (run.verdict, run.data) == (XDP_TX, bytes(12) + kind + bytes(sent))
    assert board.counters() == {"reassembled": 1}
    assert (board.rule(near[1])["packets"], board.rule(near[1])["bytes"]) == (1, size)


def test_neither_next_hop_nor_size_matters(board: Switchboard) -> None:
    board.steady_call()
    board.set_nexthop(state=abi.NEXTHOP_NONE, mtu=576)
    assert board.run_reassembled(datagram(payload=bytes(2000))[IP]).verdict == XDP_TX
    assert board.copies() == []


def test_no_way_back_is_learned_from_it(board: Switchboard) -> None:
    board.call()
    nat = Endpoint("198.51.100.77", 61000)
    board.run_reassembled(datagram(nat)[IP])
    assert board.learned(PORT_B) == nat
    assert board.cold(PORT_B)["via_ifindex"] == 0
    assert board.run(datagram(B, PORT_B)).verdict == XDP_DROP


@pytest.mark.parametrize("to", [Endpoint(RELAY, 39998), Endpoint("192.0.2.11", PORT_A.port)])
def test_what_is_not_for_a_port_of_ours_is_left_alone(board: Switchboard, to: Endpoint) -> None:
    board.steady_call()
    packet = datagram(A, to, b"foreign")[IP]
    run = board.run_reassembled(packet)
    assert (run.verdict, run.data[14:]) == (XDP_PASS, bytes(packet))
    assert board.counters() == {}


def test_what_is_not_admitted_is_dropped_and_counted(board: Switchboard) -> None:
    board.steady_call(abi.STRICT)
    assert board.run_reassembled(datagram(Endpoint("192.0.2.200", 9))[IP]).verdict == XDP_DROP
    assert board.drop_reason(PORT_A) == "source_mismatch"
    board.steady_call(abi.RTP | abi.BLOCK)
    assert board.run_reassembled(datagram(payload=rtp(1))[IP]).verdict == XDP_DROP
    assert board.drop_reason(PORT_A) == "blocked"


def test_more_than_a_run_can_see_is_malformed(board: Switchboard) -> None:
    """BPF_PROG_TEST_RUN shows a program a page; what lies behind it does not match the lengths."""
    board.steady_call()
    assert board.run_reassembled(datagram(payload=bytes(3900))[IP]).verdict == XDP_DROP
    assert board.counters() == {"malformed": 1}


def test_quality_and_statistics_go_on(board: Switchboard) -> None:
    board.steady_call(abi.RTP | abi.RTCP)
    board.run(datagram(payload=rtp(1)))
    board.run_reassembled(datagram(payload=rtp(2) + bytes(2000))[IP])
    board.run_reassembled(datagram(payload=rtcp())[IP])
    assert board.rule(PORT_A)["sequence"] == abi.FIRST_CYCLE + 2
    assert [copy.kind for copy in board.copies()] == [abi.COPY_RTCP]


def test_calls_in_series_are_one_run(board: Switchboard) -> None:
    near, far = Endpoint(RELAY, 31000), Endpoint(RELAY, 31002)
    board.call(b=near)
    board.call(0, 0, PORT_B, B, (near, far))
    assert board.run_reassembled(datagram(payload=b"chain")[IP]).data[14:] == bytes(
        leaving(far, B, b"chain", ttl=62)[IP]
    )
