"""All calls of this relay, and what commands make of them.

Each change of a call runs the same way: the call decides (relay.call), its rules are compared with those in force
(relay.flows), the data plane takes the difference, and ports that were let go return to their pool. If any of it fails
for a new call, nothing of it is left. Then the keeper is told (relay.keeper). A command may name a call that the keeper
has yet to restore, or one of another node: it is this node's from then on, and stays on its addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from relay.call import DEFAULT_TOS, MAX_DELETE_DELAY, Call, Leg, Signal, Who, family
from relay.dataplane import Dataplane
from relay.dialogs import answered, deleted, offered
from relay.errors import CallError, HairpinError
from relay.interfaces import Places
from relay.ports import Interface
from relay.receiving import Receiving
from relay.settings import Settings
from relay.standing import Tally
from relay.timers import glance
from relay.types import LocalMedia, MediaDescription, Treatment

__all__ = ["LoadLimit", "Outcome", "Registry", "Settings", "Tally"]

MAX_BRANCHES = 32
"""Branches of one Call-ID that stand at once."""


SESSION_LIMIT = "Parallel session limit reached"
"""Why no call is added to those that stand. Kamailio compares it to the letter."""


class LoadLimit(HairpinError):
    """An offer that would make a new call came while the relay takes none; the text says why."""

    def __init__(self, text: str = SESSION_LIMIT) -> None:
        super().__init__(text)


class Outcome(NamedTuple):
    """What came of an offer or answer: one entry per m-line for the other party's SDP, and what to warn of."""

    call: Call
    media: list[LocalMedia]
    warnings: list[str]
    far: Leg
    """The party that is shown `media`."""
    fresh: bool = False
    """The offer made the call."""


class Registry(Receiving):
    """Calls and what keeps them: ports, rules, timers. Is the data plane's listener."""

    def __init__(
        self,
        plane: Dataplane,
        interfaces: Sequence[Interface],
        settings: Settings,
        clock: Callable[[], float],
        on_close: Callable[[Call, str], None] = lambda call, reason: None,
    ) -> None:
        super().__init__(plane, interfaces, settings, clock, on_close)
        self.refuse: Callable[[], str | None] = _admit
        """Asked before a call is made: the text of the limit that keeps it out, or None."""
        self.draining = False
        """No call is made; those that stand are served."""

    # -- commands

    def offer(
        self,
        call_id: str,
        from_tag: str,
        to_tag: str | None,
        media: Sequence[MediaDescription],
        signal: Signal,
        now: float,
    ) -> Outcome:
        """An offer, which is then to be `passed_on` or `abandon`ed.

        Raises LoadLimit, PortsExhausted, CallError or DataplaneError; nothing is left of a new call then.
        """
        head = self._named(call_id)
        signal = self._sourced(signal)
        warnings: list[str] = []
        found = None if head is None else offered(head, from_tag, to_tag, signal)
        call, number = found or (self._make(call_id, head, from_tag, media, signal, now, warnings), 0)
        places = self._relocated(call, number, media, signal, warnings) if found is not None else None
        try:
            shown = call.offer(number, media, signal, now, places)
            call.name(number, from_tag)
            call.name(1 - number, to_tag)
            self._set(call, signal)
            call.strict_source, call.media_handover = signal.strict_source, signal.media_handover
            self._apply(call, now)
        except Exception:
            if found is None:
                self.tally.rejected += head is None
                self._drop(call, now)
            raise
        if found is None:
            self._enter(call, head, now)
        elif call.deleted is not None:
            call.answered = False
            self._revive(call, now)
        warnings += call.refusals(number)
        return Outcome(call, shown, warnings, call.legs[1 - number], found is None)

    def answer(
        self,
        call_id: str,
        from_tag: str,
        to_tag: str,
        media: Sequence[MediaDescription],
        signal: Signal,
        now: float,
    ) -> Outcome:
        """An answer to the offer of `from_tag`, to be `passed_on` too. Raises UnknownCall, CallError or DataplaneError.

        It revives a deleted call as an offer does: of a forked call, one branch failed and another was taken.
        """
        head = self.query(call_id)
        signal = self._sourced(signal)
        call, number = answered(head, from_tag, to_tag, signal) or self._branch_off(head, from_tag, signal, now)
        call.name(number, to_tag, first=not (signal.provisional or call.answered))
        self._set(call, signal)
        call.strict_source |= signal.strict_source
        call.media_handover |= signal.media_handover
        shown = call.answer(number, media, signal, now)
        self._apply(call, now)
        if call.deleted is not None:
            self._revive(call, now)
        return Outcome(call, shown, call.refusals(number), call.legs[1 - number])

    def treat(self, call_id: str, who: Who, treatment: Treatment, on: bool, now: float) -> Call:
        """Block or silence the media of a party or of all, or no longer. Raises UnknownCall, CallError, DataplaneError.

        Each treatment is switched for itself, and holds over later offers and answers; of several the strongest works.
        What was ordered for all of a call leaves what was ordered for single parties (but for `Who.each`).
        """
        head = self.query(call_id)
        meant = [member for member in head.members() if member.treat(who, treatment, on)]
        if not meant:
            raise CallError(f"No party of the call has the {who}")
        for member in meant:
            self._apply(member, now)
        self._changed(head)
        return head

    def delete(
        self,
        call_id: str,
        now: float,
        from_tag: str | None = None,
        to_tag: str | None = None,
        via_branch: str | None = None,
        match_to_tag: bool = False,
        delay: float | None = None,
        controller: str = "",
    ) -> Call | None:
        """End a call or a branch of it after `delay` seconds, the delete delay if None; None where no call matches.

        Its media passes until then. A delay that is over already is for `finish` to act on, so that the caller can read
        the call's counters before. `controller` is the address of the proxy that asks for it.
        """
        head = self._named(call_id)
        if head is None and via_branch is None:
            self.keeper.dismiss(call_id)
        meant = deleted(head, from_tag, to_tag, via_branch, match_to_tag) if head is not None else None
        if head is None or not meant:
            return None
        seconds = self.settings.delete_delay if delay is None or delay < 0 else min(delay, MAX_DELETE_DELAY)
        for call in meant:
            call.controller = controller or call.controller
            call.deleted = now + seconds if call.deleted is None else min(now + seconds, call.deleted)
            self._agenda.plan(call, call.deleted)
        if seconds > 0 or not head.over:
            self._changed(head)
        else:
            self._census.note(head)  # the end follows at once, and is told by itself
        return meant[0]

    def passed_on(self, outcome: Outcome) -> None:
        """What an offer or answer made of a call is on its way to the other party: it is kept from now on."""
        self._changed(outcome.call.members()[0])

    def abandon(self, outcome: Outcome, now: float) -> None:
        """Take back a call or branch whose first offer could not be passed on; one that stood before stays."""
        if not outcome.fresh:
            self.passed_on(outcome)
        elif len(outcome.call.members()) > 1:
            self._leave(outcome.call, now)
        else:
            self._end(outcome.call, "offer not passed on", now, kept=False)

    def reload(self, settings: Settings) -> None:
        """Take other settings over.

        Limits of time and networks that are ruled out hold for standing calls at once, the marking from their next
        offer or answer on, the way of learning for calls to come.
        """
        denied, self.settings = self.settings.denied, settings
        self._glance = glance(settings)
        self._screen.deny(settings.denied)
        now = self._clock()
        for head in self:
            for call in head.members():
                if call.deleted is None:
                    self._agenda.plan(call, min(call.due, now + self._glance))
                if settings.denied != denied:
                    call.screen_again()
                    self._apply(call, now)

    # -- the life of a call

    def _make(
        self,
        call_id: str,
        head: Call | None,
        from_tag: str,
        media: Sequence[MediaDescription],
        signal: Signal,
        now: float,
        warnings: list[str],
    ) -> Call:
        """A call for an offer of `from_tag`, or another one under the Call-ID of `head`.

        Raises LoadLimit, and CallError where branches pile up.
        """
        sister, number = _known(head, from_tag)
        if sister is None:
            self._admit()
        if head is not None and len(head.members()) >= MAX_BRANCHES:
            raise CallError(f"Too many branches of a call, {MAX_BRANCHES} stand")
        near, far = self._settled(sister, number, media, signal, warnings)
        call = Call(call_id, (near, far), self._places.own, self._screen, now)
        call.learning = self.settings.learning
        call.branch = signal.via_branch
        if sister is not None:
            call.follow(sister, number)
        return call

    def _settled(
        self, sister: Call | None, number: int, media: Sequence[MediaDescription], signal: Signal, warnings: list[str]
    ) -> tuple[Places, Places]:
        """Where the ports of a new call or branch are to be: a branch of a partner's call stays on its addresses."""
        first, second = _names(signal.direction)
        version = family(media, signal)
        asked = signal.family or version
        if sister is not None:
            here, there = sister.legs[number], sister.legs[1 - number]
            if here.interface.home >= 0 or there.interface.home >= 0:
                kept = self._places.kept
                return kept(here.places, first, version, warnings), kept(there.places, second, asked, warnings)
            if first is None:
                first, second = here.interface.name, there.interface.name
        near = self._places.choose(first, version, warnings)
        return near, self._places.choose(second, asked, warnings, asked=bool(signal.family))

    def _branch_off(self, head: Call, from_tag: str, signal: Signal, now: float) -> tuple[Call, int]:
        """Another branch for an answer, with the offer that the offerer made. Raises CallError, PortsExhausted."""
        offerer, number = _known(head, from_tag)
        assert offerer is not None
        leg = offerer.legs[number]
        media = [media.description for media in leg.medias if media.description is not None]
        call = self._make(head.call_id, head, from_tag, media, Signal(), now, [])
        call.name(0, from_tag)
        try:
            call.offer(0, media, Signal(leg.received_from, mux=signal.mux), now)
            self._apply(call, now)
        except Exception:
            self._drop(call, now)
            raise
        self._enter(call, head, now)
        return call, 1

    def _enter(self, call: Call, head: Call | None, now: float) -> None:
        """A call that has got all it needs stands from now on, beside its sisters where it has any."""
        if head is None:
            self._calls[call.call_id] = call
            self.tally.managed += 1
        else:
            head.fork = head.members()
            head.fork.append(call)
            call.fork, call.deed = head.fork, head.deed
            call.created = head.created
        self._census.note(head or call)
        self._plan(call, now)

    def _relocated(
        self, call: Call, number: int, media: Sequence[MediaDescription], signal: Signal, warnings: list[str]
    ) -> tuple[Places, Places] | None:
        """Where the ports of offerer and peer are to be, where an offer asks for other interfaces or families."""
        near, far = call.legs[number].places, call.legs[1 - number].places
        first, second = _names(signal.direction)
        spoken = family(media, signal)
        here = self._places.kept(near, first, spoken, warnings)
        there = self._places.kept(far, second, signal.family, warnings)
        return None if here is near and there is far else (here, there)

    def _admit(self) -> None:
        """Raise LoadLimit where no call may be added."""
        full = self.draining or 0 <= self.settings.max_sessions <= self.own
        limit = SESSION_LIMIT if full else self.refuse()
        if limit is not None:
            self.tally.rejected += 1
            raise LoadLimit(limit)

    def _set(self, call: Call, signal: Signal) -> None:
        """The marking of a call: each offer and answer says it anew."""
        tos = self.settings.tos if signal.tos >= DEFAULT_TOS else signal.tos
        call.tos = tos & 0xFC if tos >= 0 else None

    def _sourced(self, signal: Signal) -> Signal:
        if signal.sip_source is None and self.settings.sip_source:
            return signal._replace(sip_source=True)
        return signal

    def _revive(self, call: Call, now: float) -> None:
        call.deleted = None
        self._census.note(call.members()[0])
        self._plan(call, now)


def _admit() -> str | None:
    return None


def _known(head: Call | None, tag: str) -> tuple[Call | None, int]:
    """The oldest call under a Call-ID that the party of a tag is in, and its leg there."""
    for member in head.members() if head is not None else ():
        if tag in member.tags:
            return member, member.tags[tag]
    return None, 0


def _names(direction: tuple[str, ...]) -> tuple[str | None, str | None]:
    """The interfaces asked for, towards the sender and towards the other party; an empty name asks for none."""
    if not direction:
        return None, None
    first, second = (*direction, "")[:2]
    return first or None, second or None
