"""What the options of a rule become: the flags of its control word, and the clocks in its cold half."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from relay.dataplane import abi
from relay.types import Carries, Learning, Rule, Treatment

_LEARNING = {
    Learning.DELAYED: abi.LEARN_DELAYED,
    Learning.IMMEDIATE: abi.LEARN_IMMEDIATE,
    Learning.HEURISTIC: abi.LEARN_HEURISTIC,
    Learning.OFF: abi.LEARN_OFF,
}
_CARRIES = {
    Carries.OPAQUE: 0,
    Carries.RTP: abi.RTP,
    Carries.RTCP: abi.RTCP,
    Carries.RTP | Carries.RTCP: abi.RTP | abi.RTCP,
}
_TREATMENT = {
    Treatment.BLOCK: abi.BLOCK,
    Treatment.SILENCE: abi.SILENCE,
    Treatment.BLOCK_EVENTS: abi.BLOCK_EVENTS,
}
_PASS: Final = Treatment.PASS  # an Enum's members are found by a search, at each time of asking
_CLOCKS = abi.COLD["clock"].shape[0]
_UNUSED_CLOCK = 255
_CLOCK_UNIT = 250  # Hz


def flags_of(rule: Rule) -> int:
    """The flags of a live rule, but for FIXED and those of its addresses."""
    flags = abi.LIVE | _LEARNING[rule.learning] | _CARRIES[rule.carries]
    if rule.strict_source:
        flags |= abi.STRICT
    if rule.media_handover:
        flags |= abi.HANDOVER
    if rule.tos is None:
        flags |= abi.KEEP_TOS
    if rule.split:
        flags |= abi.SPLIT
    if rule.joined:
        flags |= abi.JOINED
    if rule.treatment is not _PASS:
        flags |= _TREATMENT[rule.treatment]
    return flags


def arriving_flags(ip: str) -> int:
    """What follows from the local address that packets of a rule arrive at."""
    return abi.LOOPBACK if ip.startswith("127.") or ip == "::1" else 0


def leaving_flags(ip: str) -> int:
    """What follows from the local address that they leave from."""
    return abi.TO_IP6 if ":" in ip else 0


def _clock_entry(kind: int, hertz: int, fill: int = 0) -> int:
    """struct hp_clock; a clock that is no multiple of 250 Hz, or of more than 16 MHz, measures nothing."""
    units = hertz // _CLOCK_UNIT
    return kind | fill << 8 | (units if hertz % _CLOCK_UNIT == 0 and units < abi.EVENT_CLOCK else 0) << 16


def _pack_clocks(entries: Sequence[int]) -> tuple[int, ...]:
    """hp_cold.clock as 64-bit words."""
    filled = (list(entries) + [_UNUSED_CLOCK] * _CLOCKS)[:_CLOCKS]
    return tuple(low | high << 32 for low, high in zip(filled[::2], filled[1::2], strict=True))


def clocks_of(rule: Rule) -> tuple[int, ...]:
    """hp_cold.clock as 64-bit words."""
    return clock_words(rule.clocks) if rule.treatment is _PASS else treated_words(rule)


@lru_cache(maxsize=1024)
def clock_words(clocks: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """hp_cold.clock of a port whose media pass."""
    return _pack_clocks([_clock_entry(kind, hertz) for kind, hertz in clocks])


def treated_words(rule: Rule) -> tuple[int, ...]:
    """hp_cold.clock of a port whose media are treated: what its treatment needs has room before other clocks."""
    if rule.treatment is Treatment.SILENCE:
        clock = dict(rule.clocks)
        needed = [_clock_entry(kind, clock.pop(kind, 0), fill) for kind, fill in rule.fills]
        others = [_clock_entry(kind, hertz) for kind, hertz in clock.items()]
    else:
        needed = [kind | abi.EVENT_CLOCK << 16 for kind in rule.event_types]
        others = [_clock_entry(kind, hertz) for kind, hertz in rule.clocks if kind not in rule.event_types]
    return _pack_clocks(sorted((needed + others)[:_CLOCKS], key=_measures_nothing))


def _measures_nothing(entry: int) -> bool:
    return entry >> 16 in (0, abi.EVENT_CLOCK)


@lru_cache(maxsize=1024)
def measures_jitter(clocks: tuple[tuple[int, int], ...]) -> bool:
    """Whether any payload type has a clock jitter is measured by."""
    return any(word >> 16 & 0xFFFF or word >> 48 for word in clock_words(clocks))


def clocks_differ(rule: Rule, before: Rule) -> bool:
    """Whether the clocks of a port have to be written anew."""
    treatment = rule.treatment
    if treatment is not before.treatment or rule.clocks != before.clocks:
        return True
    return treatment is not _PASS and (rule.fills, rule.event_types) != (before.fills, before.event_types)
