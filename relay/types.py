"""The words both halves of the relay speak: endpoints, media as signalled, rules, and what a rule's counters say."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple


class Endpoint(NamedTuple):
    """A UDP transport address. `ip` is in canonical text form, `port` 1 to 65535."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


class Direction(enum.Enum):
    """Media direction as its sender of the SDP sees it (RFC 8866 section 6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    __hash__ = object.__hash__  # by identity: Enum's own hashes the name, by a call of Python code

    def __init__(self, text: str) -> None:
        self.sends = text in ("sendrecv", "sendonly")
        self.receives = text in ("sendrecv", "recvonly")


class PayloadType(NamedTuple):
    """One RTP payload type of a media section; `clock` in Hz (RFC 8866 section 6.6)."""

    number: int
    encoding: str
    clock: int


class MediaDescription(NamedTuple):
    """One m-line as its sender signalled it, free of SDP text.

    `rtp` is None where the section is rejected (port 0) or has no usable address; an address of 0.0.0.0 (RFC 2543 hold)
    keeps the port and sets `held`. `rtcp` is where RTCP goes when it is not muxed: a=rtcp (RFC 3605) or RTP port + 1.
    """

    kind: str
    protocol: str
    rtp: Endpoint | None
    rtcp: Endpoint | None
    rtcp_mux: bool = False
    direction: Direction = Direction.SENDRECV
    rejected: bool = False
    held: bool = False
    payload_types: tuple[PayloadType, ...] = ()
    ice: bool = False
    """The sender offers connectivity checks (RFC 8839)."""

    @property
    def is_rtp(self) -> bool:
        """Whether the transport is an RTP profile: RTP/AVP and its relatives, secured or not."""
        return "RTP/" in self.protocol.upper()


class Learning(enum.Enum):
    """How a port finds out where its party really sends from (the peer's endpoint-learning)."""

    DELAYED = "delayed"
    IMMEDIATE = "immediate"
    HEURISTIC = "heuristic"
    OFF = "off"

    __hash__ = object.__hash__


class Carries(enum.Flag):
    """What a port carries; nothing: any UDP payload, forwarded opaque."""

    OPAQUE = 0
    RTP = enum.auto()
    RTCP = enum.auto()

    __hash__ = object.__hash__


class Treatment(enum.Enum):
    """What becomes of the RTP a port takes. RTCP passes in any case."""

    PASS = "pass"
    BLOCK = "block"
    """Dropped (`block media`)."""
    SILENCE = "silence"
    """The payload is overwritten with silence; a payload type no silence is known for is dropped (`silence media`)."""
    BLOCK_EVENTS = "block events"
    """Packets of `Rule.event_types` are dropped (`block DTMF`)."""

    __hash__ = object.__hash__


class Rule(NamedTuple):
    """What one local port does with its packets.

    Ports come in mirrored pairs: a packet from party A arrives at `local` and leaves from `source`; the rule of
    `source` has `local` as its own source and A's address as its destination. So `signalled_source` is the destination
    of the mirrored rule, and `source_epoch` its `destination_epoch`: whenever A's signalled address changes, the number
    does, and the port learns anew. A port that a re-offer brings stands beside the pair in force until the answer, and
    until then its `source` names a port whose own mirror is another.
    """

    local: Endpoint
    source: Endpoint
    destination: Endpoint | None
    destination_epoch: int
    signalled_source: Endpoint | None
    source_epoch: int
    carries: Carries
    learning: Learning = Learning.DELAYED
    preferred_source: str | None = None
    """IP address the signalling came from (received-from): as good as the signalled one when learning."""
    strict_source: bool = False
    media_handover: bool = False
    tos: int | None = None
    """The whole TOS byte written to packets (0 to 252, low two bits zero), None to leave the packet's own."""
    clocks: tuple[tuple[int, int], ...] = ()
    """(payload type, clock in Hz) for which jitter is measured."""
    known_source: Endpoint | None = None
    """Where the party is known to send from, though it never sent to this port: it starts confirmed there."""
    split: bool = False
    """RTCP that arrives here goes on by the rule of the port above: this party has RTP and RTCP on one port (RFC 5761),
    the other party has not. What is learned here is learned for both rules that send to this party."""
    joined: bool = False
    """Packets leave from the port below `source`: the other party has RTP and RTCP on one port, this one has not."""
    treatment: Treatment = Treatment.PASS
    event_types: tuple[int, ...] = ()
    """Payload types of telephone-event (RFC 4733), at most two."""
    fills: tuple[tuple[int, int], ...] = ()
    """(payload type, byte of silence in its encoding)."""


class Path(enum.Enum):
    """Where a stream is forwarded, or why it is not on the fast path. The value is what `hairpin show` prints."""

    FAST = "fast path"
    NO_PACKET = "no packet yet"
    NO_DESTINATION = "destination not known yet"
    REFUSED = "destination refused"
    NO_NEXT_HOP = "next hop not resolved"
    NOT_ATTACHED = "no XDP program on the interface"
    BLOCKED = "blocked by command"
    SOCKET = "userspace socket"
    MEMORY = "memory data plane forwards nothing"


@dataclass(slots=True)
class StreamState:
    """What the data plane knows of one rule: the packets that arrived at its port, and from where."""

    packets: int = 0
    bytes: int = 0
    """UDP payload, as the peer counts it."""
    drops: int = 0
    last_drop: str | None = None
    """Name of the last drop reason of this port (ebpf/counters.inc)."""
    ssrc: int | None = None
    highest_sequence: int | None = None
    payload_type: int | None = None
    expected: int = 0
    """RTP packets expected, all SSRCs (RFC 3550 A.3)."""
    received: int = 0
    duplicates: int = 0
    reordered: int = 0
    jitter_ms: float | None = None
    """Interarrival jitter (RFC 3550 A.8) on sampled pairs of packets."""
    foreign: int = 0
    """Packets from another source than the expected one."""
    observed_source: Endpoint | None = None
    """Where the party really sends from, once a packet has arrived."""
    confirmed: bool = False
    path: Path = Path.NO_PACKET

    @property
    def lost(self) -> int:
        """Expected minus received; negative where duplicates outnumber losses (RFC 3550 A.3)."""
        return self.expected - self.received


@dataclass(slots=True, eq=False)
class Deed:
    """Whose a call is, and which of two records of it is the later one. All branches of a call share one.

    `incarnation` tells two calls that had the same Call-ID one after the other apart, `term` counts owners, `version`
    the changes under one owner.
    """

    incarnation: str = ""
    term: int = 0
    owner: int = 0
    """Redis keyspace of the node that owns it."""
    version: int = 0
    foreign: bool = False
    """Another node owns it: held ready here."""


class LocalMedia(NamedTuple):
    """What the relay puts into one m-line towards the other party; `rtp` None rejects the section (port 0).

    `rtcp` is None for a protocol without RTCP; with `rtcp_mux` it equals `rtp` or stands beside it as the fallback.
    Media that goes past the relay (MSRP) has the sender's own endpoint.
    """

    rtp: Endpoint | None
    rtcp: Endpoint | None = None
    rtcp_mux: bool = False
    direction: Direction = Direction.SENDRECV
    held: bool = False
    """Write 0.0.0.0 as the connection address: the sender used RFC 2543 hold."""
    protocol: str | None = None
    """Write this transport protocol into the m-line; None leaves the sender's."""
