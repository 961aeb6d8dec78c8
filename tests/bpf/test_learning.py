"""Who may send to a port and where answers go: modes, windows, generations, strict source, handover, refusals.

Each source is named by its score against the signalled A: its address counts 2, its port 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from relay.dataplane import abi, words
from relay.types import Endpoint
from tests.bpf.switchboard import (
    PORT_A,
    PORT_B,
    SLOW_PACKETS,
    XDP_DROP,
    XDP_REDIRECT,
    A,
    B,
    Event,
    Switchboard,
    datagram,
    leaving,
)

EXACT = A
ADDRESS, ADDRESS_TOO = Endpoint(A.ip, 4444), Endpoint(A.ip, 5555)
PORT, PORT_TOO = Endpoint("192.0.2.200", A.port), Endpoint("192.0.2.201", A.port)
FAR, FAR_TOO = Endpoint("192.0.2.202", 1234), Endpoint("192.0.2.203", 1235)
PREFERRED = Endpoint("192.0.2.99", 7777)
PREFERRED_EXACT = Endpoint(PREFERRED.ip, A.port)
TIME = None
"""In a list of sources: the window's time passes."""

NONE = abi.UNSEEN
OPEN, WEAK, CONFIRMED = abi.OPEN, abi.WEAK, abi.CONFIRMED
DELAYED, IMMEDIATE, HEURISTIC, OFF = abi.LEARN_DELAYED, abi.LEARN_IMMEDIATE, abi.LEARN_HEURISTIC, abi.LEARN_OFF


def send(board: Switchboard, source: Endpoint, local: Endpoint = PORT_A) -> int:
    return board.run(datagram(source, local)).verdict


def play(board: Switchboard, sources: list[Endpoint | None]) -> list[int]:
    verdicts = []
    for source in sources:
        if source is TIME:
            board.end_window(PORT_A)
        else:
            verdicts.append(send(board, source))
    return verdicts


@dataclass(frozen=True)
class Case:
    name: str
    mode: int
    sources: list[Endpoint | None]
    standing: Endpoint
    state: int


CASES = [
    Case("delayed: the signalled source closes the window", DELAYED, [EXACT], EXACT, CONFIRMED),
    Case("delayed: so does its address from another port", DELAYED, [ADDRESS], ADDRESS, CONFIRMED),
    Case("delayed: so does the address signalling came from", DELAYED, [PREFERRED], PREFERRED, CONFIRMED),
    Case("delayed: another address only opens it", DELAYED, [FAR], FAR, OPEN),
    Case("delayed: an equal port alone closes nothing", DELAYED, [PORT], PORT, OPEN),
    Case("delayed: an equal port beats a different one", DELAYED, [FAR, PORT], PORT, OPEN),
    Case("delayed: and stays", DELAYED, [PORT, FAR], PORT, OPEN),
    Case("delayed: last seen wins among equals", DELAYED, [FAR, FAR_TOO], FAR_TOO, OPEN),
    Case("delayed: also with the port", DELAYED, [PORT, PORT_TOO], PORT_TOO, OPEN),
    Case("delayed: back and forth", DELAYED, [FAR, FAR_TOO, FAR], FAR, OPEN),
    Case("delayed: the signalled address beats any other", DELAYED, [FAR, PORT, ADDRESS], ADDRESS, CONFIRMED),
    Case("delayed: exact after far", DELAYED, [FAR, EXACT], EXACT, CONFIRMED),
    Case("delayed: preferred after far", DELAYED, [FAR, PREFERRED], PREFERRED, CONFIRMED),
    Case("delayed: nothing displaces exact", DELAYED, [EXACT, FAR, PORT, ADDRESS, PREFERRED_EXACT], EXACT, CONFIRMED),
    Case("delayed: nor the address, but for exact", DELAYED, [ADDRESS, FAR, PORT, ADDRESS_TOO], ADDRESS, CONFIRMED),
    Case("delayed: a forged port locks nobody out", DELAYED, [ADDRESS, EXACT], EXACT, CONFIRMED),
    Case("delayed: time closes it weakly", DELAYED, [FAR, TIME, FAR], FAR, WEAK),
    Case("delayed: after time no equal displaces", DELAYED, [FAR, TIME, FAR_TOO], FAR, WEAK),
    Case("delayed: nor a better port", DELAYED, [FAR, TIME, FAR, PORT], FAR, WEAK),
    Case("delayed: but the signalled address still", DELAYED, [FAR, TIME, FAR, ADDRESS], ADDRESS, CONFIRMED),
    Case("delayed: also as the first after time", DELAYED, [FAR, TIME, EXACT], EXACT, CONFIRMED),
    Case("delayed: and the preferred one", DELAYED, [PORT, TIME, PREFERRED], PREFERRED, CONFIRMED),
    Case("immediate: the first commits", IMMEDIATE, [FAR], FAR, CONFIRMED),
    Case("immediate: whatever comes after", IMMEDIATE, [FAR, EXACT, ADDRESS], FAR, CONFIRMED),
    Case("immediate: exact still displaces its address", IMMEDIATE, [ADDRESS, EXACT], EXACT, CONFIRMED),
    Case("heuristic: exact confirms at once", HEURISTIC, [EXACT], EXACT, CONFIRMED),
    Case("heuristic: preferred with the port too", HEURISTIC, [PREFERRED_EXACT], PREFERRED_EXACT, CONFIRMED),
    Case("heuristic: anything else waits", HEURISTIC, [ADDRESS], ADDRESS, OPEN),
    Case("heuristic: first seen wins among equals", HEURISTIC, [FAR, FAR_TOO], FAR, OPEN),
    Case("heuristic: also with the address", HEURISTIC, [ADDRESS, ADDRESS_TOO], ADDRESS, OPEN),
    Case("heuristic: the better score wins", HEURISTIC, [FAR, PORT, ADDRESS], ADDRESS, OPEN),
    Case("heuristic: never the worse", HEURISTIC, [ADDRESS, PORT, FAR], ADDRESS, OPEN),
    Case("heuristic: exact ends it", HEURISTIC, [ADDRESS, EXACT, ADDRESS], EXACT, CONFIRMED),
    Case("heuristic: time confirms the address", HEURISTIC, [ADDRESS, TIME, ADDRESS], ADDRESS, CONFIRMED),
    Case("heuristic: time leaves others weak", HEURISTIC, [PORT, TIME, PORT], PORT, WEAK),
    Case("heuristic: weak yields to the address", HEURISTIC, [PORT, TIME, PORT, ADDRESS], ADDRESS, CONFIRMED),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_who_stands_after_these_packets(board: Switchboard, case: Case) -> None:
    board.call(case.mode)
    board.cold(PORT_A)["preferred"] = words_address(PREFERRED)
    assert set(play(board, case.sources)) == {XDP_REDIRECT}
    assert board.standing(PORT_A) == (case.standing, case.state)
    assert board.learned(PORT_B) == case.standing
    assert board.run(datagram(B, PORT_B)).packet["IP"].dst == case.standing.ip


def words_address(endpoint: Endpoint) -> int:
    """An address for a field in network order."""
    return int.from_bytes(words.be32(endpoint.ip).to_bytes(4, "little"), "big")


def test_a_weak_source_that_turns_out_to_be_the_signalled_one_is_not_displaced_by_an_equal(board: Switchboard) -> None:
    board.call()
    play(board, [PREFERRED, TIME, PREFERRED])
    assert board.standing(PORT_A) == (PREFERRED, WEAK)
    board.cold(PORT_A)["preferred"] = words_address(PREFERRED)
    play(board, [ADDRESS])
    assert board.standing(PORT_A) == (PREFERRED, WEAK)
    play(board, [EXACT])
    assert board.standing(PORT_A) == (EXACT, CONFIRMED)


@pytest.mark.parametrize("flags", [OFF, abi.FIXED, abi.FIXED | HEURISTIC])
def test_a_fixed_source_is_expected_and_nothing_is_learned(board: Switchboard, flags: int) -> None:
    board.call(flags)
    assert play(board, [FAR, ADDRESS, FAR]) == [XDP_REDIRECT] * 3
    assert board.standing(PORT_A) == (EXACT, CONFIRMED)
    assert board.learned(PORT_B) is None
    assert board.cold(PORT_A)["foreign"] == 3
    send(board, EXACT)
    assert board.cold(PORT_A)["foreign"] == 3


def test_without_learning_and_without_a_signalled_source_all_is_forwarded(board: Switchboard) -> None:
    board.call(OFF | abi.STRICT, a=None)
    assert play(board, [FAR, FAR_TOO]) == [XDP_REDIRECT] * 2
    assert board.standing(PORT_A) == (None, NONE)


def test_off_under_strict_source_takes_the_signalled_source_only(board: Switchboard) -> None:
    board.call(OFF | abi.STRICT | abi.HANDOVER)
    assert play(board, [FAR, ADDRESS, EXACT]) == [XDP_DROP, XDP_DROP, XDP_REDIRECT]
    assert board.learned(PORT_B) is None


@pytest.mark.parametrize(
    ("mode", "sources", "verdicts"),
    [
        (DELAYED, [EXACT, FAR, ADDRESS, EXACT], "+--+"),
        (DELAYED, [FAR, PORT, FAR_TOO, EXACT, FAR], "++++-"),
        (DELAYED, [ADDRESS, EXACT, ADDRESS], "++-"),
        (DELAYED, [FAR, TIME, FAR_TOO, FAR, ADDRESS, FAR], "+-++-"),
        (IMMEDIATE, [FAR, EXACT, FAR], "+-+"),
        (HEURISTIC, [ADDRESS, FAR, TIME, FAR, ADDRESS], "++-+"),
    ],
)
def test_strict_source_drops_others_once_the_window_is_closed(
    board: Switchboard, mode: int, sources: list[Endpoint | None], verdicts: str
) -> None:
    board.call(mode | abi.STRICT)
    expected = [XDP_REDIRECT if sign == "+" else XDP_DROP for sign in verdicts]
    assert play(board, sources) == expected
    assert board.cold(PORT_A)["drops"] == verdicts.count("-") == board.counters()["source_mismatch"]
    assert board.rule(PORT_A)["packets"] == verdicts.count("+")


def test_after_confirmation_others_are_forwarded_and_counted_as_foreign(board: Switchboard) -> None:
    board.call()
    play(board, [EXACT, FAR, FAR_TOO, EXACT])
    assert board.cold(PORT_A)["foreign"] == 2
    assert board.rule(PORT_A)["packets"] == 4
    assert board.learned(PORT_B) == EXACT


@pytest.mark.parametrize("flags", [0, abi.STRICT, abi.FIXED])
def test_with_media_handover_each_new_source_takes_over(board: Switchboard, flags: int) -> None:
    board.call(abi.HANDOVER | flags)
    for source in (EXACT, FAR, FAR_TOO, EXACT, ADDRESS):
        assert send(board, source) == XDP_REDIRECT
        assert board.standing(PORT_A) == (source, CONFIRMED)
    assert board.learned(PORT_B) == ADDRESS
    assert board.cold(PORT_A)["foreign"] == 0


@pytest.mark.parametrize(
    ("source", "flags", "taken"),
    [
        ("0.1.2.3", 0, False),
        ("127.0.0.1", 0, False),
        ("127.0.0.1", abi.LOOPBACK, True),
        ("126.255.255.255", 0, True),
        ("128.0.0.0", 0, True),
        ("169.254.1.1", 0, False),
        ("169.253.255.255", 0, True),
        ("169.255.0.0", 0, True),
        ("224.0.0.1", 0, False),
        ("239.255.255.255", 0, False),
        ("240.0.0.1", 0, False),
        ("255.255.255.255", 0, False),
        ("223.255.255.255", 0, True),
        ("203.0.113.127", 0, True),
        ("203.0.113.128", 0, False),
        ("203.0.113.255", 0, False),
    ],
)
def test_addresses_nothing_is_ever_sent_to_are_not_learned(
    board: Switchboard, source: str, flags: int, taken: bool
) -> None:
    board.call(flags)
    assert send(board, Endpoint(source, 4000)) == (XDP_REDIRECT if taken else XDP_DROP)
    assert board.learned(PORT_B) == (Endpoint(source, 4000) if taken else None)
    assert board.counters().get("source_refused", 0) == (0 if taken else 1)


def test_port_zero_is_not_learned(board: Switchboard) -> None:
    board.call()
    assert send(board, Endpoint(A.ip, 0)) == XDP_DROP
    assert board.drop_reason(PORT_A) == "source_refused"


def test_a_refused_source_is_dropped_also_after_confirmation(board: Switchboard) -> None:
    board.call()
    assert play(board, [EXACT, Endpoint("127.0.0.1", 4000)]) == [XDP_REDIRECT, XDP_DROP]


class TestGenerations:
    def test_a_change_under_way_forwards_and_learns_nothing(self, board: Switchboard) -> None:
        board.call()
        board.rule(PORT_B)["signalled"] = words.peer(A, 2)
        assert play(board, [EXACT, FAR]) == [XDP_REDIRECT] * 2
        assert board.learned(PORT_B) is None
        assert board.standing(PORT_A) == (None, NONE)

    def test_what_an_older_generation_learned_is_discarded(self, board: Switchboard) -> None:
        board.call()
        send(board, FAR)
        moved = Endpoint("198.51.100.2", 4002)
        board.rule(PORT_B)["signalled"] = words.peer(moved, 2)
        assert board.run(datagram(B, PORT_B)).data == bytes(leaving(PORT_A, moved))

    def test_a_new_generation_learns_anew(self, board: Switchboard) -> None:
        board.call()
        send(board, EXACT)
        moved = Endpoint("198.51.100.2", 4002)
        board.install(PORT_B, PORT_A, moved, B, generations=(2, 1))
        board.install(PORT_A, PORT_B, B, moved, generations=(1, 2))
        assert board.standing(PORT_A) == (None, NONE)
        send(board, EXACT)
        assert board.standing(PORT_A) == (EXACT, OPEN)
        send(board, moved)
        assert board.standing(PORT_A) == (moved, CONFIRMED)
        assert board.learned(PORT_B) == moved

    def renew(self, board: Switchboard, flags: int = 0) -> None:
        """A re-offer that signals A once more, as a new generation."""
        board.install(PORT_B, PORT_A, A, B, flags, generations=(2, 1))
        board.install(PORT_A, PORT_B, B, A, flags, generations=(1, 2))

    @pytest.mark.parametrize(
        ("mode", "stood", "sources", "standing", "state"),
        [
            (DELAYED, ADDRESS, [ADDRESS], ADDRESS, OPEN),
            (DELAYED, ADDRESS, [ADDRESS, ADDRESS_TOO], ADDRESS_TOO, CONFIRMED),
            (DELAYED, ADDRESS, [ADDRESS, FAR], ADDRESS, OPEN),
            (DELAYED, ADDRESS, [ADDRESS, TIME, ADDRESS], ADDRESS, CONFIRMED),
            (DELAYED, ADDRESS, [ADDRESS_TOO], ADDRESS_TOO, CONFIRMED),
            (DELAYED, EXACT, [EXACT], EXACT, CONFIRMED),
            (DELAYED, FAR, [FAR], FAR, OPEN),
            (IMMEDIATE, ADDRESS, [ADDRESS], ADDRESS, CONFIRMED),
            (HEURISTIC, ADDRESS, [ADDRESS, TIME, ADDRESS], ADDRESS, CONFIRMED),
        ],
    )
    def test_who_stood_before_a_change_may_be_about_to_move(
        self,
        board: Switchboard,
        mode: int,
        stood: Endpoint,
        sources: list[Endpoint | None],
        standing: Endpoint,
        state: int,
    ) -> None:
        board.call(mode)
        board.expect(PORT_A, stood)
        self.renew(board, mode)
        play(board, sources)
        assert board.standing(PORT_A) == (standing, state)
        assert board.learned(PORT_B) == standing

    @pytest.mark.parametrize(
        ("mode", "folded", "sources", "standing", "state"),
        [
            (DELAYED, FAR, [FAR], FAR, WEAK),
            (DELAYED, FAR, [FAR, FAR_TOO, PORT], FAR, WEAK),
            (DELAYED, FAR, [FAR, EXACT], EXACT, CONFIRMED),
            (DELAYED, FAR, [EXACT], EXACT, CONFIRMED),
            (DELAYED, ADDRESS, [FAR, ADDRESS_TOO], ADDRESS, CONFIRMED),
            (DELAYED, ADDRESS, [ADDRESS, EXACT], EXACT, CONFIRMED),
            (IMMEDIATE, FAR, [FAR, EXACT], FAR, CONFIRMED),
            (OFF, FAR, [FAR, EXACT], FAR, CONFIRMED),
        ],
    )
    def test_a_folded_source_stands_until_one_that_was_signalled_speaks(
        self,
        board: Switchboard,
        mode: int,
        folded: Endpoint,
        sources: list[Endpoint | None],
        standing: Endpoint,
        state: int,
    ) -> None:
        """What was learned has become the signalled destination; the score still goes by the SDP."""
        self.renew(board, mode | abi.FIXED)
        board.rule(PORT_B)["signalled"] = words.peer(folded, 2)
        play(board, sources)
        assert board.standing(PORT_A) == (standing, state)
        assert board.run(datagram(B, PORT_B)).packet["IP"].dst == standing.ip

    def test_a_signalled_source_of_another_generation_scores_nothing(self, board: Switchboard) -> None:
        board.call()
        board.cold(PORT_A)["source"] = words.peer(A, 7)
        send(board, EXACT)
        assert board.standing(PORT_A) == (EXACT, OPEN)

    def test_the_highest_generation_works_as_any_other(self, board: Switchboard) -> None:
        top = abi.GENERATION_MASK
        board.install(PORT_A, PORT_B, B, A, generations=(top, top))
        board.install(PORT_B, PORT_A, A, B, generations=(top, top))
        assert play(board, [EXACT, EXACT]) == [XDP_REDIRECT] * 2
        assert board.standing(PORT_A) == (EXACT, CONFIRMED)
        assert board.cold(PORT_A)["foreign"] == 0


class TestEvents:
    def test_a_source_is_told_once_when_learned_and_once_when_confirmed(self, board: Switchboard) -> None:
        board.call()
        play(board, [FAR, FAR, EXACT, EXACT, FAR])
        assert board.events() == [
            Event(abi.EVENT_LEARNED, PORT_A, FAR, OPEN),
            Event(abi.EVENT_LEARNED, PORT_A, EXACT, CONFIRMED),
            Event(abi.EVENT_CONFIRMED, PORT_A, EXACT, CONFIRMED),
        ]
        assert board.counters()["learned"] == 2

    def test_a_window_that_time_closes_is_told(self, board: Switchboard) -> None:
        board.call()
        play(board, [FAR, TIME, FAR, FAR])
        assert board.events()[1:] == [Event(abi.EVENT_CONFIRMED, PORT_A, FAR, WEAK)]

    def test_events_stay_within_the_budget_of_their_rule(self, board: Switchboard) -> None:
        board.call(abi.HANDOVER)
        play(board, [EXACT, *[FAR, FAR_TOO] * SLOW_PACKETS])
        assert len(board.events()) == SLOW_PACKETS
        assert board.counters()["events_held"] == 2 + 2 * SLOW_PACKETS - SLOW_PACKETS
        assert board.standing(PORT_A) == (FAR_TOO, CONFIRMED)

    def test_a_full_ring_is_counted_and_stops_nothing(self, board: Switchboard) -> None:
        board.call(abi.HANDOVER)
        send(board, EXACT)
        frames = [bytes(datagram(source)) for source in (FAR, FAR_TOO)]
        while "events_full" not in board.counters():
            for frame in frames * 500:
                board.refill(PORT_A)
                assert board.run(frame).verdict == XDP_REDIRECT
        assert board.standing(PORT_A) == (FAR_TOO, CONFIRMED)
        assert board.learned(PORT_B) == FAR_TOO


def test_a_steady_packet_leaves_the_cold_line_alone(board: Switchboard) -> None:
    board.call()
    play(board, [EXACT])
    before = bytes(board.cold(PORT_A).tobytes())
    play(board, [EXACT] * 5)
    assert board.cold(PORT_A).tobytes() == before


@pytest.mark.parametrize("state", [WEAK, CONFIRMED])
def test_a_source_the_window_is_closed_on_is_not_looked_at_twice(board: Switchboard, state: int) -> None:
    refused = Endpoint("127.0.0.1", 4000)
    board.call()
    board.expect(PORT_A, refused, state)
    assert send(board, refused) == XDP_REDIRECT
    board.expect(PORT_A, refused, OPEN)
    assert send(board, refused) == XDP_DROP


def test_a_packet_to_a_port_without_destination_still_teaches(board: Switchboard) -> None:
    board.call(b=None)
    assert send(board, ADDRESS) == XDP_DROP
    assert board.drop_reason(PORT_A) == "no_destination"
    assert board.learned(PORT_B) == ADDRESS
    assert board.rule(PORT_A)["packets"] == 1
