"""All calls of this relay: by Call-ID, in step with the data plane, and ended by their timers.

Each change of a call runs the same way: the call decides (relay.call), its rules are compared with those in force
(relay.flows), the data plane takes the difference, and ports that were let go return to their pool. If any of it fails
for a new call, nothing of it is left.

Timers look at a call when it is due and at no other time: a call that turns out to be alive is planned for its next one
(relay.timers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import NamedTuple

from relay.call import DEFAULT_TOS, Call, Leg, Signal, Who, family
from relay.dataplane import Dataplane
from relay.dialogs import answered, deleted, offered
from relay.errors import CallError, HairpinError, UnknownCall
from relay.flows import Screen
from relay.forwarding import Forwarding, add
from relay.interfaces import Interfaces, Places
from relay.ports import Interface
from relay.settings import Settings
from relay.timers import Agenda, glance, review
from relay.types import LocalMedia, MediaDescription, Treatment

__all__ = ["LoadLimit", "Outcome", "Registry", "Settings", "Tally"]

MAX_DELETE_DELAY = 3600.0
"""Seconds that a proxy may have a deleted call go on for."""
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


@dataclass(slots=True)
class Tally:
    """Counts since the start."""

    managed: int = 0
    """Calls that were made."""
    rejected: int = 0
    """Offers of new calls turned away by the limit or for want of ports."""
    ended: int = 0
    seconds: float = 0.0
    """Durations of ended calls, summed."""
    packets: int = 0
    """That arrived for ended calls."""


class Registry(Forwarding):
    """Calls and what keeps them: ports, rules, timers. Is the data plane's listener.

    `interfaces`: the first one is used where the proxy names none. `clock` tells when packets are reported; all other
    times are handed in. `on_close` hears of each call that ends, while its ports still count, with the reason in a few
    words.
    """

    def __init__(
        self,
        plane: Dataplane,
        interfaces: Sequence[Interface],
        settings: Settings,
        clock: Callable[[], float],
        on_close: Callable[[Call, str], None] = lambda call, reason: None,
    ) -> None:
        super().__init__(plane, settings, clock)
        self.interfaces = tuple(interfaces)
        self.tally = Tally()
        self.closed: dict[str, int] = {}
        """Ended calls by reason."""
        self.refuse: Callable[[], str | None] = _admit
        """Asked before a call is made: the text of the limit that keeps it out, or None."""
        self.draining = False
        """No call is made; those that stand are served."""
        self._on_close = on_close
        self._calls: dict[str, Call] = {}
        self._deleted = 0
        self._places = Interfaces(interfaces)
        self._screen = Screen(settings.denied)
        self._agenda = Agenda()
        self._glance = glance(settings)

    # -- looking

    def __len__(self) -> int:
        """Calls that stand, those in their delete delay included."""
        return len(self._calls)

    @property
    def standing(self) -> int:
        """Calls that stand and were not deleted."""
        return len(self._calls) - self._deleted

    def __iter__(self) -> Iterator[Call]:
        """All calls, oldest first, each by the oldest of its branches. A copy: calls may come and go meanwhile."""
        return iter(list(self._calls.values()))

    def find(self, call_id: str) -> Call | None:
        """The call of a Call-ID, also in its delete delay."""
        return self._calls.get(call_id)

    def query(self, call_id: str) -> Call:
        """The same. Raises UnknownCall."""
        call = self._calls.get(call_id)
        if call is None:
            raise UnknownCall
        return call

    def call_ids(self, limit: int) -> list[str]:
        """Up to `limit` Call-IDs, oldest first."""
        return list(islice(self._calls, max(limit, 0)))

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
        """An offer.

        Raises LoadLimit, PortsExhausted, CallError or DataplaneError; nothing is left of a new call then.
        """
        head = self._calls.get(call_id)
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
        """An answer to the offer of `from_tag`. Raises UnknownCall, CallError or DataplaneError.

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
        head = self._calls.get(call_id)
        meant = deleted(head, from_tag, to_tag, via_branch, match_to_tag) if head is not None else None
        if not meant:
            return None
        seconds = self.settings.delete_delay if delay is None or delay < 0 else min(delay, MAX_DELETE_DELAY)
        over = meant[0].over
        for call in meant:
            call.controller = controller or call.controller
            call.deleted = now + seconds if call.deleted is None else min(now + seconds, call.deleted)
            self._agenda.plan(call, call.deleted)
        self._deleted += meant[0].over - over
        return meant[0]

    def abandon(self, outcome: Outcome, now: float) -> None:
        """Take back a call or branch whose first offer could not be passed on; one that stood before stays."""
        if not outcome.fresh:
            return
        if len(outcome.call.members()) > 1:
            self._leave(outcome.call, now)
        else:
            self._end(outcome.call, "offer not passed on", now)

    def finish(self, call: Call, now: float) -> bool:
        """Let go of what is deleted of a call and has no delay left; returns whether the call has ended."""
        if call.fork is None:
            if call.deleted is None or call.deleted > now:
                return False
            self._end(call, "deleted", now)
            return True
        members = call.members()
        due = [member for member in members if member.deleted is not None and member.deleted <= now]
        if len(due) == len(members):
            self._end(call, "deleted", now)
            return True
        for member in due:
            self._leave(member, now)
        return False

    def terminate(self, call_id: str, now: float) -> Call:
        """End a call at once, on an operator's word. Raises UnknownCall."""
        call = self.query(call_id)
        self._end(call, "terminated by the operator", now)
        return call

    def stop(self, now: float) -> None:
        """End all calls at once, since the relay stops."""
        for call in list(self._calls.values()):
            self._end(call, "deleted" if call.over else "the relay stopped", now)

    def tick(self, now: float) -> int:
        """Run the timers that are due; returns how many calls ended."""
        ended = 0
        while (call := self._agenda.take(now)) is not None:
            try:
                ended += self._look_at(call, now)
            except Exception:  # a fault at one call must neither keep it for ever nor hold up the others
                self._agenda.plan(call, now + self._glance)
                raise
        return ended

    def _look_at(self, call: Call, now: float) -> bool:
        """End a call that has to, or plan the next look; returns whether it ended."""
        if call.deleted is not None:
            return self.finish(call, now)
        reason, again = review(call, self.settings, self.plane.packets, now)
        if reason is not None:
            self._end(call, reason, now)
        elif again < inf:
            self._agenda.plan(call, again)
        return reason is not None

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
        first, second = _names(signal.direction)
        if sister is not None and first is None:
            first, second = (sister.legs[leg].interface.name for leg in (number, 1 - number))
        version = family(media, signal)
        near = self._places.choose(first, version, warnings)
        asked = signal.family or version
        far = self._places.choose(second, asked, warnings, asked=bool(signal.family))
        call = Call(call_id, (near, far), self._places.own, self._screen, now)
        call.learning = self.settings.learning
        call.branch = signal.via_branch
        if sister is not None:
            call.follow(sister, number)
        return call

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
            over = head.over
            head.fork = head.members()
            head.fork.append(call)
            call.fork, call.deed = head.fork, head.deed
            call.created = head.created
            self._deleted -= over
        self._agenda.plan(call, now + self._glance)

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
        full = self.draining or 0 <= self.settings.max_sessions <= self.standing
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

    def _end(self, call: Call, reason: str, now: float) -> None:
        """All of a call, with its branches."""
        members = call.members()
        head = members[0]
        self._on_close(head, reason)
        over = head.over
        packets = 0
        for member in members:
            packets += member.gone_rtp.packets + member.gone_rtcp.packets
            packets += sum(map(self.plane.packets, member.rules))
            self._agenda.cancel(member)
            self._drop(member, now)
        del self._calls[head.call_id]
        self._deleted -= over
        tally = self.tally
        tally.ended += 1
        tally.packets += packets
        tally.seconds += now - head.created
        self.closed[reason] = self.closed.get(reason, 0) + 1

    def _leave(self, call: Call, now: float) -> None:
        """One branch of several goes; what it counted stays with the others."""
        members = call.members()
        heir = members[0] if members[0] is not call else members[1]
        self._account(call, call.rules)
        for total, more in ((heir.gone_rtp, call.gone_rtp), (heir.gone_rtcp, call.gone_rtcp)):
            add(total, more)
        over = call.over
        self._agenda.cancel(call)
        self._drop(call, now)
        members.remove(call)
        self._calls[call.call_id] = members[0]
        self._deleted += members[0].over - over

    # -- timers

    def _revive(self, call: Call, now: float) -> None:
        self._deleted -= call.over
        call.deleted = None
        self._agenda.plan(call, now + self._glance)


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
