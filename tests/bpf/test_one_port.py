"""RTP and RTCP on one port at A, on two at B: RTCP finds its way, and A is learned once for both rules that answer it.

A at port a (30000); B's RTP at b (30002), B's RTCP at b + 1. The rule of a + 1 has A's RTCP go on to B.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from scapy.layers.inet import IP

from relay.dataplane import abi, words
from relay.types import Endpoint
from tests.bpf.compiler import compiled
from tests.bpf.switchboard import (
    A_MAC,
    PORT_A,
    PORT_B,
    RELAY,
    SECOND,
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
from tests.bpf.test_races import INTERRUPTED, KEY

RTCP_A, RTCP_B = Endpoint(RELAY, 30001), Endpoint(RELAY, 30003)
B_CONTROL = Endpoint("203.0.113.6", 5555)
NAT, OTHER = Endpoint("198.51.100.77", 61000), Endpoint("198.51.100.78", 62000)
STUN, DTLS = b"\0\1\0\0" + bytes(16), b"\x16" + bytes(20)


def call(board: Switchboard, flags: int = 0, generation: int = 1, above: int = 7) -> None:
    """The four rules. Each pair has generations of its own: A's is `generation`, and `above` in the upper pair."""
    board.install(PORT_B, PORT_A, A, B, flags | abi.RTP, 40, (generation, 1))
    board.install(RTCP_B, RTCP_A, A, B_CONTROL, flags | abi.RTCP | abi.JOINED, 80, (above, 1))
    board.install(PORT_A, PORT_B, B, A, flags | abi.RTP | abi.RTCP | abi.SPLIT, 40, (1, generation))
    board.install(RTCP_A, RTCP_B, B_CONTROL, A, flags | abi.RTCP, 80, (1, above))


def test_rtp_takes_its_usual_way(board: Switchboard) -> None:
    call(board)
    assert board.run(datagram(A, PORT_A, rtp(1))).data == bytes(leaving(PORT_B, B, rtp(1), tos=40))
    assert board.run(datagram(B, PORT_B, rtp(1))).data == bytes(leaving(PORT_A, A, rtp(1), tos=40))


@pytest.mark.parametrize("payload", [STUN, DTLS, b"?"])
def test_what_is_not_rtcp_goes_with_rtp(board: Switchboard, payload: bytes) -> None:
    call(board)
    assert board.run(datagram(A, PORT_A, payload)).data == bytes(leaving(PORT_B, B, payload, tos=40))


def test_rtcp_goes_on_by_the_rule_of_the_port_above(board: Switchboard) -> None:
    call(board)
    assert board.run(datagram(A, PORT_A, rtcp())).data == bytes(leaving(RTCP_B, B_CONTROL, rtcp(), tos=80))


def test_rtcp_for_one_port_leaves_from_the_port_below(board: Switchboard) -> None:
    call(board)
    assert board.run(datagram(B_CONTROL, RTCP_B, rtcp())).data == bytes(leaving(PORT_A, A, rtcp(), tos=80))


def test_rtcp_counts_where_it_arrived_and_is_copied_for_that_port(board: Switchboard) -> None:
    call(board)
    board.run(datagram(A, PORT_A, rtp(1)))
    board.run(datagram(A, PORT_A, rtcp()))
    assert (board.rule(PORT_A)["packets"], board.rule(PORT_A)["bytes"]) == (2, len(rtp(1)) + len(rtcp()))
    assert board.rule(RTCP_A)["packets"] == 0
    assert board.cold(PORT_A)["other"] == 1
    (copy,) = board.copies()
    assert (copy.kind, copy.port) == (abi.COPY_RTCP, PORT_A)


def test_what_fails_after_the_turn_is_told_of_the_rule_it_went_by(board: Switchboard) -> None:
    call(board)
    board.rule(RTCP_A)["signalled"] = words.peer(None, 1)
    assert board.run(datagram(A, PORT_A, rtcp())).verdict == XDP_DROP
    assert board.drop_reason(RTCP_A) == "no_destination"


def test_without_the_rule_above_rtcp_is_a_drop_and_rtp_passes(board: Switchboard) -> None:
    call(board)
    board.rule(RTCP_A)["control"] = 0
    assert board.run(datagram(A, PORT_A, rtcp())).verdict == XDP_DROP
    assert board.drop_reason(PORT_A) == "closed"
    assert board.run(datagram(A, PORT_A, rtp(1))).verdict == XDP_REDIRECT


@pytest.mark.parametrize("first", [rtp(1), rtcp()])
def test_one_packet_teaches_both_rules_that_answer(board: Switchboard, first: bytes) -> None:
    call(board)
    board.run(datagram(NAT, PORT_A, first))
    assert (board.learned(PORT_B), board.learned(RTCP_B)) == (NAT, NAT)
    assert len(board.events()) == 1
    for source, port, payload in ((B, PORT_B, rtp(1)), (B_CONTROL, RTCP_B, rtcp())):
        answer = board.run(datagram(source, port, payload)).packet
        assert (answer[IP].dst, answer["UDP"].dport, answer["UDP"].sport) == (*NAT, PORT_A.port)
        assert answer.dst == A_MAC, "the way its frame came"


def test_who_displaces_another_does_so_for_both(board: Switchboard) -> None:
    call(board)
    for source in (NAT, OTHER, A):
        board.run(datagram(source, PORT_A, rtp(1)))
        assert (board.learned(PORT_B), board.learned(RTCP_B)) == (source, source)
    board.run(datagram(NAT, PORT_A, rtp(1)))
    assert (board.learned(PORT_B), board.learned(RTCP_B)) == (A, A)


def test_a_rule_that_was_signalled_another_address_is_not_taught_the_old_one(board: Switchboard) -> None:
    """User space has begun to move A: the destinations are written, the control words are not."""
    call(board)
    board.rule(RTCP_B)["signalled"] = words.peer(OTHER, 8)
    board.run(datagram(NAT, PORT_A, rtp(1)))
    assert (board.learned(PORT_B), board.learned(RTCP_B)) == (NAT, None)
    assert board.run(datagram(B_CONTROL, RTCP_B, rtcp())).packet[IP].dst == OTHER.ip


def test_a_new_generation_is_learned_anew(board: Switchboard) -> None:
    call(board)
    board.run(datagram(NAT, PORT_A, rtp(1)))
    call(board, generation=2, above=8)
    answer = board.run(datagram(B_CONTROL, RTCP_B, rtcp())).packet
    assert answer[IP].dst == A.ip
    board.run(datagram(OTHER, PORT_A, rtcp()))
    assert (board.learned(PORT_B), board.learned(RTCP_B)) == (OTHER, OTHER)


def test_a_party_that_has_stood_before_is_taught_by_its_first_rtcp(board: Switchboard) -> None:
    """Both have become one in the middle of the call: A is confirmed, and its packets are not looked at again."""
    call(board)
    board.run(datagram(NAT, PORT_A, rtp(1)))
    board.expect(PORT_A, NAT)
    board.rule(RTCP_B)["learned"] = words.peer(OTHER, 7)
    board.run(datagram(NAT, PORT_A, rtp(2)))
    assert board.learned(RTCP_B) == OTHER
    board.run(datagram(NAT, PORT_A, rtcp()))
    assert board.learned(RTCP_B) == NAT


def test_rtcp_of_a_stranger_teaches_nothing(board: Switchboard) -> None:
    call(board)
    board.run(datagram(A, PORT_A, rtp(1)))
    board.run(datagram(OTHER, PORT_A, rtcp()))
    assert (board.learned(PORT_B), board.learned(RTCP_B)) == (A, A)


@pytest.mark.parametrize("moved", [PORT_B, RTCP_B])
def test_while_a_change_is_under_way_rtcp_teaches_nothing(board: Switchboard, moved: Endpoint) -> None:
    call(board)
    board.run(datagram(A, PORT_A, rtp(1)))
    before = int(board.rule(RTCP_B)["learned"])
    board.expect(PORT_A, OTHER)
    board.rule(moved)["signalled"] = words.peer(NAT, 9)
    board.run(datagram(OTHER, PORT_A, rtcp()))
    assert int(board.rule(RTCP_B)["learned"]) == before


@pytest.mark.parametrize("flags", [0, abi.STRICT])
def test_what_comes_to_the_port_above_teaches_nothing(board: Switchboard, flags: int) -> None:
    call(board, flags)
    board.run(datagram(A, PORT_A, rtp(1)))
    verdict = board.run(datagram(OTHER, RTCP_A, rtcp())).verdict
    assert verdict == (XDP_DROP if flags else XDP_REDIRECT)
    assert board.learned(RTCP_B) == A
    assert board.cold(RTCP_A)["foreign"] == 1
    assert board.standing(RTCP_A)[0] is None


def test_each_of_two_ports_learns_its_own(board: Switchboard) -> None:
    """B's RTCP may come from anywhere, also when B's RTP is confirmed."""
    call(board)
    board.run(datagram(B, PORT_B, rtp(1)))
    board.run(datagram(OTHER, RTCP_B, rtcp()))
    assert (board.learned(PORT_A), board.learned(RTCP_A)) == (B, OTHER)
    assert board.run(datagram(A, PORT_A, rtcp())).packet[IP].dst == OTHER.ip
    assert board.run(datagram(A, PORT_A, rtp(1))).packet[IP].dst == B.ip


def test_an_odd_port_has_a_port_above_too(board: Switchboard) -> None:
    near, above = Endpoint(RELAY, 30011), Endpoint(RELAY, 30012)
    board.install(near, PORT_B, B, A, abi.RTP | abi.RTCP | abi.SPLIT)
    board.install(above, RTCP_B, B_CONTROL, A, abi.RTCP)
    board.install(PORT_B, near, A, B, abi.RTP)
    assert board.run(datagram(A, near, rtcp())).data == bytes(leaving(RTCP_B, B_CONTROL, rtcp()))


def test_a_second_call_in_the_same_run(board: Switchboard) -> None:
    """B is a port of ours as well: the RTCP that parts here arrives at that call's port for RTCP."""
    near, far = Endpoint(SECOND, 31001), Endpoint(SECOND, 31003)
    call(board)
    board.rule(RTCP_A)["signalled"] = words.peer(near, 1)
    board.install(near, far, B_CONTROL, RTCP_B, abi.RTCP)
    board.install(far, near, RTCP_B, B_CONTROL, abi.RTCP)
    assert board.run(datagram(A, PORT_A, rtcp())).data == bytes(leaving(far, B_CONTROL, rtcp(), ttl=62))
    assert board.standing(near) == (RTCP_B, abi.CONFIRMED)


@pytest.mark.parametrize("winner", [NAT, OTHER])
def test_who_stores_last_is_answered_by_both_rules(tmp_path: Path, winner: Endpoint) -> None:
    """Another packet wins while this one is between its stores: all words name one source in the end."""
    board = Switchboard(compiled(tmp_path, INTERRUPTED, licence=""))
    try:
        call(board, abi.LEARN_IMMEDIATE)
        board.rule(PORT_B)["learned"] = words.peer(NAT, 1)
        word = words.peer(winner, 1 << 2 | abi.CONFIRMED)
        board.object.map("meanwhile").update(KEY.pack(0), struct.pack("=Q", word))
        board.run(datagram(OTHER, PORT_A, rtp(1)))
        assert board.standing(PORT_A) == (winner, abi.CONFIRMED)
        assert (board.learned(PORT_B), board.learned(RTCP_B)) == (winner, winner)
    finally:
        board.close()
