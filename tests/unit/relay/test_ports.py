"""Pairs of ports: drawn at random, never twice, never one that another program holds."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from relay.errors import PortsExhausted, PortsTaken
from relay.ports import PortPool, lent, slices


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


# -- pairs that come with a call


def test_a_claimed_pair_is_not_drawn_and_rests_like_any_other_when_it_is_let_go() -> None:
    some = pool()
    some.claim(30002)
    assert (some.drawn, some.available) == (1, 3)
    assert drain(some) == {30000, 30004, 30006}
    some.release(30002, 30)
    assert drain(some, 31) == {30002}


def test_a_resting_pair_can_be_claimed_and_does_not_wake_meanwhile() -> None:
    some = pool()
    ports = sorted(drain(some))
    some.release(ports[1], 30)
    some.claim(ports[1])
    assert drain(some, 60) == set()
    some.release(ports[1], 90)
    assert some.available == 1


@pytest.mark.parametrize(
    ("port", "text"),
    [
        (30002, "port 30002 belongs to another call"),
        (30001, "port 30001 begins no pair between 30000 and 30007"),
        (29998, "port 29998 begins no pair between 30000 and 30007"),
        (30008, "port 30008 begins no pair between 30000 and 30007"),
    ],
)
def test_what_cannot_be_claimed_is_named(port: int, text: str) -> None:
    some = pool()
    some.claim(30002)
    with pytest.raises(PortsTaken, match=f"^{text}$"):
        some.claim(port)
    assert some.drawn == 1


def test_a_pair_left_out_can_be_claimed_and_stays_left_out_afterwards() -> None:
    some = pool()
    some.skip({30003})
    some.claim(30002)
    some.release(30002, 0)
    assert drain(some, 9) == {30000, 30004, 30006}


def test_held_pairs_are_for_the_calls_they_forward_for() -> None:
    some = pool()
    some.hold([30002, 30003, 30005, 80, 65000])
    assert some.available == 2
    some.claim(30002)
    assert drain(some) == {30000, 30006}
    some.unhold()
    assert drain(some) == {30004}
    some.release(30002, 5)
    assert drain(some, 6) == {30002}


def test_a_pair_may_be_busy_held_and_lent_at_once() -> None:
    some = pool()
    some.skip({30002})
    some.hold([30002])
    some.lend([(30002, 30003)])
    some.unhold()
    some.lend([])
    assert 30002 not in drain(some)
    some.skip(())
    assert drain(some) == {30002}


# -- one range, several nodes


def test_nobody_draws_what_is_lent_and_the_home_draws_the_rest() -> None:
    cut = slices(30000, 30159, [(1, 0.125), (2, 0.125), (3, 0.25)])
    assert cut == {1: (30140, 30159), 2: (30120, 30139), 3: (30080, 30119)}
    nodes = {
        here: PortPool(30000, 30159, random.Random(here).random, lent(30000, 30159, cut, 1, here)) for here in range(5)
    }
    drawn = {here: drain(node) for here, node in nodes.items()}
    assert drawn[1] == {*range(30000, 30080, 2), *range(30140, 30160, 2)}
    assert drawn[2] == set(range(30120, 30140, 2))
    assert drawn[3] == set(range(30080, 30120, 2))
    assert drawn[0] == drawn[4] == set()
    assert lent(30000, 30159, cut, -1, 1) == lent(30000, 30159, cut, 1, 1)


@pytest.mark.parametrize(("low", "high"), [(30000, 30159), (30001, 30160), (30001, 30159)])
def test_slices_have_whole_pairs_and_do_not_overlap(low: int, high: int) -> None:
    cut = slices(low, high, [(1, 0.3), (2, 0.3), (9, 0.05)])
    spans = sorted(cut.values())
    assert all(bottom % 2 == 0 and top % 2 == 1 for bottom, top in spans)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))
    assert low <= spans[0][0] - 2
    assert spans[-1][1] <= high


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ([(1, 0.5), (2, 0.5)], "of the ports 30000 to 30007 the slices leave nothing for the home of the address"),
        ([(1, 0.5), (2, 0.125)], "of the ports 30000 to 30007 the slices leave no pair for keyspace 2"),
    ],
)
def test_a_range_too_small_for_its_slices_is_named(shares: list[tuple[int, float]], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        slices(30000, 30007, shares)


def test_what_is_lent_can_be_claimed_and_grows_with_the_range() -> None:
    some = PortPool(30000, 30007, random.Random(1).random, [(30004, 30015)])
    some.claim(30006)
    some.widen(30000, 30015)
    assert drain(some) == {30000, 30002}
    some.lend([(30008, 30015)])
    assert drain(some) == {30004}
    assert some.drawn == 4


def test_pairs_that_an_earlier_process_let_go_rest() -> None:
    pool = PortPool(30000, 30005, lambda: 0.0)
    pool.hold([30002])
    pool.rest([30001, 30002], until=50.0)
    assert pool.draw(1.0) == 30004
    pool.claim(30002)
    assert pool.draw(2.0) == 30000  # nothing else is left
    with pytest.raises(PortsExhausted):
        pool.draw(3.0)
