"""The same conversations with this relay and with Debian's rtpengine: they tell the same, but for what is listed.

Every point in which the relays differ must be in differences.py with its reason, and every entry there must be needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.interop.differential import captured, dialogues, flags, shapes
from tests.interop.differential.comparison import Point, differences
from tests.interop.differential.conversation import Conversation, hold
from tests.interop.differential.differences import DIFFERENCES
from tests.interop.differential.relays import Contestant, two_relays

AT_A_TIME = 8
"""Conversations that are held beside each other."""

ALL = [
    *flags.conversations(),
    *shapes.conversations(),
    *dialogues.conversations(),
    *captured.conversations(),
]
NAMES = [one.name for one in ALL]

Found = dict[str, list[Point]]


@pytest.fixture(scope="module")
def found() -> Iterator[Found]:
    """Where the relays differ, for each conversation."""
    with two_relays() as (ours, theirs, _), ThreadPoolExecutor(AT_A_TIME) as pool:
        points = pool.map(lambda numbered: _held(ours, theirs, *numbered), enumerate(ALL))
        yield dict(zip(NAMES, points, strict=True))


def _held(ours: Contestant, theirs: Contestant, number: int, said: Conversation) -> list[Point]:
    call_id = f"conversation-{number}"
    return differences(hold(ours, said, call_id), hold(theirs, said, call_id))


def _unlisted(name: str, points: list[Point]) -> list[Point]:
    return [point for point in points if not any(one.covers(name, point) for one in DIFFERENCES)]


@pytest.mark.parametrize("name", NAMES)
def test_both_relays_tell_the_same(found: Found, name: str) -> None:
    unlisted = _unlisted(name, found[name])
    assert not unlisted, f"{name}, at each step:\n" + "\n".join(map(str, unlisted))


def test_every_listed_difference_is_one(found: Found) -> None:
    unused = [one for one in DIFFERENCES if not any(one.covers(name, point) for name in NAMES for point in found[name])]
    assert not unused


def test_there_are_as_many_conversations_as_promised() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 300
    assert len(list(captured.conversations())) >= 40
