"""Fair turns under a flood."""

from __future__ import annotations

import pytest

from control.ng import turns as module
from control.ng.turns import Turns


def taken(turns: Turns[str], count: int) -> list[str]:
    return [turns.take() for _ in range(count)]


def test_each_source_has_its_turn_in_its_own_order() -> None:
    turns: Turns[str] = Turns()
    for thing in ("a1", "a2", "a3", "b1", "c1", "b2"):
        turns.put(thing[0], thing, 10)
    assert len(turns) == 3
    assert taken(turns, 3) == ["a1", "b1", "c1"]
    turns.put("c", "c2", 10)
    assert taken(turns, 4) == ["a2", "b2", "c2", "a3"]
    assert len(turns) == 0
    with pytest.raises(KeyError):
        turns.take()


def test_a_flood_loses_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PER_SOURCE", 3 * (module.COST + 10))
    turns: Turns[str] = Turns()
    for number in range(10):
        turns.put("flood", f"f{number}", 10)
    turns.put("calm", "c0", 10)
    assert turns.lost == 7
    assert taken(turns, 4) == ["f0", "c0", "f1", "f2"]


def test_memory_is_bounded_whoever_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10_000)
    turns: Turns[str] = Turns()
    for number in range(1000):
        turns.put(str(number), "x", 488)
    assert (len(turns), turns.lost) == (10, 990)
    taken(turns, 10)
    for number in range(1000):
        turns.put(str(number), "x", 488)
    assert len(turns) == 10
