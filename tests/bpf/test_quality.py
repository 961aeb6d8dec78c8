"""Loss, duplicates, reordering and jitter against a plain model of RFC 3550 that keeps every packet it has seen."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay.dataplane import abi
from tests.bpf.switchboard import PORT_A, A, Switchboard, datagram, rtcp, rtp

MAX_DROPOUT, MAX_MISORDER = 3000, 100
REMEMBERED = 64
"""How far back the program can tell a late packet from a duplicate."""

RTP_PACKET = tuple[int, int]
"""SSRC and sequence; an SSRC of 0: a packet that is not RTP."""


@dataclass
class Model:
    """What a receiver with unlimited memory says (RFC 3550 A.1 without probation, A.3)."""

    ssrc: int | None = None
    first: int = 0
    highest: int = 0
    seen: set[int] = field(default_factory=set)
    received: int = 0
    expected_before: int = 0
    duplicates: int = 0
    reordered: int = 0
    awaited: int | None = None

    @property
    def expected(self) -> int:
        return self.expected_before + (self.highest - self.first + 1 if self.ssrc is not None else 0)

    def hear(self, ssrc: int, sequence: int) -> None:
        step = (sequence - self.highest) & 0xFFFF
        if ssrc != self.ssrc:
            self._begin(ssrc, sequence)
        elif 0 < step < MAX_DROPOUT:
            self._count(self.highest + step)
        elif step == 0 or step > 65536 - MAX_MISORDER:
            self._late(self.highest - (-step & 0xFFFF))
        elif sequence == self.awaited:
            self._begin(ssrc, sequence, sequence - 1)
        else:
            self.awaited = sequence + 1 & 0xFFFF

    def _begin(self, ssrc: int, sequence: int, *earlier: int) -> None:
        self.expected_before = self.expected
        self.ssrc, self.awaited = ssrc, None
        self.first, self.highest = min(sequence, *earlier) if earlier else sequence, sequence
        self.seen = {sequence, *earlier}
        self.received += len(self.seen)

    def _count(self, position: int) -> None:
        self.seen.add(position)
        self.highest = max(self.highest, position)
        self.received += 1

    def _late(self, position: int) -> None:
        remembered = self.highest - position < REMEMBERED
        if position < self.first or (remembered and position not in self.seen):
            self.reordered += 1
        else:
            self.duplicates += 1
        self._count(position)


def hear(board: Switchboard, packets: list[RTP_PACKET]) -> Model:
    """Play packets to the program and to a model; gives back the model."""
    model = Model()
    rule = board.rule(PORT_A)
    for ssrc, sequence in packets:
        rule["tick"] ^= 1  # no rate guard here
        board.run(bytes(datagram(A, PORT_A, rtp(sequence, ssrc=ssrc) if ssrc else b"\x00\x01stun", chksum=0)))
        if ssrc:
            model.hear(ssrc, sequence)
    return model


def figures(board: Switchboard) -> dict[str, int]:
    """What user space makes of a rule's words."""
    hot, cold = board.rule(PORT_A), board.cold(PORT_A)
    begun = bool(hot["sequence"])
    period = int(hot["sequence"]) - int(cold["base_sequence"]) + 1 if begun else 0
    received = int(hot["packets"]) - int(cold["base_packets"]) - int(cold["other"]) if begun else 0
    return {
        "expected": int(cold["prior_expected"]) + period,
        "received": int(cold["prior_received"]) + received,
        "duplicates": int(cold["duplicates"]),
        "reordered": int(cold["reordered"]),
    }


def agrees(board: Switchboard, packets: list[RTP_PACKET]) -> None:
    board.clear()
    board.steady_call(abi.RTP | abi.RTCP)
    model = hear(board, packets)
    assert figures(board) == {
        name: getattr(model, name) for name in ("expected", "received", "duplicates", "reordered")
    }
    if model.ssrc is not None:
        assert (board.rule(PORT_A)["ssrc"], board.rule(PORT_A)["sequence"] & 0xFFFF) == (
            model.ssrc,
            model.highest & 0xFFFF,
        )


def stream(*sequences: int, ssrc: int = 1) -> list[RTP_PACKET]:
    return [(ssrc, sequence & 0xFFFF) for sequence in sequences]


TABLE = {
    "nothing at all": ([], (0, 0, 0, 0)),
    "no RTP": ([(0, 0)] * 3, (0, 0, 0, 0)),
    "one packet": (stream(5), (1, 1, 0, 0)),
    "in order": (stream(*range(10)), (10, 10, 0, 0)),
    "over the wrap": (stream(*range(65530, 65545)), (15, 15, 0, 0)),
    "one lost": (stream(1, 2, 4, 5), (5, 4, 0, 0)),
    "one lost at the wrap": (stream(65534, 0, 1), (4, 3, 0, 0)),
    "one twice": (stream(1, 2, 2, 3), (3, 4, 1, 0)),
    "two swapped": (stream(1, 3, 2, 4), (4, 4, 0, 1)),
    "two swapped at the wrap": (stream(65534, 0, 65535, 1), (4, 4, 0, 1)),
    "late and twice": (stream(1, 3, 2, 2, 4), (4, 5, 1, 1)),
    "an old one twice": (stream(1, 2, 3, 4, 5, 2), (5, 6, 1, 0)),
    "before the first": (stream(10, 9, 11), (2, 3, 0, 1)),
    "before the first at the wrap": (stream(0, 65535, 1), (2, 3, 0, 1)),
    "late by 63": (stream(0, 2, *range(3, 65), 1), (65, 65, 0, 1)),
    "later than it remembers": (stream(0, *range(2, 67), 1), (67, 67, 1, 0)),
    "late by 99": (stream(*range(100), 0), (100, 101, 1, 0)),
    "a jump back of 100": (stream(*range(101), 0), (101, 101, 0, 0)),
    "a gap of 70 and its first": (stream(0, 70, 1), (71, 3, 1, 0)),
    "a gap of 70 and its last": (stream(0, 70, 69), (71, 3, 0, 1)),
    "a gap of 2999": (stream(0, 2999), (3000, 2, 0, 0)),
    "a jump of 3000 is not believed": (stream(0, 3000), (1, 1, 0, 0)),
    "but the one after it is": (stream(0, 3000, 3001), (3, 3, 0, 0)),
    "a jump and back": (stream(0, 30000, 1, 2), (3, 3, 0, 0)),
    "a jump back": (stream(1000, 1001, 5, 6, 7), (5, 5, 0, 0)),
    "a jump to sequence 0": (stream(30000, 0, 1), (3, 3, 0, 0)),
    "a jump to the end": (stream(30000, 65535, 0), (3, 3, 0, 0)),
    "another SSRC": (stream(1, 2, 4) + stream(100, 102, ssrc=2), (7, 5, 0, 0)),
    "two SSRCs in turn": ([(1, 1), (2, 9), (1, 2), (2, 10)], (4, 4, 0, 0)),
    "STUN in between": ([(1, 1), (0, 0), (1, 2), (0, 0)], (2, 2, 0, 0)),
    "STUN before": ([(0, 0), (0, 0), (1, 1), (1, 2)], (2, 2, 0, 0)),
    "STUN around a change of SSRC": ([(1, 1), (0, 0), (2, 1), (0, 0), (2, 2)], (3, 3, 0, 0)),
}


@pytest.mark.parametrize("name", TABLE)
def test_figures_of_a_stream(board: Switchboard, name: str) -> None:
    packets, expected = TABLE[name]
    agrees(board, packets)
    assert tuple(figures(board).values()) == expected


Move = tuple[str, int]

MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 40)),
        st.tuples(st.just("lose"), st.integers(1, 80)),
        st.tuples(st.just("repeat"), st.integers(0, 60)),
        st.tuples(st.just("swap"), st.integers(1, 60)),
        st.tuples(st.just("jump"), st.integers(3000, 62000)),
        st.tuples(st.just("ssrc"), st.integers(1, 3)),
        st.tuples(st.just("other"), st.integers(1, 3)),
    ),
    max_size=25,
)


def packets_of(start: int, moves: list[Move]) -> list[RTP_PACKET]:
    """A stream that loses, repeats, delays, jumps and changes its SSRC."""
    sent: list[RTP_PACKET] = []
    position, ssrc = start, 1
    for what, amount in moves:
        match what:
            case "send":
                sent += stream(*range(position, position + amount), ssrc=ssrc)
                position += amount
            case "lose" | "jump":
                position += amount
            case "repeat":
                sent += stream(position - 1 - amount, ssrc=ssrc)
            case "swap":
                sent += stream(position + amount, *range(position, position + amount), ssrc=ssrc)
                position += amount + 1
            case "ssrc":
                ssrc = amount
            case _:
                sent += [(0, 0)] * amount
    return sent


@pytest.mark.fuzz
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.one_of(st.integers(0, 65535), st.integers(65500, 65535)), moves=MOVES)
@example(start=65535, moves=[("send", 1), ("lose", 63), ("swap", 1)])
@example(start=0, moves=[("send", 1), ("lose", 64), ("send", 1), ("repeat", 60)])
def test_any_stream_counts_as_the_model_says(board: Switchboard, start: int, moves: list[Move]) -> None:
    agrees(board, packets_of(start, moves))


def test_rtcp_between_rtp_is_not_received_rtp(board: Switchboard) -> None:
    board.steady_call(abi.RTP | abi.RTCP)
    for payload in (rtp(1), rtcp(), rtp(2), rtcp(), rtp(3)):
        board.run(datagram(payload=payload))
    assert figures(board) == {"expected": 3, "received": 3, "duplicates": 0, "reordered": 0}
    assert board.rule(PORT_A)["packets"] == 5


def test_the_first_cycle_counts_from_one_and_wraps_carry(board: Switchboard) -> None:
    board.steady_call(abi.RTP)
    for sequence in (65534, 65535, 0, 1):
        board.run(datagram(payload=rtp(sequence)))
    assert board.rule(PORT_A)["sequence"] == abi.FIRST_CYCLE + 65536 + 1


class TestJitter:
    """One pair of consecutive packets in sixteen; the unit is a sixteenth of a microsecond."""

    SPACING = 8000  # one second at 8 kHz between two packets that arrive at once

    @pytest.fixture(autouse=True)
    def _call(self, board: Switchboard) -> None:
        board.steady_call(abi.RTP)
        board.cold(PORT_A)["clock"][:] = [(0, 0, 32), (9, 0, 64), (13, 0, 0), (255, 0, 0)]
        board.run(datagram(payload=rtp(100)))

    def pair(self, board: Switchboard, first: bytes, second: bytes) -> float:
        """Two packets that fall on the sample; the jitter in milliseconds, as exact as this process was fast."""
        board.rule(PORT_A)["packets"] = 32
        frames = [bytes(datagram(payload=payload)) for payload in (first, second)]
        begun = time.monotonic()
        for frame in frames:
            board.run(frame)
        self.doubt = (time.monotonic() - begun) * 1000 / 16 + 0.01
        return int(board.cold(PORT_A)["jitter"]) / 16 / 1000

    def test_is_a_sixteenth_of_the_first_difference(self, board: Switchboard) -> None:
        jitter = self.pair(board, rtp(101), rtp(102, timestamp=self.SPACING))
        assert jitter == pytest.approx(62.5, abs=self.doubt)

    def test_uses_the_clock_of_the_payload_type(self, board: Switchboard) -> None:
        jitter = self.pair(board, rtp(101, 9), rtp(102, 9, timestamp=self.SPACING))
        assert jitter == pytest.approx(31.25, abs=self.doubt)
        assert board.cold(PORT_A)["payload_type"] == 9

    def test_a_timestamp_may_go_backwards_and_wrap(self, board: Switchboard) -> None:
        jitter = self.pair(board, rtp(101, timestamp=100), rtp(102, timestamp=100 - self.SPACING))
        assert jitter == pytest.approx(62.5, abs=self.doubt)

    def test_seconds_of_it_do_not_wrap(self, board: Switchboard) -> None:
        for number in range(200):
            sequence = 101 + 2 * number
            self.pair(board, rtp(sequence), rtp(sequence + 1, timestamp=9 * self.SPACING))
        assert 8_500_000 < board.cold(PORT_A)["jitter"] / 16 <= 9_000_000

    def test_a_pause_is_no_jitter(self, board: Switchboard) -> None:
        assert self.pair(board, rtp(101), rtp(102, timestamp=11 * self.SPACING)) == 0

    def test_steady_spacing_lets_it_fall(self, board: Switchboard) -> None:
        before = self.pair(board, rtp(101), rtp(102, timestamp=self.SPACING))
        after = self.pair(board, rtp(103), rtp(104))
        assert after == pytest.approx(before * 15 / 16, abs=self.doubt)

    @pytest.mark.parametrize(
        ("name", "first", "second"),
        [
            ("marker", rtp(101), rtp(102, marker=True, timestamp=SPACING)),
            ("another payload type", rtp(101, 9), rtp(102, 0, timestamp=SPACING)),
            ("a payload type without a clock", rtp(101, 8), rtp(102, 8, timestamp=SPACING)),
            ("a payload type with an odd clock", rtp(101, 13), rtp(102, 13, timestamp=SPACING)),
            ("a gap", rtp(101), rtp(103, timestamp=SPACING)),
            ("another SSRC", rtp(101), rtp(102, ssrc=9, timestamp=SPACING)),
            ("a duplicate", rtp(101), rtp(101, timestamp=SPACING)),
            ("no RTP first", b"\x00\x01stun", rtp(101, timestamp=SPACING)),
        ],
    )
    def test_only_pairs_that_mean_something_count(
        self, board: Switchboard, name: str, first: bytes, second: bytes
    ) -> None:
        assert self.pair(board, first, second) == 0, name

    def test_a_pair_begun_long_ago_is_not_ended(self, board: Switchboard) -> None:
        self.pair(board, rtp(101), b"\x00\x01stun")
        board.run(datagram(payload=rtp(102)))
        assert self.pair(board, b"\x00\x01stun", rtp(103, timestamp=self.SPACING)) == 0

    def test_a_pair_is_of_one_ssrc_also_if_the_sequences_fit(self, board: Switchboard) -> None:
        self.pair(board, rtp(101), rtp(101, ssrc=9))
        assert self.pair(board, b"\x00\x01stun", rtp(102, ssrc=9, timestamp=self.SPACING)) == 0

    def test_packets_between_the_samples_read_no_clock(self, board: Switchboard) -> None:
        board.rule(PORT_A)["packets"] = 34
        before = board.cold(PORT_A).tobytes()
        for sequence in range(101, 115):
            board.run(datagram(payload=rtp(sequence, timestamp=sequence * self.SPACING)))
        assert board.cold(PORT_A).tobytes() == before
