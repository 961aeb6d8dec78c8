"""What parse makes of an SDP body and rewrite reads: lines in order, with the parts the relay needs taken out.

A kept line stands here as the text that goes out again, without its line ending.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from control.sdp.attributes import Attributes, attributes
from relay.errors import HairpinError

__all__ = [
    "BodyWishes",
    "CodecWishes",
    "MediaSection",
    "Origin",
    "RewriteOptions",
    "RtcpAttribute",
    "SdpError",
    "SessionDescription",
]


NO_ATTRIBUTES = attributes(())


class SdpError(HairpinError):
    """The body cannot be used. The text is the reply's error-reason; `detail` says where and why, for the log."""

    def __init__(self, text: str = "Failed to parse SDP", detail: str = "") -> None:
        super().__init__(text)
        self.detail = detail


class Origin(NamedTuple):
    """An o= line (RFC 8866 section 5.2). All fields are the sender's text; the address may be a host name."""

    username: str
    session_id: str
    version: str
    network: str
    family: str
    address: str

    def __str__(self) -> str:
        return "o=" + " ".join(self)


@dataclass(slots=True, init=False)
class MediaSection:
    """One m-line and what follows it (RFC 8866 section 5.14)."""

    kind: str
    port: int
    protocol: str
    formats: list[str]
    address: str | None
    """Of its own c= line, canonical; None where the session's holds."""
    information: tuple[str, ...]
    """i= lines."""
    bandwidth: tuple[str, ...]
    """b= lines."""
    attributes: Attributes

    def __init__(self, kind: str, port: int, protocol: str, formats: list[str]) -> None:
        # Written out: what dataclass makes is Python code where all else is compiled.
        self.kind, self.port, self.protocol, self.formats = kind, port, protocol, formats
        self.address = None
        self.information = self.bandwidth = ()
        self.attributes = NO_ATTRIBUTES

    @property
    def is_rtp(self) -> bool:
        """Whether the transport is an RTP profile: RTP/AVP and its relatives, secured or not."""
        return "RTP/" in self.protocol.upper()


@dataclass(slots=True, init=False)
class SessionDescription:
    """A whole body."""

    origin: Origin | None
    name: str
    """The s= line."""
    about: tuple[str, ...]
    """i=, u=, e= and p= lines."""
    address: str | None
    """Of the session's c= line, canonical."""
    bandwidth: tuple[str, ...]
    """b= lines."""
    timing: tuple[str, ...]
    """t=, r= and z= lines."""
    attributes: Attributes
    """The session's own."""
    media: list[MediaSection]

    def __init__(self) -> None:
        self.origin = self.address = None
        self.name = "s=-"
        self.about = self.bandwidth = self.timing = ()
        self.attributes = NO_ATTRIBUTES
        self.media = []


class RtcpAttribute(enum.Enum):
    """How a=rtcp is written (RFC 3605)."""

    PORT = "port"
    FULL = "full"
    NONE = "none"


class CodecWishes(NamedTuple):
    """Codecs as a command names them: ENCODING[/CLOCK[/CHANNELS]], or with format parameters as the sixth part.

    Upper and lower case mean the same.
    """

    strip: tuple[str, ...] = ()
    """Taken out; `all` for all."""
    mask: tuple[str, ...] = ()
    """The same here: who masks wants to transcode."""
    keep: tuple[str, ...] = ()
    """Stays where it is, though it would go (`codec-except`)."""
    offer: tuple[str, ...] = ()
    """Stays though it would go, behind the others and in the order of this list (`codec-offer`)."""
    single: bool = False
    """Of an answer only the first codec, and what goes with it (`single-codec`)."""


class BodyWishes(NamedTuple):
    """What a command's flags ask of a body that the body before it, or its codecs, have a say in; seldom anything."""

    codecs: CodecWishes | None = None
    ptime: int | None = None
    """Milliseconds for a=ptime of all audio."""
    generate_mid: bool = False
    """Name all m-lines of an offer (`generate-mid`)."""
    strip_extmap: bool = False
    """Take out header extensions (RFC 8285)."""
    username: bool = False
    """Let o= name the user that it named first (`replace username`)."""
    session_id: bool = False
    """The same for the session's id (`replace origin-full`)."""
    session_name: bool = False
    """The same for s= (`replace session-name`)."""
    version: bool = False
    """Count the version of o= by what the party is really sent (`replace SDP-version`)."""
    force_version: bool = False
    """Count it up with each body (`replace force-increment-sdp-ver`)."""

    @property
    def remembers(self) -> bool:
        """Whether it depends on what the party was sent before."""
        return self.username or self.session_id or self.session_name or self.version


class RewriteOptions(NamedTuple):
    """What a command's flags ask of the outgoing body."""

    replace_origin: bool = False
    """Write the relay's address into o= (`replace origin`)."""
    rtcp_attribute: RtcpAttribute = RtcpAttribute.PORT
    """`no-rtcp-attribute`, `full-rtcp-attribute`."""
    original_direction: bool = False
    """Leave direction attributes where and as they came (`original-sendrecv`)."""
    remove_ice: bool = False
    """Drop everything of ICE (`ICE=remove`)."""
    zero_address: bool = False
    """Write the relay's address also for a held stream (`replace zero-address`)."""
    media_address: str | None = None
    """Write this IP address in place of the relay's, but into no candidate (`media-address`)."""
    loop_mark: str | None = None
    """Write a=rtpengine with this value, by which the relay knows its own bodies again (`loop-protect`)."""
    call_id: str = ""
    """What a call's candidates have their foundation from."""
