"""Which ports packets came to, and when: bitmaps of 65,536 bits as data planes and partners tell them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["PORTS", "Collapse", "Log", "Thrice", "bits", "bounded"]

PORTS = 65536
_PER_LEVEL = 4
_LEVELS = 12
"""The oldest span holds 4,096 bitmaps: hours, at one every few seconds."""
MANY = 8
"""Ports that packets come to, from which on it is no chance that all fall silent at once."""
FEW = 0.1
"""The share of them that may go on in a collapse."""
SOON = 2
"""Sweeps within which it happens."""


def bounded(bitmap: bytes) -> int:
    """A bitmap as a number, with what is beyond the last port left out."""
    return int.from_bytes(bitmap[: PORTS // 8], "little")


def bits(number: int) -> Iterator[int]:
    """The ports of a bitmap, in ascending order."""
    data = number.to_bytes(PORTS // 8, "little")
    for index, byte in enumerate(data):
        while byte:
            yield index * 8 + (byte & -byte).bit_length() - 1
            byte &= byte - 1


class Log:
    """When each port last took a packet, told from the newest bitmap back.

    Of old bitmaps several are one, so the time of a port that has been silent for long is late by up to a quarter of
    that silence: never early. A few dozen bitmaps of 8 kB at most, whatever is told.
    """

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: list[list[tuple[float, int]]] = [[] for _ in range(_LEVELS + 1)]
        """By level, oldest first; one of level n is made of 2 ** n bitmaps."""

    def add(self, now: float, bitmap: int) -> None:
        """These ports took packets lately."""
        if not bitmap:
            return
        fresh = (now, bitmap)
        for level in range(_LEVELS + 1):
            spans = self._spans[level]
            spans.append(fresh)
            if len(spans) <= _PER_LEVEL + 1:
                return
            (_, first), (time, second) = spans.pop(0), spans.pop(0)
            fresh = (time, first | second)

    def last(self, port: int) -> float:
        """When packets last came to a port; 0.0 for never."""
        mask = 1 << port
        for spans in self._spans:
            for time, bitmap in reversed(spans):
                if bitmap & mask:
                    return time
        return 0.0


class Thrice:
    """Ports that were seen on three sweeps since this began to count."""

    __slots__ = ("_once", "_twice", "ports")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self._once = self._twice = self.ports = 0

    def add(self, bitmap: int) -> int:
        """One more sweep; returns the ports that were seen for the third time in it."""
        before = self.ports
        self.ports |= self._twice & bitmap
        self._twice |= self._once & bitmap
        self._once |= bitmap
        return self.ports & ~before


class Collapse:
    """Whether an address fell silent as a whole: a fault of a line or a route, no sign that its calls have ended."""

    __slots__ = ("_lately", "ports")

    def __init__(self) -> None:
        self._lately = [0] * SOON
        self.ports = 0
        """How many ports fell silent, 0 where they did not."""

    def note(self, ports: int, drawn: int) -> None:
        """A sweep found packets at so many ports of the address, of which calls have `drawn` pairs.

        It is over when packets are back at half of the ports, or at half of what calls still hold.
        """
        before = max(self._lately)
        self._lately = [*self._lately[1:], ports]
        if self.ports:
            if 2 * ports >= min(self.ports, drawn):
                self.ports = 0
        elif before >= MANY and ports <= before * FEW:
            self.ports = before
