"""Model to SDP text: a new body in a fixed order, with the relay's addresses and ports in the sender's description."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from control.sdp.attributes import CANDIDATES, CONSUMED, DIRECTIONS, HEAD, MIDDLE, TAIL, Attributes
from control.sdp.model import (
    MediaSection,
    Origin,
    RewriteOptions,
    RtcpAttribute,
    SdpError,
    SessionDescription,
)
from control.sdp.parse import STATIC_PAYLOAD_TYPES
from relay.types import LocalMedia

__all__ = ["rewrite"]

ICE = CANDIDATES | {"ice-lite", "ice-mismatch", "ice-options", "ice-pacing", "ice-pwd", "ice-ufrag"}
HOST_PRIORITIES = (2_130_706_431, 2_130_706_430)
"""Of a host candidate's RTP and RTCP component (RFC 8445 section 5.1.2): type preference 126, the highest local one."""

MESSAGE = "message"
"""The kind of media that goes past the relay."""
_NONE: Final = RtcpAttribute.NONE  # an Enum's members are found by a search, at each time of asking
_FULL: Final = RtcpAttribute.FULL
PASSED = LocalMedia(None)
"""For a section that stays as it is."""
DIRECTION_LINES = {direction: f"a={text}" for text, direction in DIRECTIONS.items()}
STATIC_RTPMAPS: dict[str, tuple[str, ...]] = {
    text: (f"a=rtpmap:{number} {encoding}/{clock}" + ("/2" if number == 10 else ""),)
    for text, (number, encoding, clock) in STATIC_PAYLOAD_TYPES.items()
}


def rewrite(session: SessionDescription, media: Sequence[LocalMedia], options: RewriteOptions) -> str:
    """The body for the other party; `media` has one entry per m-line. Raises SdpError where it has not.

    The model is left as it is.
    """
    if len(media) != len(session.media):
        raise SdpError("Error rewriting SDP", f"{len(media)} media for {len(session.media)} m-lines")
    lines = _session(session, media, options)
    for section, local in zip(session.media, media, strict=True):
        _section(lines, session, section, local, options)
    lines.append("")
    return "\r\n".join(lines)


def _session(session: SessionDescription, media: Sequence[LocalMedia], options: RewriteOptions) -> list[str]:
    """The lines above the first m-line; never a c= line, each section has its own."""
    lines = ["v=0"]
    if session.origin is not None:
        lines.append(_origin(session, session.origin, media, options))
    lines += (session.name, *session.about, *session.bandwidth, *(session.timing or ("t=0 0",)))
    for name, line in session.attributes.every:
        if name in DIRECTIONS:
            if options.original_direction:
                lines.append(line)
        elif not (name in CONSUMED or name == "group" or (options.remove_ice and name in ICE)):
            lines.append(line)
    if options.loop_mark is not None:
        lines.append(f"a=rtpengine:{options.loop_mark}")
    return lines


def _origin(session: SessionDescription, origin: Origin, media: Sequence[LocalMedia], options: RewriteOptions) -> str:
    """The o= line; with `replace_origin` its address is that of the first live section."""
    if options.replace_origin:
        for section, local in zip(session.media, media, strict=True):
            if local.rtp is not None and section.kind != MESSAGE:
                ip = options.media_address or local.rtp.ip
                return str(origin._replace(family=_family(ip), address=ip))
    return str(origin)


def _section(
    lines: list[str], session: SessionDescription, section: MediaSection, local: LocalMedia, options: RewriteOptions
) -> None:
    """Append one m-line and what belongs to it."""
    if local.rtp is None:
        lines += (_m_line(section, 0, local), "c=IN IP4 0.0.0.0")
        lines += (line for name in HEAD for line in section.attributes.placed.get(name, ()))
        return
    if section.kind == MESSAGE:
        _passed_through(lines, session, section)
        return
    ip = options.media_address or local.rtp.ip
    if local.held and not options.zero_address and options.media_address is None:
        ip = "::" if ":" in ip else "0.0.0.0"
    _head(lines, section, _m_line(section, local.rtp.port, local), ip)
    dropped = ICE if options.remove_ice else CANDIDATES
    if section.is_rtp:
        _rtp_attributes(lines, section, local, options, dropped)
    else:
        lines += (line for name, line in section.attributes.every if name not in DIRECTIONS and name not in dropped)
        _direction(lines, section.attributes, local, options)
    if not options.remove_ice and (section.attributes.ice or session.attributes.ice):
        _candidates(lines, section.attributes, local, options)


def _passed_through(lines: list[str], session: SessionDescription, section: MediaSection) -> None:
    """MSRP runs over TCP and names its own addresses: the section goes on as it came, with its c= line."""
    address = section.address or session.address
    if address is None:
        raise SdpError("Incomplete SDP specification", "an m-line has no address")
    _head(lines, section, _m_line(section, section.port, PASSED), address)
    lines += (attribute.line for attribute in section.attributes.every)


def _head(lines: list[str], section: MediaSection, m_line: str, ip: str) -> None:
    """What stands above the attributes."""
    lines.append(m_line)
    lines += section.information
    lines.append(f"c=IN {_family(ip)} {ip}")
    lines += section.bandwidth


def _m_line(section: MediaSection, port: int, local: LocalMedia) -> str:
    return " ".join((f"m={section.kind} {port} {local.protocol or section.protocol}", *section.formats))


def _rtp_attributes(
    lines: list[str], section: MediaSection, local: LocalMedia, options: RewriteOptions, dropped: frozenset[str]
) -> None:
    """Attributes of an RTP section: by payload type, extensions, unknown ones in their order, those with a place.

    A payload type's rtpmap comes first and is never absent for a static type.
    """
    attributes = section.attributes
    placed, rtpmaps, details = attributes.placed, attributes.rtpmaps, attributes.details
    for name in HEAD:
        if name in placed:
            lines += placed[name]
    for number in dict.fromkeys(section.formats):
        lines += rtpmaps.get(number) or STATIC_RTPMAPS.get(number, ())
        if number in details:
            lines += details[number]
    if MIDDLE in placed:
        lines += placed[MIDDLE]
    lines += [line for name, line in attributes.others if name not in dropped]
    _direction(lines, attributes, local, options)
    _rtcp(lines, local, options)
    if local.rtcp_mux and local.rtcp in (None, local.rtp):
        lines += placed.get("rtcp-mux-only", ())
    for name in TAIL:
        if name in placed and name not in dropped:
            lines += placed[name]


def _direction(lines: list[str], attributes: Attributes, local: LocalMedia, options: RewriteOptions) -> None:
    if options.original_direction:
        lines += (line for name, line in attributes.every if name in DIRECTIONS)
    else:
        lines.append(DIRECTION_LINES[local.direction])


def _rtcp(lines: list[str], local: LocalMedia, options: RewriteOptions) -> None:
    """a=rtcp and a=rtcp-mux. RTCP that has an address of its own needs the full form."""
    rtcp = local.rtcp
    if rtcp is not None and local.rtp is not None and options.rtcp_attribute is not _NONE:
        if options.rtcp_attribute is _FULL or rtcp.ip != local.rtp.ip:
            ip = options.media_address or rtcp.ip
            lines.append(f"a=rtcp:{rtcp.port} IN {_family(ip)} {ip}")
        else:
            lines.append(f"a=rtcp:{rtcp.port}")
    if local.rtcp_mux:
        lines.append("a=rtcp-mux")


def _candidates(lines: list[str], attributes: Attributes, local: LocalMedia, options: RewriteOptions) -> None:
    """The relay's own ports as a party's candidates: checks go end to end through them.

    The foundation is the same for all that starts from one address, and another one in each call (RFC 8839 5.1).
    """
    assert local.rtp is not None
    ip = local.rtp.ip
    foundation = blake2b(f"{options.call_id} {ip}".encode(errors="surrogatepass"), digest_size=8).hexdigest()
    for component, endpoint in enumerate((local.rtp, local.rtcp)):
        if endpoint is not None and (component == 0 or endpoint != local.rtp):
            priority = HOST_PRIORITIES[component]
            lines.append(
                f"a=candidate:{foundation} {component + 1} UDP {priority} {endpoint.ip} {endpoint.port} typ host"
            )
    lines += attributes.placed.get("end-of-candidates", ())


def _family(ip: str) -> str:
    return "IP6" if ":" in ip else "IP4"
