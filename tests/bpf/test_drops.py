"""Every reason a packet of ours is dropped for, and none that cannot happen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from relay.dataplane import abi, words
from relay.types import Endpoint
from tests.bpf.switchboard import (
    A6,
    B6,
    ORPHANED,
    PORT_A,
    PORT_A6,
    PORT_B,
    PORT_B6,
    RATE,
    RELAY,
    SLOW_PACKETS,
    XDP_DROP,
    XDP_REDIRECT,
    A,
    B,
    Switchboard,
    datagram,
    rtp,
)

Prepare = Callable[[Switchboard], bytes]


def ended(board: Switchboard) -> bytes:
    board.rule(PORT_A)["control"] = words.control(1, abi.CLOSED, 0, 0, 0)
    return bytes(datagram())


def of_a_blocked_party(board: Switchboard) -> bytes:
    board.steady_call(abi.RTP | abi.BLOCK)
    return bytes(datagram(payload=rtp(1)))


def too_long(board: Switchboard) -> bytes:
    board.set_nexthop(mtu=20 + 8 + 4)
    return bytes(datagram(payload=b"hello"))


def from_one_address_too_many(board: Switchboard) -> bytes:
    board.call(a=A6, b=B6, ports=(PORT_A6, PORT_B6))
    board.spend_tokens()
    return bytes(datagram(Endpoint("2001:db8::bad", 9), PORT_A6))


def that_nobody_has_taken_over(board: Switchboard) -> bytes:
    board.beat(ORPHANED)
    return bytes(datagram())


def too_many(board: Switchboard) -> bytes:
    spend(board, RATE)
    return bytes(datagram())


def ttl_of_one(board: Switchboard) -> bytes:
    return bytes(datagram(ttl=1))


def from_loopback(board: Switchboard) -> bytes:
    return bytes(datagram(Endpoint("127.0.0.1", 4000)))


def from_a_stranger(board: Switchboard) -> bytes:
    board.steady_call(abi.STRICT)
    return bytes(datagram(Endpoint("192.0.2.200", 9)))


def to_nobody(board: Switchboard) -> bytes:
    board.rule(PORT_A)["signalled"] = words.peer(None, 1)
    return bytes(datagram())


def to_an_idle_port(board: Switchboard) -> bytes:
    board.rule(PORT_A)["signalled"] = words.peer(Endpoint(RELAY, 39998), 1)
    return bytes(datagram())


def in_a_circle(board: Switchboard) -> bytes:
    board.rule(PORT_A)["signalled"] = words.peer(PORT_A, 1)
    return bytes(datagram())


def nowhere_to_go(board: Switchboard) -> bytes:
    board.set_nexthop(state=abi.NEXTHOP_NONE)
    for _ in range(SLOW_PACKETS):
        board.run(datagram())
    return bytes(datagram())


def malformed(board: Switchboard) -> bytes:
    return bytes(datagram(payload=b"x", len=7))


REASONS: dict[str, Prepare] = {
    "closed": ended,
    "orphaned": that_nobody_has_taken_over,
    "malformed": malformed,
    "rate": too_many,
    "blocked": of_a_blocked_party,
    "too_big": too_long,
    "no_token": from_one_address_too_many,
    "ttl": ttl_of_one,
    "source_refused": from_loopback,
    "source_mismatch": from_a_stranger,
    "no_destination": to_nobody,
    "no_rule_at_destination": to_an_idle_port,
    "passes": in_a_circle,
    "no_next_hop": nowhere_to_go,
}


def spend(board: Switchboard, packets: int) -> None:
    """Let a port have taken so many packets in this tick."""
    rule = board.rule(PORT_A)
    rule["tick"] = board.tick()
    rule["mark"] = (int(rule["packets"]) - packets) & 0xFFFF


def test_every_reason_has_a_test() -> None:
    assert set(REASONS) == set(abi.DROP_REASONS)


@pytest.mark.parametrize("reason", abi.DROP_REASONS)
def test_a_drop_is_counted_under_its_reason(board: Switchboard, reason: str) -> None:
    board.steady_call()
    frame = REASONS[reason](board)
    port = PORT_A6 if IPv6 in Ether(frame) else PORT_A
    before = board.counters().get(reason, 0), int(board.cold(port)["drops"])
    assert board.run(frame).verdict == XDP_DROP
    assert (board.counters()[reason], board.cold(port)["drops"]) == (before[0] + 1, before[1] + 1)
    assert board.drop_reason(port) == reason


def altered(field: str, value: int, payload: bytes = b"payload") -> bytes:
    frame = datagram(payload=payload, chksum=0)
    layer = UDP if field == "udp" else IP
    frame[layer].len = value
    return bytes(frame)


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("UDP length under its header", altered("udp", 7)),
        ("UDP length of zero", altered("udp", 0)),
        ("UDP length beyond the IP packet", altered("udp", 16)),
        ("IP length beyond the frame", altered("ip", 36)),
        ("IP length under both headers", altered("ip", 27)),
        ("IP length under its own header", altered("ip", 19)),
        ("both lengths beyond the frame", bytes(datagram(payload=b"payload"))[:-1]),
    ],
)
def test_lengths_that_contradict_each_other_are_a_drop(board: Switchboard, name: str, frame: bytes) -> None:
    board.steady_call()
    run = board.run(frame)
    assert (run.verdict, run.data) == (XDP_DROP, frame), name
    assert board.counters() == {"malformed": 1}
    assert board.rule(PORT_A)["packets"] == 0


@pytest.mark.parametrize("prepare", [malformed, ended])
def test_a_drop_before_admission_learns_and_counts_nothing(board: Switchboard, prepare: Prepare) -> None:
    board.call()
    board.run(prepare(board))
    assert board.rule(PORT_A)["packets"] == 0
    assert board.learned(PORT_B) is None


class TestRate:
    def test_a_port_takes_its_rate_and_not_one_more(self, board: Switchboard) -> None:
        board.steady_call()
        frame = bytes(datagram())
        verdicts = [board.run(frame).verdict for _ in range(RATE + 5)]
        assert verdicts == [XDP_REDIRECT] * RATE + [XDP_DROP] * 5
        assert board.counters() == {"forwarded": RATE, "rate": 5}
        assert board.rule(PORT_A)["packets"] == RATE

    def test_the_next_tick_begins_anew(self, board: Switchboard) -> None:
        board.steady_call()
        spend(board, RATE)
        assert board.run(datagram()).verdict == XDP_DROP
        board.rule(PORT_A)["tick"] ^= 1
        assert board.run(datagram()).verdict == XDP_REDIRECT
        assert board.rule(PORT_A)["tick"] == board.tick()

    def test_the_mark_is_the_low_half_of_the_packet_counter(self, board: Switchboard) -> None:
        board.steady_call()
        rule = board.rule(PORT_A)
        rule["packets"] = (5 << 16) + 0xFFFF
        rule["tick"] ^= 1
        board.run(datagram())
        assert (int(rule["mark"]), int(rule["packets"])) == (0xFFFF, 6 << 16)
        spend(board, RATE - 1)
        assert [board.run(datagram()).verdict for _ in range(2)] == [XDP_REDIRECT, XDP_DROP]

    def test_one_port_does_not_spend_what_another_may_take(self, board: Switchboard) -> None:
        board.steady_call()
        spend(board, RATE)
        assert board.run(datagram()).verdict == XDP_DROP
        assert board.run(datagram(B, PORT_B)).verdict == XDP_REDIRECT


def test_a_packet_dropped_on_its_way_out_was_received_all_the_same(board: Switchboard) -> None:
    board.steady_call()
    board.run(datagram(A, PORT_A, b"ttl", ttl=1))
    assert (board.rule(PORT_A)["packets"], board.rule(PORT_A)["bytes"]) == (1, 3)
