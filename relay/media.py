"""Media of a call: m-lines, the streams on their ports, and the endpoints behind them. No I/O, no clock."""

from __future__ import annotations

import enum
from typing import NamedTuple

from relay.ports import Interface
from relay.quality import Heard
from relay.rtcp import Compound, round_trip
from relay.types import Endpoint, Learning, LocalMedia, MediaDescription, Rule

__all__ = ["REJECTED", "Line", "Media", "Mux", "Retired", "Stream"]

REJECTED = LocalMedia(None)
"""An m-line with port 0."""
SENDER_REPORTS = 4
"""Sender reports of a party whose echo is waited for."""


class Mux(enum.Enum):
    """RTP and RTCP on one port (RFC 5761), the same on both legs of an m-line."""

    OFF = "off"
    OFFERED = "offered"
    """Not answered yet: RTCP may come to either port."""
    ON = "on"


class Line:
    """What both legs share of one m-line."""

    __slots__ = ("is_rtp", "kind", "mux", "protocol")

    def __init__(self) -> None:
        self.kind = self.protocol = ""
        self.is_rtp = False
        self.mux = Mux.OFF

    def offered(self, description: MediaDescription) -> None:
        """Take over what an offer makes of the line."""
        self.kind, self.protocol, self.is_rtp = description.kind, description.protocol, description.is_rtp
        if description.rtcp_mux and self.mux is not Mux.ON:
            self.mux = Mux.OFFERED
        elif not description.rtcp_mux:
            self.mux = Mux.OFFERED if self.mux is Mux.ON else Mux.OFF


class Stream:
    """RTP or RTCP of one media of one leg: a local port and the party's endpoint behind it."""

    __slots__ = (
        "confirmed",
        "count",
        "epoch",
        "known",
        "learning",
        "local",
        "observed",
        "preferred",
        "refusal",
        "seen",
        "signalled",
    )

    def __init__(self) -> None:
        self.local: Endpoint | None = None
        self.signalled: Endpoint | None = None
        """Where the party wants its media, by its last SDP that was not a hold to 0.0.0.0."""
        self.refusal: str | None = None
        """Why nothing is sent there."""
        self.preferred: str | None = None
        self.learning = Learning.DELAYED
        self.epoch = 0
        self.observed: Endpoint | None = None
        """Where the data plane last said the party sends from, in this epoch."""
        self.confirmed = False
        self.known: Endpoint | None = None
        """Where the party was confirmed to send from before it got this port, in this epoch."""
        self.count = 0
        """Packets when the timers last looked."""
        self.seen = 0.0
        """When that number last moved."""

    @property
    def destination(self) -> Endpoint | None:
        """Where media for this party is sent, as far as its SDP tells."""
        return self.signalled if self.refusal is None else None

    def point(self, endpoint: Endpoint, preferred: str | None, learning: Learning) -> None:
        """Take a signalled endpoint. Nothing happens where it stays as it was."""
        if endpoint != self.signalled or preferred != self.preferred or learning is not self.learning:
            self.signalled, self.preferred, self.learning = endpoint, preferred, learning
            self.epoch += 1
            self.observed = self.known = None
            self.confirmed = False

    def move(self, local: Endpoint) -> None:
        """Take another port. A source that was right by what is signalled needs no second proof there."""
        if self.local is not None:
            self.count = 0
            trusted = (self.signalled.ip if self.signalled is not None else None, self.preferred)
            good = self.confirmed and self.observed is not None and self.observed.ip in trusted
            self.known = self.observed if good else None
        self.local = local


class Retired(NamedTuple):
    """A pair that a re-offer replaced, in force as it was until the answer."""

    port: int
    rules: tuple[Rule, ...]


class Media:
    """One m-line of one leg, and the pair of ports this party sends to."""

    __slots__ = (
        "description",
        "heard",
        "index",
        "line",
        "port",
        "retired",
        "rtcp",
        "rtp",
        "sender_reports",
        "shown_rtcp",
        "shown_rtp",
    )

    def __init__(self, index: int, line: Line) -> None:
        self.index = index
        self.line = line
        self.description: MediaDescription | None = None
        """What the party last signalled."""
        self.port: int | None = None
        """The even port of the pair."""
        self.rtp = Stream()
        self.rtcp = Stream()
        self.shown_rtp: Endpoint | None = None
        """The pair as the party's SDP shows it."""
        self.shown_rtcp: Endpoint | None = None
        self.retired: list[Retired] = []
        self.heard: Heard | None = None
        """What this party's RTCP said of the media it gets."""
        self.sender_reports: dict[int, float] = {}
        """When this party's last few sender reports passed, by their NTP timestamps."""

    def report(self, compound: Compound, other: Media, now: float) -> None:
        """This party sent RTCP; `other` is the media it reports on."""
        if compound.sender is not None:
            self.sender_reports[compound.sender.ntp] = now
            while len(self.sender_reports) > SENDER_REPORTS:
                del self.sender_reports[next(iter(self.sender_reports))]
        for block in compound.blocks[:1]:
            sent = other.sender_reports.get(block.last_report) if block.last_report else None
            trip = round_trip(sent, now, block.delay) if sent is not None else None
            if self.heard is None or self.heard.ssrc != block.ssrc:
                self.heard = Heard(block.ssrc)
            self.heard.add(block, other.clock, trip, now)

    @property
    def clock(self) -> int:
        """The RTP clock of what this party sends, in Hz."""
        types = self.description.payload_types if self.description is not None else ()
        return types[0].clock if types else 8000

    def sends_to(self, other: Media) -> bool:
        """Whether this party is to send, by what both have signalled."""
        mine, theirs = self.description, other.description
        return (mine is None or mine.direction.sends) and (theirs is None or theirs.direction.receives)

    def take(self, port: int, interface: Interface) -> None:
        """Use a pair from now on."""
        self.port = port
        self.shown_rtp, self.shown_rtcp = Endpoint(interface.address, port), Endpoint(interface.address, port + 1)
        self.rtp.move(self.shown_rtp)
        self.rtcp.move(self.shown_rtcp)
        if interface.advertised != interface.address:
            self.shown_rtp = Endpoint(interface.advertised, port)
            self.shown_rtcp = Endpoint(interface.advertised, port + 1)

    def drop(self) -> None:
        """Use no pair any more."""
        self.port = self.rtp.local = self.rtcp.local = self.shown_rtp = self.shown_rtcp = None
        self.rtp.known = self.rtcp.known = None

    def moved(self, description: MediaDescription, endpoint: Endpoint | None) -> bool:
        """Whether an offer moves the party, so that the other one is shown a new pair."""
        known = self.rtp.signalled
        receives = description.direction.receives and not description.held
        return receives and endpoint is not None and known is not None and endpoint != known

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams that have a rule."""
        if self.port is None:
            return ()
        return (self.rtp, self.rtcp) if self.line.is_rtp and self.line.mux is not Mux.ON else (self.rtp,)

    def shown(self, other: MediaDescription) -> LocalMedia:
        """This pair as this party is to see it, in place of what the other one signalled."""
        if self.shown_rtp is None:
            return REJECTED
        line = self.line
        rtcp = None
        if line.is_rtp:
            rtcp = self.shown_rtp if line.mux is Mux.ON else self.shown_rtcp
        return LocalMedia(self.shown_rtp, rtcp, line.mux is not Mux.OFF, other.direction, other.held)
