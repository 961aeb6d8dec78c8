"""A destination that is a port of ours: the next rule in the same run, four at most."""

from __future__ import annotations

import pytest

from relay.dataplane import abi
from relay.types import Endpoint
from tests.bpf.switchboard import PORT_A, RELAY, SECOND, XDP_DROP, XDP_REDIRECT, A, B, Switchboard, datagram, leaving


def near(position: int) -> Endpoint:
    """The port a call in the chain takes packets at; every other one at the second address."""
    return Endpoint((RELAY, SECOND)[position % 2], 31000 + 10 * position)


def far(position: int) -> Endpoint:
    """The port that call sends them from."""
    return Endpoint((RELAY, SECOND)[position % 2], 31002 + 10 * position)


def chain(board: Switchboard, length: int, flags: int = 0, tos: int = 0) -> None:
    """`length` calls in series: A, near(0), far(0), near(1), ..., B."""
    for position in range(length):
        before = far(position - 1) if position else A
        after = near(position + 1) if position + 1 < length else B
        board.install(near(position), far(position), after, before, flags, tos)
        board.install(far(position), near(position), before, after, flags, tos)


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_up_to_four_rules_in_one_run(board: Switchboard, length: int) -> None:
    chain(board, length)
    there = board.run(datagram(A, near(0), b"chain"))
    assert there.data == bytes(leaving(far(length - 1), B, b"chain", ttl=64 - length))
    back = board.run(datagram(B, far(length - 1), b"back"))
    assert back.data == bytes(leaving(near(0), A, b"back", ttl=64 - length))
    assert board.counters()["forwarded"] == 2
    for position in range(length):
        assert (board.rule(near(position))["packets"], board.rule(near(position))["bytes"]) == (1, 5)
        assert (board.rule(far(position))["packets"], board.rule(far(position))["bytes"]) == (1, 4)


def test_the_fifth_look_up_is_a_drop(board: Switchboard) -> None:
    chain(board, 5)
    frame = bytes(datagram(A, near(0)))
    run = board.run(frame)
    assert (run.verdict, run.data) == (XDP_DROP, frame)
    assert board.counters()["passes"] == 1
    assert board.drop_reason(near(3)) == "passes"
    assert board.rule(near(4))["packets"] == 0


def test_a_call_that_leads_to_itself_is_a_drop(board: Switchboard) -> None:
    board.install(near(0), far(0), near(0), A)
    board.install(far(0), near(0), A, None)
    assert board.run(datagram(A, near(0))).verdict == XDP_DROP
    assert "passes" in board.counters()


@pytest.mark.parametrize("flags", [0, abi.CLOSED])
def test_a_local_address_without_a_live_rule_is_never_sent_to(board: Switchboard, flags: int) -> None:
    chain(board, 2)
    board.rule(near(1))["control"] = flags << 16
    assert board.run(datagram(A, near(0))).verdict == XDP_DROP
    assert board.drop_reason(near(0)) == "no_rule_at_destination"


def test_each_rule_learns_the_one_before_it_as_its_source(board: Switchboard) -> None:
    chain(board, 2)
    board.run(datagram(A, near(0)))
    assert board.standing(near(1)) == (far(0), abi.CONFIRMED)
    assert board.learned(far(1)) == far(0)
    assert board.cold(far(1))["via_ifindex"] == 0


def test_each_rule_checks_its_own_source(board: Switchboard) -> None:
    chain(board, 2, abi.STRICT)
    board.expect(near(1), Endpoint(SECOND, 9))
    assert board.run(datagram(A, near(0))).verdict == XDP_DROP
    assert board.drop_reason(near(1)) == "source_mismatch"
    assert board.rule(near(0))["packets"] == 1


def test_each_rule_takes_one_off_the_ttl(board: Switchboard) -> None:
    chain(board, 3)
    assert board.run(datagram(A, near(0), ttl=3)).verdict == XDP_DROP
    assert board.drop_reason(near(2)) == "ttl"
    assert board.run(datagram(A, near(0), ttl=4)).verdict == XDP_REDIRECT


def test_the_last_rule_that_writes_the_tos_wins(board: Switchboard) -> None:
    chain(board, 2, tos=184)
    board.install(near(1), far(1), B, far(0), abi.KEEP_TOS)
    assert board.run(datagram(A, near(0), tos=1)).data == bytes(leaving(far(1), B, ttl=62, tos=185))


def test_two_parties_of_one_call_behind_one_port_pair_see_each_other(board: Switchboard) -> None:
    """A call that was forwarded back through the relay: both its outer parties are ports of ours."""
    chain(board, 2)
    run = board.run(datagram(A, near(0), b"x", chksum=0))
    assert run.data == bytes(leaving(far(1), B, b"x", ttl=62, chksum=0))
    assert board.rule(PORT_A)["packets"] == 0
