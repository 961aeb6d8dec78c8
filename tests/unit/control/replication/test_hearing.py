"""Bitmaps of ports: when each was heard, which were heard thrice, and a whole address that falls silent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from control.replication.hearing import PORTS, Collapse, Log, Thrice, bits, bounded


@given(st.sets(st.integers(0, PORTS - 1), max_size=50))
def test_the_ports_of_a_bitmap(ports: set[int]) -> None:
    assert list(bits(sum(1 << port for port in ports))) == sorted(ports)


def test_a_bitmap_of_a_stranger_is_cut() -> None:
    assert bounded(b"\xff" * (1 << 20)) == (1 << PORTS) - 1
    assert bounded(b"\x02") == 2
    assert bounded(b"") == 0


def test_when_a_port_was_heard_last() -> None:
    log = Log()
    assert log.last(7) == 0.0
    log.add(1.0, 1 << 7)
    log.add(2.0, 1 << 9)
    assert (log.last(7), log.last(9), log.last(8)) == (1.0, 2.0, 0.0)


@given(st.integers(1, 3000), st.integers(0, 3000))
def test_it_is_told_late_by_a_share_of_the_silence_and_never_early(heard: int, silence: int) -> None:
    log = Log()
    for second in range(1, heard + silence + 1):
        log.add(float(second), 1 << 9 | (1 << 7 if second == heard else 0))
    assert heard <= log.last(7) <= heard + silence / 4 + 1


def test_a_log_is_bounded() -> None:
    log = Log()
    for second in range(100_000):
        log.add(float(second), 1)
    assert sum(len(spans) for spans in log._spans) < 70


def test_thrice() -> None:
    thrice = Thrice()
    assert [thrice.add(one) for one in (0b11, 0b01, 0b00, 0b11, 0b01, 0b10)] == [0, 0, 0, 0b01, 0, 0b10]
    assert thrice.ports == 0b11
    thrice.reset()
    assert thrice.add(0b11) == thrice.ports == 0


def test_an_address_that_falls_silent_at_once() -> None:
    collapse = Collapse()
    for ports in (20, 20, 1):
        collapse.note(ports, 10)
    assert collapse.ports == 20
    collapse.note(3, 10)
    assert collapse.ports == 20
    collapse.note(5, 10)
    assert collapse.ports == 0, "half of what calls still hold"


def test_an_address_that_falls_silent_bit_by_bit_has_not_collapsed() -> None:
    collapse = Collapse()
    for ports in (20, 16, 12, 8, 4, 2, 1, 0, 0):
        collapse.note(ports, 10)
        assert collapse.ports == 0


def test_a_few_ports_may_fall_silent() -> None:
    collapse = Collapse()
    for ports in (7, 0, 0):
        collapse.note(ports, 10)
    assert collapse.ports == 0


def test_a_collapse_is_over_when_no_call_is_left() -> None:
    collapse = Collapse()
    for ports, drawn in ((20, 10), (0, 10), (0, 0)):
        collapse.note(ports, drawn)
    assert collapse.ports == 0
