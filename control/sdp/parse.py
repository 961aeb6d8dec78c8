"""SDP text to model (RFC 8866), and the model to what the media engine wants to know (RFC 3264, 3605, 5761).

Lenient where senders are sloppy and nothing is at stake: bare line feeds, trailing blanks, lines out of order, an
empty s=. Strict where a guess would send media somewhere: addresses, ports and m-lines must be right.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from control.sdp.model import Attribute, MediaSection, Origin, SdpError, SessionDescription
from relay.types import Direction, Endpoint, MediaDescription, PayloadType

__all__ = ["describe", "parse"]

MAX_SIZE = 65_536
"""Characters of a body; more does not fit a datagram of the ng protocol."""
MAX_LINES = 4096
MAX_MEDIA = 64

DIRECTIONS = {direction.value: direction for direction in Direction}
NOTED = frozenset(DIRECTIONS) | {"rtcp", "rtcp-mux"}
"""Attributes that parse looks into."""

HELD_DIRECTION = {
    Direction.SENDRECV: Direction.SENDONLY,
    Direction.RECVONLY: Direction.INACTIVE,
}
"""Who asks for media at 0.0.0.0 does not receive (RFC 3264 section 8.4), whatever the attribute says."""

STATIC_PAYLOAD_TYPES = {
    number: PayloadType(number, encoding, clock)
    for number, encoding, clock in (
        (0, "PCMU", 8000),
        (3, "GSM", 8000),
        (4, "G723", 8000),
        (5, "DVI4", 8000),
        (6, "DVI4", 16000),
        (7, "LPC", 8000),
        (8, "PCMA", 8000),
        (9, "G722", 8000),
        (10, "L16", 44100),
        (11, "L16", 44100),
        (12, "QCELP", 8000),
        (13, "CN", 8000),
        (14, "MPA", 90000),
        (15, "G728", 8000),
        (16, "DVI4", 11025),
        (17, "DVI4", 22050),
        (18, "G729", 8000),
        (25, "CelB", 90000),
        (26, "JPEG", 90000),
        (28, "nv", 90000),
        (31, "H261", 90000),
        (32, "MPV", 90000),
        (33, "MP2T", 90000),
        (34, "H263", 90000),
    )
}
"""Payload types that need no a=rtpmap (RFC 3551 section 6)."""


def parse(body: str | bytes) -> SessionDescription:
    """Read a body. Raises SdpError("Failed to parse SDP") for anything that is not SDP or beyond the bounds."""
    text = body.decode("utf-8", "surrogateescape") if isinstance(body, bytes) else body
    return _Parser().parse(_lines(text))


def _lines(text: str) -> list[str]:
    if len(text) > MAX_SIZE:
        raise SdpError(detail=f"{len(text)} characters are more than {MAX_SIZE}")
    text = text.replace("\r\n", "\n")
    if "\r" in text or "\0" in text:
        raise SdpError(detail="a line holds a carriage return or a zero byte")
    lines = text.split("\n", MAX_LINES)
    if len(lines) > MAX_LINES:
        raise SdpError(detail=f"more than {MAX_LINES} lines")
    if " \n" in text or "\t\n" in text:
        lines = [line.rstrip(" \t") for line in lines]
    return lines


class _Parser:
    """One run over the lines; `section` is the m-line they belong to, None before the first."""

    __slots__ = ("attributes", "section", "session")

    def __init__(self) -> None:
        self.session = SessionDescription(Origin("", "", "", "", "", ""))
        self.section: MediaSection | None = None
        self.attributes: list[Attribute] = self.session.attributes

    def parse(self, lines: list[str]) -> SessionDescription:
        if lines[0] != "v=0":
            raise SdpError(detail="line 1: expected v=0")
        attributes = self.attributes
        for number, line in enumerate(lines, 1):
            kind = line[:2]
            if kind == "a=":
                colon = line.find(":")
                name = line[2:colon] if colon > 0 else line[2:]
                attributes.append((name, line))
                if name in NOTED:
                    self._note(name, line)
            elif kind == "m=":
                self._media(line, number)
                attributes = self.attributes
            elif line:
                self._line(kind, line, number)
        if not self.session.origin.session_id:
            raise SdpError(detail="no o= line")
        return self.session

    def _note(self, name: str, line: str) -> None:
        """Take what the relay acts on out of an attribute."""
        place = self.section or self.session
        direction = DIRECTIONS.get(name)
        if direction is not None:
            place.direction = direction
        elif isinstance(place, MediaSection):
            if name == "rtcp-mux":
                place.rtcp_mux = True
            else:
                place.rtcp = line[7:]

    def _media(self, line: str, number: int) -> None:
        fields = line[2:].split()
        if len(fields) < 4:
            raise SdpError(detail=f"line {number}: an m-line needs media, port, protocol and formats")
        port = _number(fields[1].partition("/")[0], 65_535)
        if port is None:
            raise SdpError(detail=f"line {number}: invalid port")
        media = self.session.media
        if len(media) >= MAX_MEDIA:
            raise SdpError(detail=f"more than {MAX_MEDIA} m-lines")
        self.section = MediaSection(fields[0], port, fields[2], fields[3:])
        self.attributes = self.section.attributes
        media.append(self.section)

    def _line(self, kind: str, line: str, number: int) -> None:
        """A line that is neither attribute nor m-line, nor empty."""
        place = self.section or self.session
        if kind == "c=":
            place.address = _connection(line, number)
        elif kind == "b=":
            place.bandwidth.append(line)
        elif isinstance(place, MediaSection):
            if kind == "i=":
                place.information.append(line)
            elif kind not in KNOWN:
                raise SdpError(detail=f"line {number}: not an SDP line")
        elif kind == "o=":
            place.origin = _origin(line, number)
        elif kind == "s=":
            place.name = line
        elif kind in ("t=", "r=", "z="):
            place.timing.append(line)
        elif kind in ("i=", "u=", "e=", "p="):
            place.about.append(line)
        elif kind not in KNOWN:
            raise SdpError(detail=f"line {number}: not an SDP line")


KNOWN = frozenset({"v=", "o=", "s=", "i=", "u=", "e=", "p=", "t=", "r=", "z=", "k="})
"""Line types that are dropped where they do not belong; k= is obsolete (RFC 8866 section 5.12) and always dropped."""


def _origin(line: str, number: int) -> Origin:
    fields = line[2:].split(" ")
    if len(fields) != 6 or not all(fields):
        raise SdpError(detail=f"line {number}: an o= line has six fields")
    return Origin(*fields)


def _connection(line: str, number: int) -> str:
    """The address of a c= line, without the TTL and count of a multicast address."""
    fields = line[2:].split()
    if len(fields) == 3 and fields[0] == "IN":
        address = canonical(fields[1], fields[2].partition("/")[0])
        if address is not None:
            return address
    raise SdpError(detail=f"line {number}: not an IP address")


@lru_cache(maxsize=4096)
def canonical(family: str, text: str) -> str | None:
    """The canonical text of an IP literal of family IP4 or IP6, None for all else, host names included."""
    if len(text) > 45 or "%" in text:
        return None
    try:
        if family == "IP4":
            return str(ipaddress.IPv4Address(text))
        return str(ipaddress.IPv6Address(text)) if family == "IP6" else None
    except ValueError:
        return None


def _number(text: str, limit: int) -> int | None:
    """A decimal number from 0 to `limit`, None for anything else."""
    if not text.isdecimal() or not text.isascii() or len(text) > 10:
        return None
    number = int(text)
    return number if number <= limit else None


def describe(session: SessionDescription) -> list[MediaDescription]:
    """What the media engine wants to know of each m-line, in their order.

    Raises SdpError where there is no m-line, or a live one has no address.
    """
    if not session.media:
        raise SdpError("Incomplete SDP specification", "no m-line")
    return [_describe(session, section) for section in session.media]


def _describe(session: SessionDescription, section: MediaSection) -> MediaDescription:
    direction = section.direction or session.direction or Direction.SENDRECV
    if not section.port:
        return MediaDescription(section.kind, section.protocol, None, None, direction=direction, rejected=True)
    address = section.address or session.address
    if address is None:
        raise SdpError("Incomplete SDP specification", f"m={section.kind} {section.port} has no c= line")
    held = address in ("0.0.0.0", "::")
    is_rtp = section.is_rtp
    return MediaDescription(
        section.kind,
        section.protocol,
        Endpoint(address, section.port),
        _rtcp(section, address) if is_rtp else None,
        is_rtp and section.rtcp_mux,
        HELD_DIRECTION.get(direction, direction) if held else direction,
        False,
        held,
        _payload_types(section) if is_rtp else (),
    )


def _rtcp(section: MediaSection, address: str) -> Endpoint | None:
    """Where RTCP goes when it is not muxed. An a=rtcp that cannot be read counts as absent."""
    if section.rtcp is not None:
        fields = section.rtcp.split()
        port = _number(fields[0], 65_535) if fields else None
        if port and len(fields) == 1:
            return Endpoint(address, port)
        if port and len(fields) == 4:
            return Endpoint(canonical(fields[2], fields[3]) or address, port)
    return Endpoint(address, section.port + 1) if section.port < 65_535 else None


def _payload_types(section: MediaSection) -> tuple[PayloadType, ...]:
    mapped = dict(_rtpmap(line) for name, line in section.attributes if name == "rtpmap")
    found = []
    for text in section.formats:
        number = _number(text, 127)
        payload_type = mapped.get(number) or STATIC_PAYLOAD_TYPES.get(number) if number is not None else None
        if payload_type is not None:
            found.append(payload_type)
    return tuple(found)


def _rtpmap(line: str) -> tuple[int | None, PayloadType | None]:
    """Number and payload type of an a=rtpmap line, None for what cannot be read."""
    number, _, name = line[9:].partition(" ")
    encoding, _, clock = name.partition("/")
    pt, hz = _number(number, 127), _number(clock.partition("/")[0], 10_000_000)
    return pt, PayloadType(pt, encoding, hz) if pt is not None and hz else None
