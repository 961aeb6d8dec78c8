"""What a datagram is (RFC 7983, RFC 5761), and what blocking and silence make of it."""

from __future__ import annotations

import enum
from struct import Struct

from relay.dataplane.userspace.reception import RtpHeader
from relay.types import Carries, Rule, Treatment

__all__ = ["Kind", "classify", "read_header", "silence", "treat"]

_HEADER = Struct("!BBHII")
_EXTENSION = Struct("!2xH")
_PADDING, _HAS_EXTENSION, _SOURCES = 0x20, 0x10, 0x0F


class Kind(enum.Enum):
    """What a datagram is, as far as its rule wants to know."""

    OTHER = "other"
    RTP = "rtp"
    RTCP = "rtcp"
    STUN = "stun"
    DTLS = "dtls"


_NO_MEDIA = frozenset({Kind.RTCP, Kind.STUN, Kind.DTLS})


def classify(payload: memoryview, carries: Carries) -> Kind:
    """By the first byte (RFC 7983), then by the second: 192 to 223 is RTCP where RTCP may come (RFC 5761 section 4)."""
    if len(payload) < 2 or carries is Carries.OPAQUE:
        return Kind.OTHER
    first, second = payload[0], payload[1]
    if 128 <= first <= 191:
        if Carries.RTCP in carries and 192 <= second <= 223:
            return Kind.RTCP
        return Kind.RTP if Carries.RTP in carries else Kind.OTHER
    if first <= 3:
        return Kind.STUN
    return Kind.DTLS if 20 <= first <= 63 else Kind.OTHER


def read_header(payload: memoryview) -> RtpHeader | None:
    """The fixed header of an RTP packet, None where it is too short for one."""
    return RtpHeader(*_HEADER.unpack_from(payload)) if len(payload) >= _HEADER.size else None


def treat(payload: memoryview, kind: Kind, header: RtpHeader | None, rule: Rule) -> bool:
    """Apply a rule's treatment to a packet, in place. False: it is to be dropped.

    RTCP, STUN and DTLS pass. What is neither of them nor RTP has no silence, and is media where all of it is blocked.
    """
    treatment = rule.treatment
    if treatment is Treatment.PASS or kind in _NO_MEDIA:
        return True
    if treatment is Treatment.BLOCK_EVENTS:
        return kind is not Kind.RTP or payload[1] & 0x7F not in rule.event_types
    return treatment is Treatment.SILENCE and header is not None and silence(payload, header, dict(rule.fills))


def silence(payload: memoryview, header: RtpHeader, fills: dict[int, int]) -> bool:
    """Overwrite what is between header and padding; False where no silence is known or the lengths lie."""
    fill = fills.get(header.payload_type)
    start = _header_size(payload, header)
    end = len(payload) - (payload[-1] if header.first & _PADDING else 0)
    if fill is None or start > end:
        return False
    payload[start:end] = bytes((fill,)) * (end - start)
    return True


def _header_size(payload: memoryview, header: RtpHeader) -> int:
    """With sources and extension (RFC 3550 sections 5.1 and 5.3.1); more than the packet's length where it lies."""
    size = _HEADER.size + 4 * (header.first & _SOURCES)
    if header.first & _HAS_EXTENSION:
        if size + _EXTENSION.size > len(payload):
            return len(payload) + 1
        size += _EXTENSION.size + 4 * int(_EXTENSION.unpack_from(payload, size)[0])
    return size
