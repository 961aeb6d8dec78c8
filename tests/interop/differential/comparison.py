"""What two tellings differ in, point by point."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

ABSENT = "-"
SOME = "some"
"""What is told of a warning, whatever it says."""
MAX_SHOWN = 200
"""Characters of a value in a text for readers, and for patterns."""


class Point(NamedTuple):
    """One thing that the relays tell differently: `at` is the step and the way to it."""

    at: str
    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"{self.at}\n      hairpin:   {self.ours}\n      rtpengine: {self.theirs}"


def differences(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> list[Point]:
    """All points in which two tellings of a conversation differ, step by step."""
    steps = enumerate(zip(ours, theirs, strict=True), 1)
    return [point for number, (one, other) in steps for point in _points(str(number), one, other)]


def _points(at: str, ours: object, theirs: object) -> Iterator[Point]:
    """Those at one place and below. What only one of the two has is one point, however much there is in it."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from _points(f"{at} / {key}", ours.get(key, ABSENT), theirs.get(key, ABSENT))
    elif ours != theirs:
        yield Point(at, str(ours)[:MAX_SHOWN], str(theirs)[:MAX_SHOWN])


@dataclass(frozen=True)
class Difference:
    """Points that may differ, and why."""

    reason: str
    at: str
    where: str = ".*"
    ours: str = ".*"
    theirs: str = ".*"

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        return [re.compile(text) for text in (self.where, self.at, self.ours, self.theirs)]

    def covers(self, conversation: str, point: Point) -> bool:
        texts = (conversation, *point)
        return all(pattern.fullmatch(text) for pattern, text in zip(self._patterns, texts, strict=True))
