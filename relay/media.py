"""Media of a call: m-lines, the streams on their ports, and the endpoints behind them. No I/O, no clock.

RTP and RTCP on one port (RFC 5761) is settled for each party by itself:

    the party                                its mux
    --------------------------------------   ------------------------------------------------------------------
    offers it                                OFFERED until the other party's answer decides; ON if it was
    offers it, `accept` or `demux`           ON, whatever the other answers
    offers it, `reject`                      OFF
    is offered it, as the other offers it    OFFERED until its own answer decides
    (but for `demux`), or by `offer`
    is offered it again, or by `require`     ON until its own answer decides
    was muxed, and is not by this offer      OFFERED until the answer ends it: RTCP may come to either port
    answers                                  what its answer says
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

from relay.ports import Interface
from relay.quality import Heard
from relay.rtcp import Compound, round_trip
from relay.types import Endpoint, Learning, LocalMedia, MediaDescription, Rule

__all__ = ["REJECTED", "Held", "Line", "Media", "Mux", "Stream", "converts", "passed"]

REJECTED = LocalMedia(None)
"""An m-line with port 0."""
SENDER_REPORTS = 4
"""Sender reports of a party whose echo is waited for."""

_PROFILES = {
    "RTP/AVP": "plain",
    "RTP/AVPF": "plain",
    "RTP/SAVP": "SDES",
    "RTP/SAVPF": "SDES",
    "UDP/TLS/RTP/SAVP": "DTLS",
    "UDP/TLS/RTP/SAVPF": "DTLS",
}
"""RTP profiles, and how their media is secured: those of one kind differ by feedback alone (RFC 4585)."""


def converts(protocol: str, wanted: str) -> bool:
    """Whether media of one transport protocol passes as media of another, byte for byte."""
    kind = _PROFILES.get(protocol.upper())
    return kind is not None and kind == _PROFILES.get(wanted.upper())


def passed(description: MediaDescription) -> LocalMedia:
    """Media that goes past the relay: the party itself is what the other one sees."""
    return LocalMedia(description.rtp, direction=description.direction, held=description.held)


class Mux(enum.Enum):
    """Whether a party has RTP and RTCP on one port."""

    OFF = "off"
    OFFERED = "offered"
    """Not answered yet: RTCP may come to either port."""
    ON = "on"

    __hash__ = object.__hash__


# An Enum's members are found by a search, at each time of asking; these are met many times in every offer and answer.
OFF: Final = Mux.OFF
OFFERED: Final = Mux.OFFERED
ON: Final = Mux.ON
_DELAYED: Final = Learning.DELAYED


class Held:
    """What was in force of an m-line when a re-offer changed it, and stays until the answer.

    A party moves over only when it has seen the offer, its NAT knows none but the old ports, and the offer may be
    refused.
    """

    __slots__ = ("count", "pairs", "rules", "seen")

    def __init__(self, first: Sequence[Rule], second: Sequence[Rule]) -> None:
        self.rules = (tuple(first), tuple(second))
        """Of either leg's ports."""
        self.pairs: list[tuple[Interface, int]] = []
        """Replaced pairs, to be let go then."""
        self.count = 0
        """Packets at its ports when the timers last looked."""
        self.seen = 0.0
        """When that number last moved."""


class Line:
    """What both legs share of one m-line."""

    __slots__ = ("answered", "held", "is_rtp", "kind", "one_port", "protocol")

    def __init__(self) -> None:
        self.kind = self.protocol = ""
        self.is_rtp = False
        self.answered = False
        """Both parties know its ports."""
        self.one_port = False
        """Both parties have agreed to RTP and RTCP on one port: there are no rules for RTCP alone."""
        self.held: Held | None = None

    def offered(self, description: MediaDescription) -> None:
        """Take over what an offer makes of the line."""
        self.kind, self.protocol, self.is_rtp = description.kind, description.protocol, description.is_rtp


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
        self.learning = _DELAYED
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
            self.forget()

    def forget(self) -> None:
        """Let it be learned anew where the party sends from."""
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


class Media:
    """One m-line of one leg, and the pair of ports this party sends to."""

    __slots__ = (
        "description",
        "heard",
        "index",
        "interface",
        "line",
        "mux",
        "mux_follows",
        "port",
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
        self.interface: Interface | None = None
        """Where the pair is."""
        self.mux = OFF
        self.mux_follows = False
        """The other party's answer to what this one offered decides about it."""
        self.rtp = Stream()
        self.rtcp = Stream()
        self.shown_rtp: Endpoint | None = None
        """The pair as the party's SDP shows it."""
        self.shown_rtcp: Endpoint | None = None
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
        self.port, self.interface = port, interface
        self.shown_rtp, self.shown_rtcp = Endpoint(interface.address, port), Endpoint(interface.address, port + 1)
        self.rtp.move(self.shown_rtp)
        self.rtcp.move(self.shown_rtcp)
        if interface.advertised != interface.address:
            self.shown_rtp = Endpoint(interface.advertised, port)
            self.shown_rtcp = Endpoint(interface.advertised, port + 1)

    def drop(self) -> None:
        """Use no pair any more."""
        self.port = self.interface = self.rtp.local = self.rtcp.local = self.shown_rtp = self.shown_rtcp = None
        self.rtp.known = self.rtcp.known = None
        self.mux, self.mux_follows = OFF, False

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
        return (self.rtp, self.rtcp) if self.line.is_rtp and not self.line.one_port else (self.rtp,)

    def offer_mux(self, other: Media, offered: bool, words: Sequence[str]) -> bool:
        """This party offers, with mux or without; `words` of the proxy. Whether the other party is offered it."""
        self.mux_follows = False
        if not offered:
            self.mux = OFF if self.mux is OFF else OFFERED
        elif "reject" in words:
            self.mux = OFF
        elif "demux" in words or "accept" in words:
            self.mux = ON
        else:
            self.mux_follows = True
            self.mux = ON if self.mux is ON else OFFERED
        passes = (offered or other.mux is ON) and "demux" not in words
        onward = passes or "offer" in words or "require" in words
        if "require" in words:
            other.mux = ON
        elif onward:
            other.mux = ON if other.mux is ON else OFFERED
        elif other.mux is not OFF:
            other.mux = OFFERED
        self.line.one_port = self.line.one_port and self.mux is other.mux is ON
        return onward

    def answer_mux(self, offerer: Media, accepted: bool) -> None:
        """This party answers the other's offer, with mux or without."""
        self.mux = ON if accepted else OFF
        if offerer.mux_follows:
            offerer.mux = self.mux
        elif offerer.mux is OFFERED:
            offerer.mux = OFF
        self.line.one_port = self.mux is offerer.mux is ON

    def shown(self, other: MediaDescription, muxed: bool, protocol: str | None) -> LocalMedia:
        """This pair as this party is to see it, in place of what the other one signalled."""
        if self.shown_rtp is None:
            return REJECTED
        rtcp = None
        if self.line.is_rtp:
            rtcp = self.shown_rtp if muxed and self.mux is ON else self.shown_rtcp
        return LocalMedia(self.shown_rtp, rtcp, muxed, other.direction, other.held, protocol)
