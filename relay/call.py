"""A call: two legs, their media, and what offers and answers (RFC 3264) make of them. No I/O, no clock.

    Call --- Leg (a party, under all tags it goes by) --- Media (an m-line) --- Stream (RTP), Stream (RTCP)

Leg 0 is who made the first offer. Each leg has its own pair of ports per m-line: where that party sends to, and where
the other's media comes from. Where a proxy tells branches of a forked call apart, each of them is a call of its own
under the same Call-ID (relay.dialogs). What one offer or answer does to one m-line:

    m-line       event                          then   ports
    ----------   ----------------------------   ----   -------------------------------------------------------------
    no ports     offer, port 0                  none   none
    no ports     offer                          live   a pair is drawn on both legs
    live         offer, same endpoint           live   stay
    live         offer, endpoint moved          live   a new pair towards the other leg
    live         offer, moved, not receiving    live   stay (hold), as they do with ICE or port-latching
    live         offer, other interface asked   live   a new pair there
    live         offer, port 0                  live   stay until answered: the offer may yet be refused
    live         answer                         live   stay; replaced pairs are let go
    live         answer, port 0 on either side  none   all pairs of the line are let go
    no ports     answer                         none   none: what was not offered is rejected

What was in force of an answered line is in force until the next answer (relay.media.Held); a re-offer adds ports to it
and changes none. A party's epoch counts changes of its signalled endpoint; where it stays, nothing is learned anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from relay.errors import PortsExhausted
from relay.interfaces import Places, draw, version
from relay.leg import NO_TREATMENTS, Leg, strongest, switched
from relay.media import ON, REJECTED, Held, Line, Media, Mux, Stream, converts, passed
from relay.ports import Interface
from relay.signal import DEFAULT_TOS, Signal, Who
from relay.types import Deed, Endpoint, Learning, LocalMedia, MediaDescription, Rule, StreamState, Treatment

__all__ = ["DEFAULT_TOS", "Call", "Leg", "Line", "Media", "Mux", "Signal", "Stream", "Who", "family"]

MAX_NAMES = 32
"""Tags remembered of one party."""
MAX_DELETE_DELAY = 3600.0
"""Seconds that a proxy may have a deleted call go on for."""

MESSAGE = "message"
"""The kind of media that is not relayed (MSRP, RFC 4975): it passes with its party's own address."""

_DELAYED: Final = Learning.DELAYED
_Move = tuple["Leg", "Media", Places]


class Call:
    """Two parties under a Call-ID. `near` and `far` below: who speaks, and the other one."""

    __slots__ = (
        "answered",
        "awake",
        "branch",
        "call_id",
        "callback",
        "controller",
        "counted",
        "created",
        "deed",
        "deleted",
        "due",
        "fork",
        "freed",
        "gone_rtcp",
        "gone_rtp",
        "last_signal",
        "learning",
        "legs",
        "media_handover",
        "own",
        "plan",
        "rules",
        "screen",
        "strict_source",
        "tags",
        "told",
        "tos",
        "treatments",
        "unsure",
    )

    def __init__(
        self,
        call_id: str,
        places: tuple[Places, Places],
        own: frozenset[str],
        screen: Callable[[Endpoint, str], str | None],
        now: float,
    ) -> None:
        self.call_id = call_id
        self.created = self.last_signal = now
        self.legs = (Leg(places[0], now), Leg(places[1], now))
        self.own = own
        """The relay's addresses."""
        self.tags: dict[str, int] = {}
        """All tags, and the leg each names."""
        self.branch: str | None = None
        """The branch of the Via by which the proxy tells it from its sisters."""
        self.fork: list[Call] | None = None
        """All calls under this Call-ID, where there was ever more than this one."""
        self.deed = Deed()
        """Whose it is; branches share it."""
        self.screen = screen
        self.answered = False
        """Finally: not by a provisional answer alone."""
        self.controller = ""
        """IP address of the proxy that spoke last."""
        self.callback: str | None = None
        """Who is to be told instead of the proxy if the call ends for want of media; opaque to relay."""
        self.deleted: float | None = None
        """When the delete delay ends; None while the call stands."""
        self.due = 0.0
        """When the timers look at it next."""
        self.plan = 0
        """The number under which they have that (relay.timers.Agenda)."""
        self.counted = -1
        """What it is counted as, where it stands for all of its Call-ID (relay.standing.Census)."""
        self.awake = now
        """Since when silence counts against it: before, nobody here could have heard it, or was to judge."""
        self.tos: int | None = 0
        self.strict_source = False
        self.media_handover = False
        self.learning = _DELAYED
        self.treatments = NO_TREATMENTS
        """What was ordered for all media of the call."""
        self.rules: dict[Endpoint, Rule] = {}
        """What the data plane holds."""
        self.unsure: list[Rule] = []
        """What it was given last, where that failed."""
        self.freed: list[tuple[Interface, int]] = []
        """Pairs let go by the last step, to be given back once their rules are out of force."""
        self.gone_rtp = StreamState()
        self.gone_rtcp = StreamState()
        """Totals of ports that are no longer this call's."""
        self.told: tuple[StreamState, StreamState] | None = None
        """Of a call that was read and does not stand yet: what its ports, RTP and RTCP, had counted by then."""

    # -- who is who

    def members(self) -> list[Call]:
        """All calls under this Call-ID, one per branch, this one included, oldest first."""
        return [self] if self.fork is None else self.fork

    @property
    def over(self) -> bool:
        """Whether all branches are deleted, and wait for the end of their delete delay."""
        if self.fork is None:
            return self.deleted is not None
        return all(member.deleted is not None for member in self.fork)

    def name(self, leg: int, tag: str | None, first: bool = False) -> None:
        """Let `tag` name a leg from now on, unless it names the other; with `first`, before its other names."""
        if tag is None:
            return
        names = self.legs[leg].tags
        if tag not in self.tags:
            if len(names) > MAX_NAMES:
                del self.tags[names.pop(1)]
            self.tags[tag] = leg
            names.append(tag)
        if first and tag in names and names[0] != tag:
            names.remove(tag)
            names.insert(0, tag)

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
        self,
        number: int,
        descriptions: Sequence[MediaDescription],
        signal: Signal,
        now: float,
        places: tuple[Places, Places] | None = None,
    ) -> list[LocalMedia]:
        """The party of leg `number` offers: what its peer is to see. Raises PortsExhausted and leaves all as it was.

        `places`: where the ports of that party and of its peer are to be, None for where they are.
        """
        near, far = self.legs[number], self.legs[1 - number]
        self._extend(len(descriptions))
        self._draw(near, far, descriptions, signal, now, places or (near.places, far.places))
        self._hear(near, signal, now)
        if signal.set_label is not None:
            far.label = signal.set_label
        shown = []
        for mine, theirs, description in zip(near.medias, far.medias, descriptions, strict=False):
            before, mine.description = mine.description, description
            if description.rejected or theirs.port is None or description.kind == MESSAGE:
                shown.append(passed(description) if description.kind == MESSAGE else REJECTED)
                continue
            line = mine.line
            if description.is_rtp is not line.is_rtp:
                self._hold(mine.index)
            line.offered(description)
            muxed = description.is_rtp and mine.offer_mux(theirs, description.rtcp_mux, signal.mux)
            self._point(near, mine, description, signal)
            if signal.reset:
                for stream in mine.streams:
                    stream.forget()
            shown.append(theirs.shown(description, muxed, _profile(description, before, theirs, signal.transport)))
        return shown

    def answer(
        self, number: int, descriptions: Sequence[MediaDescription], signal: Signal, now: float
    ) -> list[LocalMedia]:
        """The party of leg `number` answers: what the offerer is to see. The same answer again changes nothing."""
        near, far = self.legs[number], self.legs[1 - number]
        self._extend(len(descriptions))
        self._hear(near, signal, now)
        self.answered |= not signal.provisional
        shown = []
        for mine, theirs, description in zip(near.medias, far.medias, descriptions, strict=False):
            offered = theirs.description
            mine.description = description
            message = description.kind == MESSAGE
            if description.rejected or message or (offered is not None and offered.rejected):
                self._let_go(mine.index)
            if mine.port is None:
                shown.append(passed(description) if message and offered is not None else REJECTED)
                continue
            mine.line.answered = True
            if mine.line.is_rtp:
                mine.answer_mux(theirs, description.rtcp_mux)
            self._point(near, mine, description, signal)
            own = offered.protocol if offered is not None else description.protocol
            kept = own if own != description.protocol and converts(description.protocol, own) else None
            shown.append(theirs.shown(description, mine.line.is_rtp and theirs.mux is ON, kept))
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

    def screen_again(self) -> None:
        """What may be sent to, or from where, has changed."""
        for media, _ in self.sides():
            self._screen(media)

    def close(self) -> None:
        """Let go of all ports."""
        for index in range(len(self.legs[0].medias)):
            self._let_go(index)
        self._settle()

    def restored(self) -> None:
        """Find out what follows from what was read of it."""
        self._take_orders()
        self.screen_again()

    # -- treatments

    def treat(self, who: Who, treatment: Treatment, on: bool) -> bool:
        """Switch a treatment for one party's media or, with none named, for all; whether the party is in this call."""
        if who.tag is None and who.label is None and who.address is None:
            self.treatments = switched(self.treatments, treatment, on)
            meant = list(self.legs) if who.each and not on else []
        else:
            meant = [leg for leg in self.legs if leg.is_meant(who)]
            if not meant:
                return False
        for leg in meant:
            leg.treatments = switched(leg.treatments, treatment, on)
        self._take_orders()
        return True

    def _take_orders(self) -> None:
        """The strongest treatment that was ordered for a party is its own."""
        for leg in self.legs:
            leg.treatment = strongest(leg.treatments | self.treatments)

    def follow(self, sister: Call, number: int) -> None:
        """Begin beside a call that stands, with the party of its leg `number` as the offerer."""
        self.learning = sister.learning
        self.treatments = sister.treatments
        party, before = self.legs[0], sister.legs[number]
        party.label, party.memory, party.treatments = before.label, before.memory, before.treatments
        self._take_orders()

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
        if signal.controller:
            self.controller = signal.controller
        if signal.callback is not None:
            self.callback = signal.callback

    def _draw(
        self,
        near: Leg,
        far: Leg,
        descriptions: Sequence[MediaDescription],
        signal: Signal,
        now: float,
        places: tuple[Places, Places],
    ) -> None:
        """Draw all pairs an offer needs, or none."""
        here, there = places
        wanted: list[_Move] = []
        for mine, theirs, description in zip(near.medias, far.medias, descriptions, strict=False):
            if description.rejected or description.kind == MESSAGE:
                continue
            if mine.port is None:
                wanted += ((near, mine, here), (far, theirs, there))
                continue
            if mine.interface not in here:
                wanted.append((near, mine, here))
            stays = signal.port_latching or description.ice
            moved = not stays and mine.moved(description, _endpoint(description.rtp, near, signal))
            if moved or theirs.interface not in there:
                wanted.append((far, theirs, there))
        drawn: list[tuple[Interface, int]] = []
        try:
            for _, _, where in wanted:
                drawn.append(draw(where, now))
        except PortsExhausted:
            for interface, port in drawn:
                interface.pool.release(port, now)
            raise
        near.places, far.places = places
        for (_, media, _), (interface, port) in zip(wanted, drawn, strict=True):
            if media.port is not None:
                self._replace(media, media.port)
            media.take(port, interface)
        if wanted:
            self.screen_again()  # for other addresses of ours, and lest a port drawn is one that a party has named

    def _replace(self, media: Media, port: int) -> None:
        """Set a pair aside until the answer; one that nobody has sent to by an answer is let go."""
        self._hold(media.index)
        held = media.line.held
        assert media.interface is not None
        pair = media.interface, port
        in_force = held is not None and any(rule.local == media.rtp.local for kept in held.rules for rule in kept)
        if held is not None and in_force:
            held.pairs.append(pair)
        else:
            self.freed.append(pair)

    def _hold(self, index: int) -> None:
        """Keep what is in force of an answered m-line until the next answer."""
        first, second = (leg.medias[index] for leg in self.legs)
        if first.line.held is None and first.line.answered:
            first.line.held = Held(self._in_force(first), self._in_force(second))

    def _in_force(self, media: Media) -> list[Rule]:
        locals_ = [stream.local for stream in media.streams]
        return [self.rules[local] for local in locals_ if local is not None and local in self.rules]

    def _let_go(self, index: int) -> None:
        """Free the pairs of one m-line on both legs."""
        for leg in self.legs:
            media = leg.medias[index]
            media.line.answered = False
            if media.port is not None and media.interface is not None:
                self.freed.append((media.interface, media.port))
                media.drop()

    def _settle(self) -> None:
        """Free the pairs that waited for the answer."""
        for media in self.legs[0].medias:
            held = media.line.held
            if held is not None:
                self.freed += held.pairs
                media.line.held = None

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
                stream.refusal = self._refusal(stream.signalled, stream.local.ip)

    def _refusal(self, endpoint: Endpoint, local_ip: str) -> str | None:
        """Why nothing is sent from an address of this relay to an endpoint, or None."""
        own = "a port of this very call" if self._owns(endpoint) else None
        return own or self.screen(endpoint, local_ip)

    def screened(self, endpoint: Endpoint | None, local_ip: str) -> Endpoint | None:
        """An endpoint, or None where nothing is sent to it."""
        return endpoint if endpoint is not None and self._refusal(endpoint, local_ip) is None else None

    def _owns(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint is one of this call's own ports, as bound or as advertised."""
        return endpoint.ip in self.own and any(
            port == endpoint.port & ~1 and endpoint.ip in (interface.address, interface.advertised)
            for interface, port in self.pairs()
        )

    def pairs(self) -> list[tuple[Interface, int]]:
        """All pairs of ports it has drawn, but for those it let go."""
        found = []
        for media, _ in self.sides():
            if media.port is not None and media.interface is not None:
                found.append((media.interface, media.port))
        for media in self.legs[0].medias:
            if media.line.held is not None:
                found += media.line.held.pairs
        return found


def family(descriptions: Sequence[MediaDescription], signal: Signal) -> int:
    """The IP version of the sender's media, 0 where it has none.

    A hold to 0.0.0.0 says nothing of it, as parties of both families write that.
    """
    for description in descriptions:
        if description.rtp is not None and not (description.held and version(description.rtp.ip) == 4):
            sourced = signal.received_from if signal.sip_source else None
            return version(sourced or description.rtp.ip)
    return 0


def _endpoint(signalled: Endpoint | None, leg: Leg, signal: Signal) -> Endpoint | None:
    """The endpoint an SDP gives, or the address its SIP came from where that is asked for."""
    if signalled is None or not signal.sip_source:
        return signalled
    ip = signal.received_from or leg.received_from
    return Endpoint(ip, signalled.port) if ip is not None else signalled


def _profile(
    description: MediaDescription, before: MediaDescription | None, theirs: Media, wanted: str | None
) -> str | None:
    """The profile that the other party is offered, None for the sender's.

    The one the proxy asks for or, in a re-offer that keeps to the sender's, the one the other party has.
    """
    protocol = description.protocol
    if wanted is None and before is not None and before.protocol == protocol and theirs.description is not None:
        wanted = theirs.description.protocol
    if wanted is None or wanted.upper() == protocol.upper() or not converts(protocol, wanted):
        return None
    return wanted
