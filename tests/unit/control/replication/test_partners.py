"""What is remembered of a partner's keyspace, of what has ended, and of what waits."""

from __future__ import annotations

import pytest

from control.replication import graves as remembering
from control.replication.graves import Graves
from control.replication.inbox import Inbox
from control.replication.partners import NAMED, OVERDUE, UNRESTORED, Partner
from control.replication.record import Record


def record(call_id: str = "c1", incarnation: str = "a", version: int = 1, body: bytes = b"x" * 10) -> Record:
    return Record(call_id, incarnation, 1, 1, version, body=body)


def test_a_gap_in_the_sequence_counts_when_it_stays() -> None:
    partner = Partner(1, 0.0)
    for sequence in range(10):
        partner.transacted(1)
        assert not partner.missed(sequence)
    assert not partner.missed(11)
    partner.transacted(2)
    assert not partner.missed(11), "it was on its way"
    assert [partner.missed(sequence) for sequence in (12, 12, 12)] == [False, False, True]
    partner.transacted(1)
    assert not partner.missed(13)


def test_a_sequence_that_goes_backwards_is_a_loss() -> None:
    partner = Partner(1, 0.0)
    partner.transacted(101)
    assert not partner.missed(100)
    assert partner.missed(0)


def test_the_doubts_about_a_keyspace() -> None:
    partner = Partner(1, 0.0)
    assert partner.doubt(1.0) == "not compared yet"
    partner.reach(True, 1.0)
    partner.asked = 1.0
    partner.finish(frozenset(str(number) for number in range(30)), 2.0)
    assert partner.doubt(3.0) is None
    partner.asked = 10.0
    assert partner.doubt(10.0 + OVERDUE) is None
    assert partner.doubt(11.0 + OVERDUE) == "a comparison has not come to its end for 11 s"
    partner.reach(False, 30.0)
    assert partner.doubt(1000.0) is None
    for number in range(4):
        partner.fail(str(number), "no interface")
    assert partner.doubt(1000.0) == "4 of 30 calls cannot be restored here"


def test_reasons_are_told_within_bounds() -> None:
    partner = Partner(1, 0.0)
    told = [partner.fail(str(number), f"reason {number}") for number in range(UNRESTORED + 10)]
    assert sum(told) == NAMED
    assert len(partner.unrestored) == UNRESTORED
    partner.finish(frozenset(["1"]), 1.0)
    assert partner.unrestored == {"1": "reason 1"}
    assert not partner.fail("1", "reason 1")
    assert partner.fail("1", "another")


def test_graves_are_for_a_time() -> None:
    graves = Graves()
    graves.add(record(incarnation="a"), 10.0, own=False)
    graves.add(record(incarnation="b"), 20.0, own=True)
    graves.add(record(incarnation="a"), 15.0, own=False)
    assert graves.of("c1") == ("a", "b")
    assert (graves.told("c1", "a"), graves.told("c1", "b")) == (False, True)
    graves.expire(12.0)
    assert graves.of("c1") == ("a", "b")
    graves.expire(15.0)
    assert graves.of("c1") == ("b",)
    assert [one.incarnation for one in graves.own()] == ["b"]
    graves.expire(20.0)
    assert graves.of("c1") == ()
    assert len(graves) == 0


def test_graves_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembering, "LIMIT", 10)
    graves = Graves()
    for number in range(30):
        graves.add(record(str(number)), 100.0, own=True)
        graves.add(record("same", f"{number:02}"), 100.0, own=True)
    assert len(graves) == 10
    assert len(list(graves.own())) <= 10
    assert len(graves.of("same")) <= 8


def test_the_last_of_several_waits() -> None:
    inbox = Inbox()
    inbox.put(1, record(version=2))
    inbox.put(1, record("c2"))
    inbox.put(1, record(version=1))
    inbox.put(1, record(version=3))
    inbox.end(1, frozenset(["c1", "c2"]))
    assert [inbox.take() for _ in range(4)] == [
        (1, record(version=3)),
        (1, record("c2")),
        (1, frozenset(["c1", "c2"])),
        None,
    ]


def test_what_finds_no_room_is_left_for_the_next_comparison() -> None:
    inbox = Inbox(limit=25)
    for number in range(4):
        inbox.put(7, record(str(number)))
    assert len(inbox) == 2
    assert inbox.full == {7}
    inbox.take()
    inbox.put(7, record("more"))
    assert len(inbox) == 2
