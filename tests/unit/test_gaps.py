"""Silences are the relay's alone: late senders are no gap of it, and what is missing at the end is one."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping

import pytest

from relay.types import Endpoint
from tests.gaps import Heard, hearing
from tests.media import PERIOD, Party, Received

FIRST = 65530
"""A sequence number that wraps soon."""
DELAY = 0.001
Pair = tuple[Party, Party]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with socket.socket() as unused:
        yield (
            Party(Endpoint("192.0.2.1", 4000), unused, unused, ssrc=1, first_sequence=FIRST, first_timestamp=0),
            Party(Endpoint("192.0.2.2", 4000), unused, unused, ssrc=2, first_sequence=0, first_timestamp=0),
        )


def talk(pair: Pair, packets: int, lost: range = range(0), late: Mapping[int, float] | None = None) -> None:
    """The first sends to the second: some packets late by seconds, some lost."""
    sender, receiver = pair
    stream = receiver.received.setdefault(sender.ssrc, Received())
    for index in range(packets):
        sender.sent_at[index] = 100 + index * PERIOD + (late or {}).get(index, 0.0)
        if index not in lost:
            stream.add((FIRST + index) & 0xFFFF, sender.sent_at[index] + DELAY)


def test_packets_in_time_leave_silences_of_one_packet(pair: Pair) -> None:
    talk(pair, 20)
    found = hearing(*pair)
    assert found.silence == pytest.approx(PERIOD)
    assert (found.sent, found.lost, found.alive) == (20, 0, True)


def test_lost_packets_are_a_gap_that_began_with_the_last_one_heard(pair: Pair) -> None:
    talk(pair, 20, lost=range(5, 12))
    found = hearing(*pair)
    assert found.silence == pytest.approx(8 * PERIOD)
    assert found.at == pytest.approx(100 + 4 * PERIOD + DELAY)
    assert found.lost == 7


def test_a_sender_that_is_late_makes_no_gap(pair: Pair) -> None:
    talk(pair, 20, late={7: 0.3})
    assert hearing(*pair).silence == pytest.approx(PERIOD)


def test_who_hears_nothing_at_the_end_was_waiting_for_it(pair: Pair) -> None:
    talk(pair, 20, lost=range(10, 20))
    found = hearing(*pair)
    assert found.silence == pytest.approx(10 * PERIOD, abs=2 * DELAY)
    assert not found.alive


def test_who_hears_nothing_at_all_was_waiting_from_the_first_packet_on(pair: Pair) -> None:
    talk(pair, 20, lost=range(20))
    found = hearing(*pair)
    assert found.silence == pytest.approx(19 * PERIOD)
    assert (found.lost, found.alive) == (20, False)


def test_a_call_that_never_came_about_is_a_lost_one(pair: Pair) -> None:
    talk(pair, 20)
    pair[1].sent_at[0] = 100.0
    pair[0].received[2] = Received()
    pair[0].received[2].add(0, 100.0)
    found = Heard.of(2, [pair])
    assert (found.calls_lost, found.lost) == (1, 0)
    assert found.per_call == [pytest.approx(PERIOD)]
