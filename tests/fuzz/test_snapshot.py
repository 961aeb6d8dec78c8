"""Snapshots that were tampered with: what cannot be a call is refused by name, and what can stands like any other."""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import snapshot
from relay.call import Signal
from relay.errors import DataplaneError, PortsTaken, SnapshotError
from relay.types import Endpoint
from tests.calls import ALICE, BOB, Stage, audio
from tests.keeping import OFFSET, written

MOVED = Endpoint("198.51.100.11", 4100)


def made() -> list[bytes]:
    """A plain call, one in the middle of a re-offer, and one with branches."""
    stage = Stage()
    for name in ("plain", "moved"):
        stage.offer([audio(ALICE, mux=True), audio(ALICE, kind="video")], Signal("198.51.100.10"), call_id=name)
        stage.answer([audio(BOB), audio(BOB, kind="video")], call_id=name)
        stage.plane.arrive(stage.ports(name)[0], ALICE, packets=3)
    stage.offer([audio(MOVED), audio(ALICE, kind="video")], call_id="moved", tags=("alice", "bob"))
    for branch in ("b1", "b2"):
        stage.offer(signal=Signal(via_branch=branch), call_id="forked")
    return [written(stage, name) for name in ("plain", "moved", "forked")]


CALLS = made()
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 70000),
    st.sampled_from([1 << 31, 1 << 52, -(1 << 60), 0.5, 1e300]),
    st.sampled_from(["", "x" * 70000, "192.0.2.1", "198.51.100.1", "::1", "224.0.0.1", "fe80::1%eth0", "b1"]),
    st.lists(st.integers(0, 3), max_size=3),
    st.just(["192.0.2.1", 30000]),
    st.just({"a": 1}),
)


def places(value: Any, at: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Where all values stand in nested lists."""
    found = [at] if at else []
    for number, inner in enumerate(value) if isinstance(value, list) else ():
        found += places(inner, (*at, number))
    return found


def standing(data: bytes) -> None:
    """Read bytes and put what is in them in force."""
    stage = Stage()
    try:
        members = stage.registry.read(data, OFFSET, lambda memory: memory, stage.now)
        stage.registry.receive(members, stage.now)
    except (SnapshotError, PortsTaken, DataplaneError):
        assert len(stage.registry) == stage.drawn == 0
        assert stage.plane.rules() == []
        return
    for rule in stage.plane.installed.values():
        assert stage.registry.owner(rule.source) is not None, "a rule sends from a port of nobody"
    report = stage.command("query", call_id=members[0].call_id)
    assert report["result"] == "ok"
    assert snapshot.ports(data) == [
        Endpoint(interface.address, port) for call in members for interface, port in _told(call)
    ]
    stage.registry.end(members[0].call_id, "the test is over", stage.now)
    assert stage.drawn == 0
    assert stage.plane.rules() == []


def _told(call: Any) -> list[tuple[Any, int]]:
    """A call's pairs line by line, as they are written."""
    found = []
    for first, second in zip(*(leg.medias for leg in call.legs), strict=True):
        found += [(one.interface, one.port) for one in (first, second) if one.port is not None]
        found += first.line.held.pairs if first.line.held is not None else []
    return found


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CALLS), st.lists(st.tuples(st.integers(0, 1 << 30), VALUES), min_size=1, max_size=3))
def test_any_field_may_be_anything(data: bytes, changes: list[tuple[int, Any]]) -> None:
    value = orjson.loads(data)
    for where, to in changes:
        found = places(value)
        path = found[where % len(found)]
        place = value
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = deepcopy(to)
    standing(orjson.dumps(value))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CALLS), st.integers(0, 1 << 30), st.integers(1, 6))
def test_any_byte_may_be_any_other(data: bytes, seed: int, times: int) -> None:
    chance = random.Random(seed)
    for _ in range(times):
        at, width = chance.randrange(len(data)), chance.choice((0, 1, 1, 2, 40))
        data = data[:at] + chance.randbytes(chance.choice((0, 1, 1, 3))) + data[at + width :]
    standing(data)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_may_come(data: bytes) -> None:
    standing(data)
