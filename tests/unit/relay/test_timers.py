"""When calls are looked at."""

from __future__ import annotations

import gc

from relay.call import Call
from relay.interfaces import Places
from relay.ports import Interface, PortPool
from relay.timers import Agenda

PLACES: Places = (Interface("default", "10.0.0.1", "10.0.0.1", PortPool(30000, 30099, lambda: 0.0)),)


def call() -> Call:
    return Call("c1", (PLACES, PLACES), frozenset(), lambda endpoint, local: None, 0.0)


def kept(agenda: Agenda, one: Call) -> bool:
    """Whether an agenda holds a call in memory."""
    return any(one in found.values() for found in gc.get_referents(agenda) if isinstance(found, dict))


def test_calls_are_taken_when_they_are_due_the_earliest_first() -> None:
    agenda, late, early = Agenda(), call(), call()
    agenda.plan(late, 7.0)
    agenda.plan(early, 5.0)
    assert agenda.take(4.9) is None
    assert [agenda.take(7.0), agenda.take(7.0), agenda.take(7.0)] == [early, late, None]


def test_a_later_plan_makes_the_earlier_one_void() -> None:
    agenda, one = Agenda(), call()
    agenda.plan(one, 5.0)
    agenda.plan(one, 9.0)
    assert one.due == 9.0
    assert agenda.take(8.0) is None
    assert agenda.take(9.0) is one


def test_a_call_that_has_ended_is_neither_taken_nor_kept() -> None:
    agenda, one, other = Agenda(), call(), call()
    agenda.plan(one, 5.0)
    agenda.plan(other, 6.0)
    assert kept(agenda, one)
    agenda.cancel(one)
    agenda.cancel(one)
    assert not kept(agenda, one)
    assert agenda.take(9.0) is other
    assert len(agenda) == 0
