"""Which of two records holds, and who lives."""

from __future__ import annotations

import itertools

import pytest

from control.replication.ownership import Clock, Life, Verdict, Word, incarnation, judge, outspoken, tombstone
from control.replication.record import Lease, Record
from relay.types import Deed

STANDING = Deed("b", 2, 1, 5)


def record(incarnation: str = "b", term: int = 2, owner: int = 1, version: int = 5, dead: bool = False) -> Record:
    return Record("c1", incarnation, term, owner, version, dead)


@pytest.mark.parametrize(
    ("standing", "told", "ended", "verdict"),
    [
        (None, record(), (), Verdict.INSTALL),
        (STANDING, record(), (), Verdict.SAME),
        (STANDING, record(version=6), (), Verdict.INSTALL),
        (STANDING, record(version=4), (), Verdict.OLDER),
        (STANDING, record(owner=2, version=1), (), Verdict.INSTALL),
        (STANDING, record(term=3, owner=0, version=0), (), Verdict.INSTALL),
        (STANDING, record(term=1, owner=9, version=9), (), Verdict.OLDER),
        (STANDING, record("c", 1, 1, 1), (), Verdict.REPLACE),
        (STANDING, record("a", 9, 9, 9), (), Verdict.OLDER),
        (STANDING, record(term=1, version=1, dead=True), (), Verdict.END),
        (STANDING, record("a", dead=True), (), Verdict.BURY),
        (STANDING, record("a", dead=True), ("a",), Verdict.SAME),
        (STANDING, record("c"), ("c",), Verdict.DEAD),
        (None, record(term=9), ("b",), Verdict.DEAD),
        (None, record(dead=True), (), Verdict.BURY),
    ],
)
def test_verdicts(standing: Deed | None, told: Record, ended: tuple[str, ...], verdict: Verdict) -> None:
    assert judge(standing, told, ended) is verdict


def merged(records: tuple[Record, ...]) -> tuple[object, ...]:
    """What stands at a node that reads records in this order."""
    standing: Deed | None = None
    ended: set[str] = set()
    for one in records:
        verdict = judge(standing, one, ended)
        if verdict is Verdict.REPLACE and standing is not None:
            ended.add(standing.incarnation)
        if verdict in (Verdict.INSTALL, Verdict.REPLACE):
            standing = Deed(one.incarnation, one.term, one.owner, one.version)
        elif verdict in (Verdict.END, Verdict.BURY):
            ended.add(one.incarnation)
            standing = None if verdict is Verdict.END else standing
    return (standing.incarnation, standing.term, standing.owner, standing.version) if standing else ()


@pytest.mark.parametrize("dead", [(), ("b",)])
def test_nodes_agree_in_whatever_order_they_read(dead: tuple[str, ...]) -> None:
    records = [record(term=1, version=9), record(), record(owner=2, version=1), record(term=3, version=1)]
    records += [record(one, dead=True) for one in dead]
    found = {merged(order) for order in itertools.permutations(records)}
    assert found == ({()} if dead else {("b", 3, 1, 1)})


def test_incarnations_compare_by_their_time() -> None:
    earlier, later = incarnation(1_700_000_000.0, 9, 0xFFFFFFFF), incarnation(1_700_000_000.001, 1, 0)
    assert earlier < later
    assert len({incarnation(1.0, 1, noise) for noise in range(3)}) == 3


@pytest.mark.parametrize(
    ("own", "winner", "expected"),
    [
        (Word(10.0, False), Word(5.0, False), True),
        (Word(10.0, False), Word(9.5, False), False),
        (Word(5.0, False), Word(10.0, False), False),
        (Word(10.0, True), Word(10.5, False), True),
        (Word(10.0, True), Word(15.0, False), False),
        (Word(10.0, True), Word(10.0, True), False),
        (Word(10.0, False), Word(10.0, True), False),
    ],
)
def test_who_takes_a_call_again(own: Word, winner: Word, expected: bool) -> None:
    assert outspoken(own, winner) is expected
    assert not (expected and outspoken(winner, own))


def test_a_tombstone_names_what_ended() -> None:
    assert tombstone("c1", STANDING, 7.0) == Record("c1", "b", 2, 1, 5, dead=True, written=7.0)


def test_the_clock_of_another_is_told_by_the_lease_that_came_fastest() -> None:
    clock = Clock()
    assert clock.behind == 0.0
    for took in (0.5, 0.01, 3.0):
        clock.note(1000.0, 1100.0 + took)
    assert clock.behind == pytest.approx(100.01)
    for _ in range(64):
        clock.note(1000.0, 1200.0)
    assert clock.behind == 200.0


def test_a_node_lives_from_the_last_change_of_its_lease() -> None:
    life = Life()
    assert life.silent(10.0, since=4.0) == 6.0
    assert not life.note(Lease(1, "a", "x", 5000.0, 1), 20.0, 100.0)
    assert not life.note(Lease(1, "a", "x", 5000.0, 1), 25.0, 105.0)
    assert life.silent(27.0, since=0.0) == 7.0
    assert not life.note(Lease(1, "a", "x", 5001.0, 2), 28.0, 108.0)
    assert life.note(Lease(1, "a", "y", 5002.0, 2), 29.0, 109.0), "another start"
