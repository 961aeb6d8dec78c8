"""What waits to be written: the last value of each key, in order, within bounds."""

from __future__ import annotations

import pytest

from control.replication.redis import backlog as backlog_of
from control.replication.redis.backlog import NODE, SEQUENCE, Backlog, call_id_of


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backlog(clock: Clock) -> Backlog:
    return Backlog(clock)


def taken(backlog: Backlog) -> list[tuple[bytes, bytes]]:
    return [(key, one.value) for key, one in backlog.take()]


def test_of_several_values_of_a_key_the_last_is_taken_in_the_first_ones_place(backlog: Backlog) -> None:
    backlog.put("a", b"1", 60)
    backlog.put("b", b"1", 60)
    backlog.put("a", b"23", 60)
    backlog.hear("10.0.0.1", b"\x01", 60)
    assert (len(backlog), backlog.bytes) == (3, 4)
    assert backlog.wake.is_set()
    assert taken(backlog) == [(b"call:a", b"23"), (b"call:b", b"1"), (b"heard:10.0.0.1", b"\x01")]
    assert (len(backlog), backlog.bytes, taken(backlog)) == (0, 0, [])


def test_the_lease_goes_first_and_is_not_kept(backlog: Backlog, clock: Clock) -> None:
    backlog.put("a", b"1", 60)
    backlog.lease(b"old", 5)
    backlog.lease(b"lease", 5)
    batch = backlog.take()
    assert [key for key, _ in batch] == [NODE, b"call:a"]
    assert batch[0][1].value == b"lease"
    backlog.give_back(batch)
    assert taken(backlog) == [(b"call:a", b"1")]
    backlog.lease(b"late", 5)
    clock.now += 6
    assert taken(backlog) == []


def test_what_may_not_have_been_written_waits_before_all_else_unless_it_is_outdated(backlog: Backlog) -> None:
    for call_id in "abc":
        backlog.put(call_id, b"1", 60)
    batch = backlog.take()
    backlog.put("d", b"1", 60)
    backlog.put("b", b"22", 60)
    backlog.give_back(batch)
    assert backlog.bytes == 5
    assert taken(backlog) == [(b"call:a", b"1"), (b"call:c", b"1"), (b"call:d", b"1"), (b"call:b", b"22")]
    assert backlog.bytes == 0


def test_what_has_expired_while_it_waited_is_dropped(backlog: Backlog, clock: Clock) -> None:
    backlog.put("a", b"1", 60)
    backlog.put("b", b"1", 600)
    clock.now += 61
    assert taken(backlog) == [(b"call:b", b"1")]
    assert backlog.bytes == 0


def test_a_transaction_has_bounds(backlog: Backlog) -> None:
    for number in range(backlog_of.BATCH + 1):
        backlog.put(str(number), b"1", 60)
    assert [len(backlog.take()), len(backlog.take())] == [backlog_of.BATCH, 1]
    for number in range(3):
        backlog.put(str(number), b"1" * backlog_of.BATCH_BYTES, 60)
    assert [len(backlog.take()) for _ in range(4)] == [1, 1, 1, 0]


def test_what_finds_no_room_is_left_out_and_told_once_when_all_else_is_written(backlog: Backlog) -> None:
    large = b"1" * (backlog_of.MAX_BYTES // 2)
    backlog.put("a", large, 60)
    backlog.put("b", large, 60)
    backlog.put("c", b"1", 60)
    backlog.put("a", b"2", 60)
    assert (len(backlog), backlog.left_out) == (2, 1)
    assert [key for key, _ in backlog.take() + backlog.take()] == [b"call:a", b"call:b"]
    assert backlog.take() == []
    assert [backlog.drained(), backlog.drained()] == [True, False]
    assert not backlog.wake.is_set()


def test_keys_have_a_bound_too(backlog: Backlog) -> None:
    for number in range(backlog_of.MAX_VALUES + 1):
        backlog.put(str(number), b"", 60)
    backlog.put("0", b"1", 60)
    assert (len(backlog), backlog.left_out) == (backlog_of.MAX_VALUES, 1)


@pytest.mark.parametrize("call_id", ["a@b", "\udcff", "\u00fc", "call:", " "])
def test_a_call_id_comes_back_from_its_key(backlog: Backlog, call_id: str) -> None:
    backlog.put(call_id, b"1", 60)
    ((key, _),) = backlog.take()
    assert call_id_of(key) == call_id


@pytest.mark.parametrize("key", [NODE, SEQUENCE, b"other", b"call:\xff", b"call:" + b"k" * 5000])
def test_other_keys_are_no_calls(key: bytes) -> None:
    assert call_id_of(key) is None
