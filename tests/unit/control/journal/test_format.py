"""Frames, and what is found among bytes that are none."""

from __future__ import annotations

import pytest

from control.journal import format as journal
from control.journal.format import Frame, Header, JournalError, Kind, Scanner
from control.ng.message import Remembered
from relay.types import Endpoint

OPENING = journal.opening(Header("boot", 3, "0.1"))
ONE = journal.frame(Kind.CALL, b"one", b"first")
TWO = journal.frame(Kind.CALL, b"two", b"second" * 50)
GONE = journal.frame(Kind.GONE, b"one")


def scan(data: bytes, step: int = 1 << 20) -> tuple[list[Frame], Scanner]:
    scanner = Scanner()
    found = []
    for at in range(0, len(data), step):
        found += scanner.feed(data[at : at + step], at + step >= len(data), bodies=True)
    return found, scanner


def told(frames: list[Frame]) -> list[tuple[int, bytes, bytes]]:
    return [(one.kind, one.key, one.body) for one in frames if one.kind != Kind.HEADER]


WHOLE = [(Kind.CALL, b"one", b"first"), (Kind.CALL, b"two", b"second" * 50), (Kind.GONE, b"one", b"")]


@pytest.mark.parametrize("step", [64, 100, 1 << 20])
def test_frames_are_found_however_the_file_is_cut_into_blocks(step: int) -> None:
    data = OPENING + ONE + TWO + GONE
    found, scanner = scan(data, step)
    assert told(found) == WHOLE
    assert journal.read_header(found[0].body) == Header("boot", 3, "0.1")
    assert (scanner.gaps, scanner.lost, scanner.torn) == (0, 0, 0)
    assert [data[one.offset : one.offset + one.size] for one in found[1:]] == [ONE, TWO, GONE]


@pytest.mark.parametrize("step", [64, 1 << 20])
def test_a_torn_end_costs_what_is_torn_and_no_more(step: int) -> None:
    found, scanner = scan(OPENING + ONE + TWO[:-1], step)
    assert told(found) == WHOLE[:1]
    assert (scanner.gaps, scanner.torn) == (0, len(TWO) - 1)


@pytest.mark.parametrize("step", [64, 1 << 20])
def test_reading_goes_on_behind_damage(step: int) -> None:
    for place in range(len(ONE)):
        damaged = bytearray(ONE)
        damaged[place] ^= 0x20
        found, scanner = scan(OPENING + bytes(damaged) + TWO + GONE, step)
        assert told(found) == WHOLE[1:], place
        assert (scanner.gaps, scanner.lost, scanner.torn) == (1, len(ONE), 0)


def test_a_length_that_leads_beyond_the_end_hides_nothing() -> None:
    damaged = bytearray(ONE)
    damaged[13] = 0x08  # a body of half a megabyte
    found, scanner = scan(OPENING + bytes(damaged) + TWO)
    assert told(found) == WHOLE[1:2]
    assert scanner.gaps == 1


def test_a_damaged_first_line_hides_nothing() -> None:
    found, scanner = scan(b"x" + OPENING[1:] + ONE)
    assert told(found) == WHOLE[:1]
    assert scanner.gaps == 1


def test_garbage_that_looks_like_frames_is_given_up_before_it_costs_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_EFFORT", 10_000)
    trap = journal.frame(Kind.CALL, b"", bytes(5000))[:-1] + b"x"
    found, scanner = scan(OPENING + ONE + trap * 5 + TWO)
    assert scanner.given_up
    assert told(found) == WHOLE[:1]


def test_the_format_of_another_version_is_named() -> None:
    assert journal.other_format(OPENING) is None
    assert journal.other_format(b"hairpin journal, format 2\nrest") == "2"
    assert journal.other_format(b"something else\n") is None


def test_a_header_that_says_nonsense_says_nothing() -> None:
    for body in (b"", b"[]", b'{"boot": 1}', b'{"boot": "b", "keyspace": "x", "version": "v"}', b"[" * 5000):
        assert journal.read_header(body) == Header()


def test_any_call_id_can_be_a_key() -> None:
    for name in ("a@b", "Käse", "\udcff\ud800", ""):
        assert journal.name(journal.key(name)) == name


def test_what_is_too_large_to_be_read_again_is_refused() -> None:
    with pytest.raises(JournalError, match="too large"):
        journal.frame(Kind.CALL, b"x", bytes(journal.MAX_BODY + 1))
    with pytest.raises(JournalError, match="too large"):
        journal.frame(Kind.CALL, bytes(journal.MAX_KEY + 1))


def test_a_body_is_read_from_a_whole_frame_alone() -> None:
    assert journal.body(ONE) == b"first"
    for data in (ONE[:-1], ONE[1:], ONE + b"x", b"", ONE + ONE, ONE[:-1] + b"x"):
        with pytest.raises(JournalError, match="damaged"):
            journal.body(data)


@pytest.mark.parametrize("source", [Endpoint("192.0.2.1", 2223), Endpoint("2001:db8::1", 65535)])
def test_a_reply_comes_back_as_it_was(source: Endpoint) -> None:
    reply = Remembered(source, b"123_4 ", (5000 << 32) | 0xFFFFFFFF, b"123_4 d6:result4:ponge")
    found, _ = scan(OPENING + journal.reply_frame(reply, 1234.5))
    assert journal.read_reply(found[1]) == (reply, 1234.5)


def test_what_is_no_reply_is_refused() -> None:
    for body in (b"", b"short", bytes(18) + b"\xff\xff"):
        with pytest.raises(JournalError, match="no reply"):
            journal.read_reply(Frame(Kind.REPLY, b"c", 0, 0, body[:19]))
