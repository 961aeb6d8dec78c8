"""A call: two legs, their media, and what offers and answers (RFC 3264) make of them. No I/O, no clock.

    Call --- Leg (a party, under all tags it goes by) --- Media (an m-line) --- Stream (RTP), Stream (RTCP)

Leg 0 is who made the first offer. Each leg has its own pair of ports per m-line: where that party sends to, and where
the other's media comes from. What one offer or answer does to one m-line:

    m-line       event                          then   ports
    ----------   ----------------------------   ----   -------------------------------------------------------------
    no ports     offer, port 0                  none   none
    no ports     offer                          live   a pair is drawn on both legs
    live         offer, same endpoint           live   stay
    live         offer, endpoint moved          live   a new pair towards the other leg; its old one retires
    live         offer, moved, not receiving    live   stay (hold), as they do with port-latching
    live         offer, port 0                  live   stay until answered: the offer may yet be refused
    live         answer                         live   stay; retired pairs are let go
    live         answer, port 0 on either side  none   all pairs of the line are let go
    no ports     answer                         none   none: what was not offered is rejected

A retired pair keeps the rules it had, so that media in flight still arrives: a party moves over only when it has seen
the offer. A party's epoch counts changes of its signalled endpoint; where it stays, nothing is learned anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from relay.errors import PortsExhausted
from relay.media import REJECTED, Line, Media, Mux, Retired, Stream
from relay.ports import Interface
from relay.types import Endpoint, Learning, LocalMedia, MediaDescription, Rule, StreamState

__all__ = ["Call", "Leg", "Line", "Media", "Mux", "Retired", "Signal", "Stream", "Who"]

MAX_NAMES = 32
"""Tags and branches remembered of one call."""

DEFAULT_TOS = 256
"""In `Signal.tos`: what the daemon was told."""


class Signal(NamedTuple):
    """What one offer or answer says about a call beside its media."""

    received_from: str | None = None
    """IP address the signalling came from."""
    sip_source: bool = False
    """Take `received_from` for the SDP's address (`SIP-source-address`)."""
    tos: int = DEFAULT_TOS
    """The whole TOS byte; negative leaves each packet's own, 256 and above is the daemon's default."""
    strict_source: bool = False
    media_handover: bool = False
    asymmetric: bool = False
    """The sender's media comes from elsewhere than its SDP says: nothing is learned of it."""
    port_latching: bool = False
    learning: Learning | None = None
    direction: tuple[str, ...] = ()
    """Names of the interfaces towards the sender and towards the other party."""
    via_branch: str | None = None
    label: str | None = None
    set_label: str | None = None
    """A label for the other party."""
    family: int = 0
    """IP version (4 or 6) of the relay's address towards the other party; 0 for that of the sender's media."""
    mux: tuple[str, ...] = ()
    """Words of `rtcp-mux`: offer, require, demux, accept, reject."""
    transport: str | None = None
    """`transport-protocol`: what the other party's m-lines are to say."""
    reset: bool = False
    """Begin anew: new ports, nothing of what was learned."""
    new_branch: bool = False
    """A to-tag that was never seen is another party, not another name of the one that was offered to."""
    provisional: bool = False
    """The answer is not final (`provisional`, or a SIP code below 200)."""
    controller: str = ""
    """IP address of the proxy that sent the command."""


class Who(NamedTuple):
    """Which party of a call a command means, by one of these; none: all of the call."""

    tag: str | None = None
    label: str | None = None
    address: str | None = None
    """IP address of its media or signalling."""
    each: bool = False
    """With no party named: what was switched on for single parties goes off as well."""


class Leg:
    """One party of a call."""

    __slots__ = ("asymmetric", "created", "interface", "label", "medias", "memory", "received_from", "tags")

    def __init__(self, interface: Interface, now: float) -> None:
        self.interface = interface
        self.created = now
        self.tags: list[str] = []
        """The first one names the leg; more are forks answered on the same ports."""
        self.label: str | None = None
        self.received_from: str | None = None
        self.asymmetric = False
        self.medias: list[Media] = []
        self.memory: object | None = None
        """Whatever the control plane remembers of this party; nothing in here reads it."""

    @property
    def tag(self) -> str:
        """The tag that names the leg, empty until its party has answered."""
        return self.tags[0] if self.tags else ""


class Call:
    """All that stands under one Call-ID. `near` and `far` below: who speaks, and the other one."""

    __slots__ = (
        "answered",
        "branches",
        "call_id",
        "created",
        "deleted",
        "due",
        "freed",
        "gone_rtcp",
        "gone_rtp",
        "last_signal",
        "learning",
        "legs",
        "media_handover",
        "own",
        "rules",
        "screen",
        "strict_source",
        "tags",
        "tos",
        "unsure",
    )

    def __init__(
        self,
        call_id: str,
        interfaces: tuple[Interface, Interface],
        screen: Callable[[Endpoint, str], str | None],
        now: float,
    ) -> None:
        self.call_id = call_id
        self.created = self.last_signal = now
        self.legs = (Leg(interfaces[0], now), Leg(interfaces[1], now))
        self.own = {ip for interface in interfaces for ip in (interface.address, interface.advertised)}
        """The relay's addresses in this call."""
        self.tags: dict[str, int] = {}
        """All tags, and the leg each names."""
        self.branches: list[str] = []
        self.screen = screen
        self.answered = False
        self.deleted: float | None = None
        """When the delete delay ends; None while the call stands."""
        self.due = 0.0
        """When the timers look at it next."""
        self.tos: int | None = 0
        self.strict_source = False
        self.media_handover = False
        self.learning = Learning.DELAYED
        self.rules: dict[Endpoint, Rule] = {}
        """What the data plane holds."""
        self.unsure: list[Rule] = []
        """What it was given last, where that failed."""
        self.freed: list[tuple[Interface, int]] = []
        """Pairs let go by the last step, to be given back once their rules are out of force."""
        self.gone_rtp = StreamState()
        self.gone_rtcp = StreamState()
        """Totals of ports that are no longer this call's."""

    # -- who is who

    def members(self) -> list[Call]:
        """All calls under this Call-ID, one per branch, this one included, oldest first."""
        return [self]

    def name(self, leg: int, tag: str | None) -> None:
        """Let `tag` name a leg from now on, unless it names one already."""
        if tag is not None and tag not in self.tags:
            names = self.legs[leg].tags
            if len(names) > MAX_NAMES:
                del self.tags[names.pop(1)]
            self.tags[tag] = leg
            names.append(tag)

    def branch(self, via_branch: str) -> None:
        """Remember a branch that was offered."""
        if via_branch not in self.branches:
            self.branches.append(via_branch)
            del self.branches[:-MAX_NAMES]

    def streams(self) -> Iterator[tuple[Media, Stream]]:
        """All streams that have a rule."""
        for leg in self.legs:
            for media in leg.medias:
                for stream in media.streams:
                    yield media, stream

    def sides(self) -> Iterator[tuple[Media, Media]]:
        """Each m-line twice: as each party has it, with the other's beside it."""
        for first, second in zip(self.legs[0].medias, self.legs[1].medias, strict=True):
            yield first, second
            yield second, first

    # -- offer and answer

    def offer(
        self, number: int, descriptions: Sequence[MediaDescription], signal: Signal, now: float
    ) -> list[LocalMedia]:
        """The party of leg `number` offers: what its peer is to see. Raises PortsExhausted and leaves all as it was."""
        near, far = self.legs[number], self.legs[1 - number]
        self._extend(len(descriptions))
        self._draw(near, far, descriptions, signal, now)
        self._hear(near, signal, now)
        shown = []
        for mine, theirs, description in zip(near.medias, far.medias, descriptions, strict=False):
            mine.description = description
            if description.rejected or theirs.port is None:
                shown.append(REJECTED)
                continue
            mine.line.offered(description)
            self._point(near, mine, description, signal)
            shown.append(theirs.shown(description))
        return shown

    def answer(
        self, number: int, descriptions: Sequence[MediaDescription], signal: Signal, now: float
    ) -> list[LocalMedia]:
        """The party of leg `number` answers: what the offerer is to see. The same answer again changes nothing."""
        near, far = self.legs[number], self.legs[1 - number]
        self._extend(len(descriptions))
        self._hear(near, signal, now)
        self.answered = True
        shown = []
        for mine, theirs, description in zip(near.medias, far.medias, descriptions, strict=False):
            offered = theirs.description
            mine.description = description
            if description.rejected or (offered is not None and offered.rejected):
                self._let_go(mine.index)
            if mine.port is None:
                shown.append(REJECTED)
                continue
            muxed = description.rtcp_mux and offered is not None and offered.rtcp_mux
            mine.line.mux = Mux.ON if muxed else Mux.OFF
            self._point(near, mine, description, signal)
            shown.append(theirs.shown(description))
        self._settle()
        return shown

    def refusals(self, number: int) -> list[str]:
        """What is signalled for leg `number` but never forwarded to, one text each."""
        return [
            f"media {media.index + 1}: nothing is sent to {stream.signalled}, {stream.refusal}"
            for media in self.legs[number].medias
            for stream in media.streams
            if stream.refusal is not None
        ]

    def close(self) -> None:
        """Let go of all ports."""
        for index in range(len(self.legs[0].medias)):
            self._let_go(index)
        self._settle()

    # -- steps of it

    def _extend(self, lines: int) -> None:
        for index in range(len(self.legs[0].medias), lines):
            line = Line()
            for leg in self.legs:
                leg.medias.append(Media(index, line))

    def _hear(self, leg: Leg, signal: Signal, now: float) -> None:
        """What a message says for the whole leg or call."""
        self.last_signal = now
        leg.asymmetric = signal.asymmetric
        if signal.received_from is not None:
            leg.received_from = signal.received_from
        if signal.label is not None:
            leg.label = signal.label
        if signal.learning is not None:
            self.learning = signal.learning

    def _draw(self, near: Leg, far: Leg, descriptions: Sequence[MediaDescription], signal: Signal, now: float) -> None:
        """Draw all pairs an offer needs, or none."""
        wanted: list[tuple[Leg, Media]] = []
        for mine, theirs, description in zip(near.medias, far.medias, descriptions, strict=False):
            if description.rejected or description.kind == "message":
                continue
            if mine.port is None:
                wanted += ((near, mine), (far, theirs))
            elif not signal.port_latching and mine.moved(description, _endpoint(description.rtp, near, signal)):
                wanted.append((far, theirs))
        drawn: list[int] = []
        try:
            for leg, _ in wanted:
                drawn.append(leg.interface.pool.draw(now))
        except PortsExhausted:
            for (leg, _), port in zip(wanted, drawn, strict=False):
                leg.interface.pool.release(port, now)
            raise
        for (leg, media), port in zip(wanted, drawn, strict=True):
            if media.port is not None:
                self._retire(leg, media)
            media.take(port, leg.interface)
            if media.rtp.signalled is not None:
                self._screen(media)

    def _retire(self, leg: Leg, media: Media) -> None:
        """Set a pair aside until the answer; one that was never answered is let go."""
        assert media.port is not None
        if media.retired:
            self.freed.append((leg.interface, media.port))
            return
        locals_ = (media.rtp.local, media.rtcp.local)
        rules = tuple(self.rules[local] for local in locals_ if local is not None and local in self.rules)
        media.retired.append(Retired(media.port, rules))

    def _let_go(self, index: int) -> None:
        """Free the pairs of one m-line on both legs."""
        for leg in self.legs:
            media = leg.medias[index]
            if media.port is not None:
                self.freed.append((leg.interface, media.port))
                media.drop()

    def _settle(self) -> None:
        """Free the pairs that waited for the answer."""
        for leg in self.legs:
            for media in leg.medias:
                if media.retired:
                    self.freed += ((leg.interface, retired.port) for retired in media.retired)
                    media.retired.clear()

    def _point(self, leg: Leg, media: Media, description: MediaDescription, signal: Signal) -> None:
        """Take over a party's endpoints; 0.0.0.0 is hold, and keeps them."""
        if description.held:
            return
        learning = Learning.OFF if leg.asymmetric else self.learning
        for stream, signalled in ((media.rtp, description.rtp), (media.rtcp, description.rtcp)):
            endpoint = _endpoint(signalled, leg, signal)
            if endpoint is not None:
                stream.point(endpoint, leg.received_from, learning)
        self._screen(media)

    def _screen(self, media: Media) -> None:
        """See whether media may be sent where the party wants it."""
        for stream in (media.rtp, media.rtcp):
            if stream.signalled is not None and stream.local is not None:
                own = "a port of this very call" if self._owns(stream.signalled) else None
                stream.refusal = own or self.screen(stream.signalled, stream.local.ip)

    def _owns(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint is one of this call's own ports, as bound or as advertised."""
        if endpoint.ip not in self.own:
            return False
        port = endpoint.port & ~1
        return any(
            media.port == port or any(retired.port == port for retired in media.retired)
            for leg in self.legs
            if endpoint.ip in (leg.interface.address, leg.interface.advertised)
            for media in leg.medias
        )


def _endpoint(signalled: Endpoint | None, leg: Leg, signal: Signal) -> Endpoint | None:
    """The endpoint an SDP gives, or the address its SIP came from where that is asked for."""
    if signalled is None or not signal.sip_source:
        return signalled
    ip = signal.received_from or leg.received_from
    return Endpoint(ip, signalled.port) if ip is not None else signalled
