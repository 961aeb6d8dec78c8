"""The same conversations with this relay and with Debian's rtpengine: they tell the same, but for what is listed.

Every point in which the relays differ must be in differences.py with its reason, and every entry there must be needed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.interop.differential import captured, commands, dialogues, flags, shapes
from tests.interop.differential.comparison import Point, differences
from tests.interop.differential.conversation import Conversation, hold
from tests.interop.differential.differences import DIFFERENCES, unlisted_points
from tests.interop.differential.relays import Rivals

AT_A_TIME = 8
"""Conversations that are held beside each other."""

ALL = [
    *flags.conversations(),
    *shapes.conversations(),
    *dialogues.conversations(),
    *commands.conversations(),
    *captured.conversations(),
]
NAMES = [one.name for one in ALL]

Found = dict[str, list[Point]]


@pytest.fixture(scope="module")
def found(rivals: Rivals) -> Found:
    """Where the relays differ, for each conversation."""
    longest_first = sorted(enumerate(ALL), key=lambda numbered: -numbered[1].duration)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        points = pool.map(lambda numbered: _held(rivals, *numbered), longest_first)
        return {said.name: found for (_, said), found in zip(longest_first, points, strict=True)}


def _held(rivals: Rivals, number: int, said: Conversation) -> list[Point]:
    call_id = f"conversation-{number}"
    return differences(hold(rivals.ours, said, call_id), hold(rivals.theirs, said, call_id))


@pytest.mark.parametrize("name", NAMES)
def test_both_relays_tell_the_same(found: Found, name: str) -> None:
    unlisted = unlisted_points(name, found[name])
    assert not unlisted, f"{name}, at each step:\n" + "\n".join(map(str, unlisted))


def test_every_listed_difference_is_one(found: Found) -> None:
    unused = [one for one in DIFFERENCES if not any(one.covers(name, point) for name in NAMES for point in found[name])]
    assert not unused, "\n".join(map(str, unused))


def test_there_are_as_many_conversations_as_promised() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 300
    assert len(list(captured.conversations())) >= 40
