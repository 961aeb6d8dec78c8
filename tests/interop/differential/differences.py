"""All that the two relays may tell differently, with the reason for each.

An entry names points (comparison.Point) by patterns that must match as a whole: the conversation's name, the way to the
point, and what each relay tells. One that matches no point of any conversation fails the test, as a point does that no
entry matches.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.interop.differential.comparison import Point
from tests.interop.differential.differences_of_bodies import BODIES
from tests.interop.differential.differences_of_calls import CALLS

__all__ = ["DIFFERENCES", "unlisted_points"]

DIFFERENCES = (*BODIES, *CALLS)


def unlisted_points(conversation: str, points: Sequence[Point]) -> list[Point]:
    """Those that no entry covers."""
    return [point for point in points if not any(one.covers(conversation, point) for one in DIFFERENCES)]
