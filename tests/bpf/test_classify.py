"""RTP, RTCP, STUN and DTLS by RFC 7983 and 5761, as the rule says; and the copies of RTCP that go up."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP

from relay.dataplane import abi
from relay.types import Endpoint
from tests.bpf.switchboard import (
    PORT_A,
    PORT_B,
    SLOW_PACKETS,
    XDP_DROP,
    XDP_REDIRECT,
    A,
    B,
    Switchboard,
    datagram,
    leaving,
    rtcp,
    rtp,
)

MUXED = abi.RTP | abi.RTCP
STRANGER = Endpoint("192.0.2.200", 4444)


def kind(board: Switchboard, payload: bytes, flags: int) -> str:
    """What the program took one packet for, told from all its traces."""
    board.clear()
    board.steady_call(flags)
    run = board.run(datagram(payload=payload))
    assert run.data == bytes(leaving(PORT_B, B, payload))
    traces: set[str] = {"stun", "dtls", "rtcp_copied"} & board.counters().keys()
    if board.rule(PORT_A)["sequence"]:
        traces.add("rtp")
    if board.cold(PORT_A)["other"] and not traces:
        traces.add("other")
    return " ".join(sorted(traces)) or "opaque"


@pytest.mark.parametrize(
    ("first", "second", "flags", "expected"),
    [
        (0, 1, MUXED, "stun"),
        (3, 0, MUXED, "stun"),
        (4, 0, MUXED, "other"),
        (19, 0, MUXED, "other"),
        (20, 0, MUXED, "dtls"),
        (63, 0, MUXED, "dtls"),
        (64, 0, MUXED, "other"),
        (127, 0, MUXED, "other"),
        (128, 0, MUXED, "rtp"),
        (191, 0, MUXED, "rtp"),
        (192, 0, MUXED, "other"),
        (255, 0, MUXED, "other"),
        (128, 191, MUXED, "rtp"),
        (128, 192, MUXED, "rtcp_copied"),
        (128, 200, MUXED, "rtcp_copied"),
        (128, 223, MUXED, "rtcp_copied"),
        (128, 224, MUXED, "rtp"),
        (128, 63, MUXED, "rtp"),
        (128, 72, MUXED, "rtp"),
        (128, 200, abi.RTP, "rtp"),
        (128, 0, abi.RTP, "rtp"),
        (0, 1, abi.RTP, "stun"),
        (22, 0, abi.RTP, "dtls"),
        (128, 200, abi.RTCP, "rtcp_copied"),
        (128, 0, abi.RTCP, "opaque"),
        (64, 0, abi.RTCP, "opaque"),
        (128, 0, 0, "opaque"),
        (128, 200, 0, "opaque"),
        (0, 1, 0, "opaque"),
    ],
)
def test_two_bytes_tell_what_it_is(board: Switchboard, first: int, second: int, flags: int, expected: str) -> None:
    assert kind(board, bytes([first, second]) + bytes(18), flags) == expected


@pytest.mark.parametrize("size", range(12))
def test_a_runt_of_rtp_is_forwarded_and_is_no_rtp(board: Switchboard, size: int) -> None:
    assert kind(board, rtp(1)[:size], abi.RTP) == "other"


def test_the_shortest_rtp_packet_is_rtp(board: Switchboard) -> None:
    assert kind(board, rtp(1)[:12], abi.RTP) == "rtp"


def test_ethernet_padding_makes_no_rtp_of_a_runt(board: Switchboard) -> None:
    board.steady_call(abi.RTP)
    board.run(bytes(datagram(payload=rtp(1)[:4])) + bytes(14))
    assert board.rule(PORT_A)["sequence"] == 0


@pytest.mark.parametrize("flags", [MUXED, abi.RTCP])
@pytest.mark.parametrize("size", [8, 200, 1200])
def test_rtcp_is_forwarded_and_a_copy_goes_up_as_it_arrived(board: Switchboard, flags: int, size: int) -> None:
    board.steady_call(flags)
    payload = rtcp() + bytes(size - 8)
    arriving = datagram(payload=payload)
    assert board.run(bytes(arriving) + b"\0" * 6).verdict == XDP_REDIRECT
    (copy,) = board.copies()
    assert (copy.kind, copy.port, copy.ifindex, copy.data) == (abi.COPY_RTCP, PORT_A, 1, bytes(arriving[IP]))


@pytest.mark.parametrize("source", [STRANGER, Endpoint(STRANGER.ip, A.port), Endpoint(A.ip, A.port + 1)])
def test_rtcp_of_another_source_than_the_expected_is_forwarded_without_a_copy(
    board: Switchboard, source: Endpoint
) -> None:
    board.steady_call(MUXED)
    assert board.run(datagram(source, payload=rtcp())).verdict == XDP_REDIRECT
    assert board.copies() == []


def test_rtcp_that_opens_the_window_is_copied(board: Switchboard) -> None:
    board.call(MUXED)
    board.run(datagram(STRANGER, payload=rtcp()))
    assert len(board.copies()) == 1


def test_rtcp_under_strict_source_is_neither_forwarded_nor_copied(board: Switchboard) -> None:
    board.steady_call(MUXED | abi.STRICT)
    assert board.run(datagram(STRANGER, payload=rtcp())).verdict == XDP_DROP
    assert board.copies() == []


def test_copies_of_rtcp_stay_within_the_budget_and_forwarding_goes_on(board: Switchboard) -> None:
    board.steady_call(MUXED)
    for _ in range(SLOW_PACKETS + 4):
        assert board.run(datagram(payload=rtcp())).verdict == XDP_REDIRECT
    assert len(board.copies()) == SLOW_PACKETS
    assert board.counters()["copies_held"] == 4


def test_a_full_ring_does_not_stop_rtcp(board: Switchboard) -> None:
    board.steady_call(MUXED)
    frame = bytes(datagram(payload=rtcp() + bytes(1200)))
    while "copies_full" not in board.counters():
        for _ in range(500):
            board.refill(PORT_A)
            assert board.run(frame).verdict == XDP_REDIRECT


def test_each_direction_is_observed_at_its_own_port(board: Switchboard) -> None:
    board.steady_call(abi.RTP)
    board.run(datagram(A, PORT_A, rtp(7, ssrc=1)))
    board.run(datagram(B, PORT_B, rtp(9, ssrc=2)))
    assert (board.rule(PORT_A)["ssrc"], board.rule(PORT_A)["sequence"]) == (1, abi.FIRST_CYCLE + 7)
    assert (board.rule(PORT_B)["ssrc"], board.rule(PORT_B)["sequence"]) == (2, abi.FIRST_CYCLE + 9)
