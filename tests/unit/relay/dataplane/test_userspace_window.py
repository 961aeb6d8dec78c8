"""Whose packets a port takes for its party's: modes, windows, changes of the signalled address, strict, handover.

Each source is named by its score against the signalled one: its address counts 2, its port 1. tests/bpf/test_window.py
holds the same machine against the XDP program's.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from relay.dataplane.userspace.window import WINDOW_SECONDS, State, Terms, Verdict, Window
from relay.types import Endpoint, Learning

EXACT = Endpoint("198.51.100.1", 4000)
ADDRESS, ADDRESS_TOO = Endpoint(EXACT.ip, 4444), Endpoint(EXACT.ip, 5555)
PORT, PORT_TOO = Endpoint("192.0.2.200", EXACT.port), Endpoint("192.0.2.201", EXACT.port)
FAR, FAR_TOO = Endpoint("192.0.2.202", 1234), Endpoint("192.0.2.203", 1235)
PREFERRED = Endpoint("192.0.2.99", 7777)
TIME = None
"""In a list of sources: the window's time passes."""

DELAYED, IMMEDIATE, HEURISTIC, OFF = Learning.DELAYED, Learning.IMMEDIATE, Learning.HEURISTIC, Learning.OFF
TAKEN, FOREIGN, MISMATCH = Verdict.TAKEN, Verdict.FOREIGN, Verdict.MISMATCH

Sources = list[Endpoint | None]


def terms(
    learning: Learning = DELAYED,
    signalled: Endpoint | None = EXACT,
    strict: bool = False,
    handover: bool = False,
    known: Endpoint | None = None,
) -> Terms:
    return Terms(learning, signalled, PREFERRED.ip, strict, handover, known)


def play(window: Window, sources: Sources) -> list[Verdict]:
    now, verdicts = 100.0, []
    for source in sources:
        if source is None:
            now += WINDOW_SECONDS
        else:
            verdicts.append(TAKEN if window.takes(source) else window.judge(source, now))
    return verdicts


@dataclass(frozen=True)
class Case:
    learning: Learning
    sources: Sources
    standing: Endpoint
    state: State


CASES = {
    "delayed: the signalled source closes the window": Case(DELAYED, [EXACT], EXACT, State.CONFIRMED),
    "delayed: so does its address from another port": Case(DELAYED, [ADDRESS], ADDRESS, State.CONFIRMED),
    "delayed: so does the address signalling came from": Case(DELAYED, [PREFERRED], PREFERRED, State.CONFIRMED),
    "delayed: another address only opens it": Case(DELAYED, [FAR], FAR, State.OPEN),
    "delayed: an equal port alone closes nothing": Case(DELAYED, [PORT], PORT, State.OPEN),
    "delayed: an equal port beats a different one, and stays": Case(DELAYED, [FAR, PORT, FAR], PORT, State.OPEN),
    "delayed: last seen wins among equals": Case(DELAYED, [FAR, FAR_TOO], FAR_TOO, State.OPEN),
    "delayed: also with the port": Case(DELAYED, [PORT, PORT_TOO], PORT_TOO, State.OPEN),
    "delayed: the signalled address beats any other": Case(DELAYED, [FAR, PORT, ADDRESS], ADDRESS, State.CONFIRMED),
    "delayed: nothing displaces exact": Case(DELAYED, [EXACT, FAR, PORT, ADDRESS], EXACT, State.CONFIRMED),
    "delayed: nor the address, but for exact": Case(DELAYED, [ADDRESS, FAR, ADDRESS_TOO], ADDRESS, State.CONFIRMED),
    "delayed: a forged port locks nobody out": Case(DELAYED, [ADDRESS, EXACT], EXACT, State.CONFIRMED),
    "delayed: time closes it weakly": Case(DELAYED, [FAR, TIME, FAR], FAR, State.WEAK),
    "delayed: after time no equal displaces": Case(DELAYED, [FAR, TIME, FAR_TOO, PORT], FAR, State.WEAK),
    "delayed: but the signalled address still": Case(DELAYED, [FAR, TIME, FAR, ADDRESS], ADDRESS, State.CONFIRMED),
    "delayed: also as the first after time": Case(DELAYED, [FAR, TIME, EXACT], EXACT, State.CONFIRMED),
    "immediate: the first commits": Case(IMMEDIATE, [FAR, EXACT, ADDRESS], FAR, State.CONFIRMED),
    "immediate: exact still displaces its address": Case(IMMEDIATE, [ADDRESS, EXACT], EXACT, State.CONFIRMED),
    "heuristic: exact confirms at once": Case(HEURISTIC, [EXACT], EXACT, State.CONFIRMED),
    "heuristic: first seen wins among equals": Case(HEURISTIC, [ADDRESS, ADDRESS_TOO], ADDRESS, State.OPEN),
    "heuristic: the better score wins": Case(HEURISTIC, [FAR, PORT, ADDRESS, PORT], ADDRESS, State.OPEN),
    "heuristic: exact ends it": Case(HEURISTIC, [ADDRESS, EXACT, ADDRESS], EXACT, State.CONFIRMED),
    "heuristic: time confirms the address": Case(HEURISTIC, [ADDRESS, TIME, ADDRESS], ADDRESS, State.CONFIRMED),
    "heuristic: time leaves others weak": Case(HEURISTIC, [PORT, TIME, PORT], PORT, State.WEAK),
    "heuristic: weak yields to the address": Case(
        HEURISTIC, [PORT, TIME, PORT, ADDRESS], ADDRESS, State.CONFIRMED
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_who_stands_after_these_packets(case: Case) -> None:
    window = Window(terms(case.learning))
    assert MISMATCH not in play(window, case.sources)
    assert (window.expected, window.state, window.answer) == (case.standing, case.state, case.standing)
    assert window.observed == (case.standing, case.state is State.CONFIRMED)


@pytest.mark.parametrize(
    ("learning", "sources", "verdicts"),
    [
        (DELAYED, [EXACT, FAR, ADDRESS, EXACT], "+--+"),
        (DELAYED, [FAR, PORT, FAR_TOO, EXACT, FAR], "++++-"),
        (DELAYED, [ADDRESS, EXACT, ADDRESS], "++-"),
        (DELAYED, [FAR, TIME, FAR_TOO, FAR, ADDRESS, FAR], "+-++-"),
        (IMMEDIATE, [FAR, EXACT, FAR], "+-+"),
        (HEURISTIC, [ADDRESS, FAR, TIME, FAR, ADDRESS], "++-+"),
        (OFF, [FAR, ADDRESS, EXACT], "--+"),
    ],
)
def test_strict_source_drops_others_once_the_window_is_closed(
    learning: Learning, sources: Sources, verdicts: str
) -> None:
    found = play(Window(terms(learning, strict=True)), sources)
    assert "".join("-" if verdict is MISMATCH else "+" for verdict in found) == verdicts


@pytest.mark.parametrize("learning", [DELAYED, IMMEDIATE, HEURISTIC])
@pytest.mark.parametrize("known", [None, EXACT])
def test_with_handover_each_source_takes_over_a_closed_window(learning: Learning, known: Endpoint | None) -> None:
    window = Window(terms(learning, handover=True, strict=True, known=known))
    for source in (EXACT, FAR, FAR_TOO, EXACT, ADDRESS):
        assert play(window, [source]) == [TAKEN]
        assert (window.expected, window.state) == (source, State.CONFIRMED)


def test_without_learning_the_signalled_source_is_expected_and_answered() -> None:
    window = Window(terms(OFF, handover=True))
    assert play(window, [FAR, EXACT]) == [FOREIGN, TAKEN]
    assert window.observed == (EXACT, True)
    assert window.answer is None


def test_without_learning_and_without_a_signalled_source_all_is_taken() -> None:
    window = Window(terms(OFF, signalled=None, strict=True))
    assert play(window, [FAR, FAR_TOO]) == [TAKEN, TAKEN]
    assert window.observed == (None, False)


@pytest.mark.parametrize(
    ("known", "sources", "standing", "state"),
    [
        (FAR, [FAR_TOO, PORT], FAR, State.WEAK),
        (FAR, [EXACT], EXACT, State.CONFIRMED),
        (ADDRESS, [FAR, ADDRESS_TOO], ADDRESS, State.CONFIRMED),
        (ADDRESS, [ADDRESS, EXACT], EXACT, State.CONFIRMED),
    ],
)
def test_a_known_source_stands_until_one_that_was_signalled_speaks(
    known: Endpoint, sources: Sources, standing: Endpoint, state: State
) -> None:
    window = Window(terms(known=known))
    assert window.observed == (known, True)
    play(window, sources)
    assert (window.expected, window.state) == (standing, state)


@pytest.mark.parametrize(
    ("learning", "stood", "sources", "standing", "state"),
    [
        (DELAYED, ADDRESS, [ADDRESS], ADDRESS, State.OPEN),
        (DELAYED, ADDRESS, [ADDRESS, ADDRESS_TOO], ADDRESS_TOO, State.CONFIRMED),
        (DELAYED, ADDRESS, [ADDRESS, FAR], ADDRESS, State.OPEN),
        (DELAYED, ADDRESS, [ADDRESS, TIME, ADDRESS], ADDRESS, State.CONFIRMED),
        (DELAYED, ADDRESS, [ADDRESS_TOO], ADDRESS_TOO, State.CONFIRMED),
        (DELAYED, EXACT, [EXACT], EXACT, State.CONFIRMED),
        (IMMEDIATE, ADDRESS, [ADDRESS], ADDRESS, State.CONFIRMED),
    ],
)
def test_who_stood_before_a_change_may_be_about_to_move(
    learning: Learning, stood: Endpoint, sources: Sources, standing: Endpoint, state: State
) -> None:
    window = Window(terms(learning))
    play(window, [stood])
    window.renew()
    assert (window.observed, window.answer) == ((None, False), None)
    play(window, sources)
    assert (window.expected, window.state, window.answer) == (standing, state, standing)
