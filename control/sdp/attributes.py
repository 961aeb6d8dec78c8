"""The a= lines of a section or of the session, sorted once for all that is asked of them.

All phones of a kind write the same ones in every call, so what was read is kept and known again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from relay.types import Direction, PayloadType

__all__ = [
    "CANDIDATES",
    "CONSUMED",
    "DIRECTIONS",
    "HEAD",
    "MIDDLE",
    "TAIL",
    "Attribute",
    "Attributes",
    "attributes",
    "number",
]

HEAD = ("mid", "label")
"""Attributes written right behind c= and b=; all a rejected section keeps."""
PER_FORMAT = frozenset({"rtpmap", "fmtp", "rtcp-fb"})
"""Attributes that start with a payload type and are grouped by it."""
MIDDLE = "extmap"
"""Header extensions are written behind the payload types."""
TAIL = (
    "crypto",
    "setup",
    "fingerprint",
    "tls-id",
    "ptime",
    "maxptime",
    "ice-ufrag",
    "ice-pwd",
    "ice-options",
)
"""Attributes written behind the direction and a=rtcp, in this order; candidates of the relay's own follow."""
CANDIDATES = frozenset({"candidate", "end-of-candidates", "remote-candidates"})
"""Where a party may be reached, in words of ICE (RFC 8839): true of its own ports, not of the relay's."""
CONSUMED = frozenset({"bundle-only", "rtcp", "rtcp-mux", "rtcp-mux-only"}) | CANDIDATES
"""Attributes the relay writes itself or not at all. rtcp-mux-only (RFC 8858) says that there is no port beside it."""
DIRECTIONS = {direction.value: direction for direction in Direction}
PLACED = frozenset({*HEAD, MIDDLE, *TAIL}) | CONSUMED | frozenset(DIRECTIONS)

MAX_CLOCK = 10_000_000
"""Hz; no RTP clock is faster than a video's 90 kHz or a raw audio's few hundred."""
MAX_RTPMAP = 64
"""Characters of an a=rtpmap line that is read; names of encodings are short."""
MAX_VALUE = 128
"""Characters of an a=mid or a=ptime line that is remembered for an answer; a longer one is nobody's."""
MAX_KEPT = 2048
"""Characters of a section's attributes that are kept; those of browsers are longer, and never the same again."""


class Attribute(NamedTuple):
    """Name and whole line: ("rtpmap", "a=rtpmap:0 PCMU/8000")."""

    name: str
    line: str


class Attributes:
    """Lines by what becomes of them. Shared between calls: never changed once made."""

    __slots__ = (
        "details",
        "direction",
        "every",
        "ice",
        "mid",
        "others",
        "payload_types",
        "placed",
        "ptime",
        "rtcp",
        "rtcp_mux",
        "rtpmaps",
    )

    def __init__(self, lines: Sequence[str]) -> None:
        self.every: list[Attribute] = []
        """In the sender's order."""
        self.direction: Direction | None = None
        self.rtcp: str | None = None
        """Value of a=rtcp (RFC 3605)."""
        self.rtcp_mux = False
        self.ice = False
        """There are credentials for connectivity checks (RFC 8839 section 5.4)."""
        self.payload_types: dict[str, PayloadType] = {}
        """What the rtpmaps say, by the number as written."""
        self.rtpmaps: dict[str, list[str]] = {}
        """Lines by payload type."""
        self.details: dict[str, list[str]] = {}
        """The other lines about a payload type, format parameters first."""
        self.placed: dict[str, list[str]] = {}
        """Lines that rewriting has a place for, by name."""
        self.others: list[Attribute] = []
        for line in lines:
            name, _, value = line[2:].partition(":")
            self._add(Attribute(name, line), value)
        for details in self.details.values():
            if len(details) > 1:
                details.sort(key=_is_feedback)
        self.mid, self.ptime = self._short("mid"), self._short("ptime")
        """Values that an answer takes from its offer; None also for one that is not worth remembering."""

    def _add(self, attribute: Attribute, value: str) -> None:
        name, line = attribute
        self.every.append(attribute)
        if name in PER_FORMAT:
            self._add_to_format(attribute, value)
        elif name in PLACED:
            self.placed.setdefault(name, []).append(line)
        else:
            self.others.append(attribute)
        if name in DIRECTIONS:
            self.direction = self.direction or DIRECTIONS[name]
        elif name == "rtcp":
            self.rtcp = value
        elif name == "rtcp-mux":
            self.rtcp_mux = True
        elif name == "ice-ufrag":
            self.ice = True

    def _short(self, name: str) -> str | None:
        lines = self.placed.get(name)
        return lines[0].partition(":")[2].strip() if lines and len(lines[0]) <= MAX_VALUE else None

    def _add_to_format(self, attribute: Attribute, value: str) -> None:
        name, line = attribute
        written, _, text = value.partition(" ")
        if written == "*":
            self.others.append(attribute)
        elif name != "rtpmap":
            self.details.setdefault(written, []).append(line)
        else:
            self.rtpmaps.setdefault(written, []).append(line)
            payload_type = _payload_type(written, text) if len(line) <= MAX_RTPMAP else None
            if payload_type is not None:
                self.payload_types[written] = payload_type


def _is_feedback(line: str) -> bool:
    return line.startswith("a=rtcp-fb:")


_kept = lru_cache(maxsize=1024)(Attributes)


def attributes(lines: Sequence[str]) -> Attributes:
    """The attributes on these a= lines."""
    return _kept(tuple(lines)) if sum(map(len, lines)) <= MAX_KEPT else Attributes(lines)


def _payload_type(written: str, text: str) -> PayloadType | None:
    """What an a=rtpmap says, None where it cannot be read."""
    encoding, _, clock = text.strip().partition("/")
    payload_type, hz = number(written, 127), number(clock.partition("/")[0], MAX_CLOCK)
    return PayloadType(payload_type, encoding, hz) if payload_type is not None and hz else None


def number(text: str, limit: int) -> int | None:
    """A decimal number from 0 to `limit`, None for anything else."""
    if not text.isdecimal() or not text.isascii() or len(text) > 10:
        return None
    found = int(text)
    return found if found <= limit else None
