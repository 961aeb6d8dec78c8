from __future__ import annotations

import numpy as np
import pytest

from relay.dataplane import abi
from relay.dataplane.options import (
    arriving_flags,
    clock_words,
    clocks_differ,
    clocks_of,
    flags_of,
    leaving_flags,
    measures_jitter,
)
from relay.types import Carries, Endpoint, Learning, Rule, Treatment

HERE, THERE = Endpoint("10.0.0.1", 30000), Endpoint("10.0.0.1", 30002)
RULE = Rule(HERE, THERE, None, 0, None, 0, Carries.RTP)


def entries(words: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """The clocks of a rule as the program reads them: payload type, fill, units of 250 Hz."""
    return [tuple(entry) for entry in np.frombuffer(np.array(words, "u8"), abi.CLOCK).tolist()]


def test_a_clock_that_cannot_be_told_measures_nothing() -> None:
    clocks = ((96, 22050), (97, 48000), (98, 250 * abi.EVENT_CLOCK), (99, 1 << 32))
    assert entries(clock_words(clocks)) == [(96, 0, 0), (97, 0, 192), (98, 0, 0), (99, 0, 0)]
    assert measures_jitter(clocks)
    assert not measures_jitter(clocks[:1])


@pytest.mark.parametrize("learning", Learning)
def test_every_way_of_learning_has_its_flag(learning: Learning) -> None:
    assert flags_of(RULE._replace(learning=learning)) & abi.LEARN_MASK == getattr(abi, f"LEARN_{learning.name}")


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({}, abi.KEEP_TOS),
        ({"tos": 184}, 0),
        ({"strict_source": True}, abi.KEEP_TOS | abi.STRICT),
        ({"media_handover": True}, abi.KEEP_TOS | abi.HANDOVER),
        ({"split": True}, abi.KEEP_TOS | abi.SPLIT),
        ({"joined": True}, abi.KEEP_TOS | abi.JOINED),
        ({"treatment": Treatment.BLOCK}, abi.KEEP_TOS | abi.BLOCK),
        ({"treatment": Treatment.SILENCE}, abi.KEEP_TOS | abi.SILENCE),
        ({"treatment": Treatment.BLOCK_EVENTS}, abi.KEEP_TOS | abi.BLOCK_EVENTS),
    ],
)
def test_options_have_their_flags(options: dict[str, object], flags: int) -> None:
    assert flags_of(RULE._replace(**options)) == abi.LIVE | abi.RTP | flags  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ip", "arriving", "leaving"),
    [
        ("127.0.0.1", abi.LOOPBACK, 0),
        ("::1", abi.LOOPBACK, abi.TO_IP6),
        ("10.0.0.1", 0, 0),
        ("2001:db8::1", 0, abi.TO_IP6),
    ],
)
def test_addresses_have_their_flags(ip: str, arriving: int, leaving: int) -> None:
    assert (arriving_flags(ip), leaving_flags(ip)) == (arriving, leaving)


CLOCKS = ((111, 48000), (9, 8000), (8, 8000), (0, 8000))


def test_silence_has_room_before_clocks_and_goes_with_them() -> None:
    rule = RULE._replace(treatment=Treatment.SILENCE, clocks=CLOCKS, fills=((13, 0), (8, 0xD5), (0, 0xFF)))
    assert entries(clocks_of(rule)) == [(8, 0xD5, 32), (0, 0xFF, 32), (111, 0, 192), (13, 0, 0)]


def test_events_have_room_before_clocks_and_stand_behind_them() -> None:
    rule = RULE._replace(treatment=Treatment.BLOCK_EVENTS, clocks=CLOCKS, event_types=(101, 110))
    events = [(101, 0, abi.EVENT_CLOCK), (110, 0, abi.EVENT_CLOCK)]
    assert entries(clocks_of(rule)) == [(111, 0, 192), (9, 0, 32), *events]


def test_what_passes_needs_neither() -> None:
    rule = RULE._replace(clocks=CLOCKS, event_types=(101,), fills=((8, 0xD5),))
    assert clocks_of(rule) == clock_words(CLOCKS)


def test_clocks_are_written_anew_when_what_they_say_changes() -> None:
    silent = RULE._replace(clocks=CLOCKS, treatment=Treatment.SILENCE)
    assert not clocks_differ(RULE._replace(tos=8, fills=((8, 1),)), RULE)
    assert clocks_differ(silent, RULE)
    assert clocks_differ(RULE, silent)
    assert clocks_differ(silent._replace(fills=((8, 1),)), silent)
    assert not clocks_differ(silent._replace(tos=8), silent)
