"""SDP text to model (RFC 8866), and the model to what the media engine wants to know (RFC 3264, 3605, 5761).

Lenient where senders are sloppy and nothing is at stake: bare line feeds, trailing blanks, lines out of order, an
empty s=. Strict where a guess would send media somewhere: addresses, ports and m-lines must be right.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from control.sdp.attributes import attributes
from control.sdp.attributes import number as number_of
from control.sdp.model import MediaSection, Origin, SdpError, SessionDescription
from relay.types import Direction, Endpoint, MediaDescription, PayloadType

__all__ = ["describe", "parse"]

MAX_SIZE = 65_536
"""Characters of a body; more does not fit a datagram of the ng protocol."""
MAX_LINES = 4096
MAX_MEDIA = 64
MAX_FORMATS = 256
"""On one m-line; RTP has 128 payload types."""
MAX_WORD = 64
"""Characters of a medium's or protocol's name; they are remembered, and told in every report of the call."""
MAX_SHOWN = 80
"""Characters of a line that an error's detail quotes."""
MAX_ADDRESS = 45
"""Characters of the longest IPv6 literal."""

HELD_DIRECTION = {
    Direction.SENDRECV: Direction.SENDONLY,
    Direction.RECVONLY: Direction.INACTIVE,
}
"""Who asks for media at 0.0.0.0 does not receive (RFC 3264 section 8.4), whatever the attribute says."""

UNSPECIFIED = ("0.0.0.0", "::")
DISCARD = 9
"""With an unspecified address, the port of an agent that has found no candidate yet (RFC 8840 section 4.1.1)."""

STATIC_PAYLOAD_TYPES = {
    str(number): PayloadType(number, encoding, clock)
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
    # Phones that count the end of a C string send it along.
    text = text.rstrip("\0").replace("\r\n", "\n").lstrip("\n")
    if "\r" in text or "\0" in text:
        raise SdpError(detail="a line holds a carriage return or a zero byte")
    lines = text.split("\n", MAX_LINES)
    if len(lines) > MAX_LINES:
        raise SdpError(detail=f"more than {MAX_LINES} lines")
    if " \n" in text or "\t\n" in text or text.endswith((" ", "\t")):
        # But not of a session's name: "s= " is how RFC 8866 section 5.3 writes none.
        lines = [line if line.startswith("s=") else line.rstrip(" \t") for line in lines]
    return lines


def _wrong(number: int, line: str, what: str) -> SdpError:
    """The error of one line, whose beginning is shown in the log."""
    return SdpError(detail=f"line {number}: {what}: {line[:MAX_SHOWN]!r}")


class _Parser:
    """One run over the lines; `section` is the m-line they belong to, None before the first."""

    __slots__ = ("section", "session")

    def __init__(self) -> None:
        self.session = SessionDescription()
        self.section: MediaSection | None = None

    def parse(self, lines: list[str]) -> SessionDescription:
        if lines[0] != "v=0":
            raise _wrong(1, lines[0], "expected v=0")
        found: list[str] = []
        for number, line in enumerate(lines, 1):
            kind = line[:2]
            if kind == "a=":
                found.append(line)
            elif kind == "m=":
                self._note(found)
                found = []
                self.section = self._media(line, number)
            elif line:
                self._line(kind, line, number)
        self._note(found)
        return self.session

    def _note(self, found: list[str]) -> None:
        """Put a= lines where they belong."""
        if found:
            place = self.section or self.session
            place.attributes = attributes(found)

    def _media(self, line: str, number: int) -> MediaSection:
        fields = line[2:].split()
        if len(fields) < 3:
            raise _wrong(number, line, "an m-line needs media, port and protocol")
        port = number_of(fields[1].partition("/")[0], 65_535)
        if port is None:
            raise _wrong(number, line, "invalid port")
        if max(len(fields[0]), len(fields[2])) > MAX_WORD:
            raise _wrong(number, line, f"a name of more than {MAX_WORD} characters")
        if len(fields) - 3 > MAX_FORMATS:
            raise _wrong(number, line, f"more than {MAX_FORMATS} formats")
        media = self.session.media
        if len(media) >= MAX_MEDIA:
            raise SdpError(detail=f"more than {MAX_MEDIA} m-lines")
        section = MediaSection(fields[0], port, fields[2], fields[3:])
        media.append(section)
        return section

    def _line(self, kind: str, line: str, number: int) -> None:
        """A line that is neither attribute nor m-line, nor empty."""
        session, section = self.session, self.section
        place = section or session
        if kind == "c=":
            place.address = _connection(line, number)
        elif kind == "b=":
            place.bandwidth += (line,)
        elif kind == "i=" and section is not None:
            section.information += (line,)
        elif kind in ("t=", "r=", "z="):
            session.timing += (line,)
        elif kind in ("i=", "u=", "e=", "p="):
            session.about += (line,)
        elif kind == "k=":
            pass  # obsolete (RFC 8866 section 5.12)
        elif section is not None:
            raise _wrong(number, line, "out of place in a media section")
        elif kind == "o=":
            session.origin = _origin(line, number)
        elif kind == "s=":
            session.name = line
        elif kind != "v=":
            raise _wrong(number, line, "not an SDP line")


def _origin(line: str, number: int) -> Origin:
    """The fields of an o= line. A user name with blanks in it is wrong, but phones send it."""
    fields = line[2:].rsplit(None, 5)
    if len(fields) != 6:
        raise _wrong(number, line, "an o= line has six fields")
    return Origin(*fields)


def _connection(line: str, number: int) -> str:
    """The address of a c= line; one with a TTL is multicast, which no relay is asked for."""
    fields = line[2:].split()
    if len(fields) == 3 and fields[0] == "IN":
        address = _address(fields[1], fields[2])
        if address is not None:
            return address
    raise _wrong(number, line, "not an IP address")


def _address(family: str, text: str) -> str | None:
    """The canonical text of an IP literal of family IP4 or IP6, None for all else, host names included."""
    return _canonical(family, text) if family in ("IP4", "IP6") and len(text) <= MAX_ADDRESS else None


@lru_cache(maxsize=4096)
def _canonical(family: str, text: str) -> str | None:
    """What _address says of texts that are short enough to be kept: a call writes each address several times."""
    try:
        if family == "IP4":
            return str(ipaddress.IPv4Address(text))
        return str(ipaddress.IPv6Address(text)) if "%" not in text else None
    except ValueError:
        return None


def describe(session: SessionDescription) -> list[MediaDescription]:
    """What the media engine wants to know of each m-line, in their order.

    Raises SdpError where there is no m-line, or a live one has no address.
    """
    if not session.media:
        raise SdpError("Error rewriting SDP", "no m-line")
    return [_describe(session, section, number) for number, section in enumerate(session.media, 1)]


def _describe(session: SessionDescription, section: MediaSection, number: int) -> MediaDescription:
    direction = section.attributes.direction or session.attributes.direction or Direction.SENDRECV
    if not section.port:
        return MediaDescription(section.kind, section.protocol, None, None, direction=direction, rejected=True)
    ice = section.attributes.ice or session.attributes.ice
    address = section.address or session.address
    if address is None:
        raise SdpError("Incomplete SDP specification", f"m-line {number} has no address")
    unspecified = address in UNSPECIFIED
    unknown = unspecified and ice and section.port == DISCARD
    held = unspecified and not unknown
    is_rtp = section.is_rtp
    rtp = None if unknown else Endpoint(address, section.port)
    rtcp = _rtcp(section, address) if is_rtp and not unknown else None
    return MediaDescription(
        section.kind,
        section.protocol,
        rtp,
        rtcp,
        is_rtp and (section.attributes.rtcp_mux or (section.attributes.rtcp is not None and rtcp == rtp)),
        HELD_DIRECTION.get(direction, direction) if held else direction,
        False,
        held,
        _payload_types(section) if is_rtp else (),
        ice,
    )


def _rtcp(section: MediaSection, address: str) -> Endpoint | None:
    """Where RTCP goes when it is not muxed: muxed is also who names its RTP port for it.

    An a=rtcp that cannot be read counts as absent.
    """
    if section.attributes.rtcp is not None:
        fields = section.attributes.rtcp.split()
        port = number_of(fields[0], 65_535) if fields else None
        if port and len(fields) == 1:
            return Endpoint(address, port)
        if port and len(fields) == 4:
            ip = _address(fields[2], fields[3]) or address
            if ip not in UNSPECIFIED or address in UNSPECIFIED:
                return Endpoint(ip, port)
    return Endpoint(address, section.port + 1) if section.port < 65_535 else None


def _payload_types(section: MediaSection) -> tuple[PayloadType, ...]:
    """Encoding and clock of the formats in their order, without those nobody explains."""
    known = section.attributes.payload_types
    found = [known.get(number) or STATIC_PAYLOAD_TYPES.get(number) for number in section.formats]
    return tuple([payload_type for payload_type in found if payload_type is not None])
