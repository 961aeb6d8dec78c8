"""Pairs of ports: drawn at random, never twice, never one that another program holds."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from relay.errors import PortsExhausted
from relay.ports import PortPool


def pool(low: int = 30000, high: int = 30007) -> PortPool:
    return PortPool(low, high, random.Random(1).random)


def drain(from_: PortPool, now: float = 0.0) -> set[int]:
    ports: list[int] = []
    try:
        while True:
            ports.append(from_.draw(now))
    except PortsExhausted:
        assert len(ports) == len(set(ports))
        return set(ports)


@pytest.mark.parametrize(
    ("low", "high", "even"),
    [
        (30000, 30007, {30000, 30002, 30004, 30006}),
        (30001, 30007, {30002, 30004, 30006}),
        (30000, 30006, {30000, 30002, 30004}),
        (65534, 65535, {65534}),
    ],
)
def test_a_range_holds_even_ports_with_their_odd_ones(low: int, high: int, even: set[int]) -> None:
    assert drain(pool(low, high)) == even


@pytest.mark.parametrize(("low", "high"), [(5, 4), (7, 7), (0, 10), (60000, 65536), (30001, 30002)])
def test_an_impossible_range_is_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="port"):
        pool(low, high)


def test_running_out_says_what_kamailio_compares() -> None:
    full = pool()
    drain(full)
    with pytest.raises(PortsExhausted, match=r"^Ran out of ports$"):
        full.draw(0)


def test_a_released_pair_rests_while_others_are_free() -> None:
    some = pool()
    first = some.draw(0)
    some.release(first, 30)
    assert {some.draw(1) for _ in range(3)} == {30000, 30002, 30004, 30006} - {first}


def test_a_resting_pair_is_used_when_nothing_else_is_left() -> None:
    some = pool()
    ports = sorted(drain(some))
    some.release(ports[2], 30)
    some.release(ports[0], 30)
    assert [some.draw(1), some.draw(1)] == [ports[2], ports[0]]


def test_a_rested_pair_is_free_again() -> None:
    some = pool()
    ports = drain(some)
    for port in ports:
        some.release(port, 30)
    assert drain(some, 31) == ports


@pytest.mark.parametrize("port", [29998, 30001, 30008, 30002])
def test_only_what_was_drawn_can_be_released(port: int) -> None:
    with pytest.raises(ValueError, match=f"port {port} was not drawn"):
        pool().release(port, 0)


def test_nothing_is_released_twice() -> None:
    some = pool()
    port = some.draw(0)
    some.release(port, 0)
    with pytest.raises(ValueError, match="was not drawn"):
        some.release(port, 0)


def test_pairs_are_drawn_uniformly() -> None:
    some = pool(30000, 30063)
    drawn: Counter[int] = Counter()
    for turn in range(32 * 200):
        port = some.draw(turn)
        drawn[port] += 1
        some.release(port, turn)
    assert len(drawn) == 32
    assert min(drawn.values()) > 120
    assert max(drawn.values()) < 280


def test_successive_draws_do_not_follow_one_another() -> None:
    some = pool(30000, 39999)
    ports = [some.draw(0) for _ in range(200)]
    steps = {after - before for before, after in itertools.pairwise(ports)}
    assert len(steps) > 150


def test_busy_ports_are_left_out_also_by_their_odd_one() -> None:
    some = pool()
    some.skip({30002, 30005, 80, 65000})
    assert drain(some) == {30000, 30006}


def test_busy_ports_come_back_when_they_are_free() -> None:
    some = pool()
    some.skip({30002})
    some.skip({30004})
    assert drain(some) == {30000, 30002, 30006}


def test_a_pair_in_use_stays_with_its_call_when_it_becomes_busy() -> None:
    some = pool()
    port = some.draw(0)
    some.skip({port})
    some.release(port, 5)
    assert port not in drain(some, 10)
    some.skip(())
    assert drain(some, 10) == {port}


def test_a_busy_pair_is_not_used_from_rest() -> None:
    some = pool()
    ports = sorted(drain(some))
    some.release(ports[1], 30)
    some.skip({ports[1]})
    with pytest.raises(PortsExhausted):
        some.draw(1)


def test_the_books_balance() -> None:
    some = pool()
    assert (some.pairs, some.available, some.drawn) == (4, 4, 0)
    port = some.draw(0)
    assert (some.available, some.drawn) == (3, 1)
    some.release(port, 9)
    assert (some.available, some.drawn) == (4, 0)
    some.skip({30001})
    assert some.available == 3
