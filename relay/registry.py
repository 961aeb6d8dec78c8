"""All calls of this relay: by Call-ID, in step with the data plane, and ended by their timers.

Each change of a call runs the same way: the call decides (relay.call), its rules are compared with those in force
(relay.flows), the data plane takes the difference, and ports that were let go return to their pool. If any of it fails
for a new call, nothing of it is left.

Timers look at a call when it is due and at no other time: a heap holds one time per call, and a call that turns out to
be alive is put back with its next one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from itertools import count, islice
from math import inf
from typing import NamedTuple

from relay import rtcp
from relay.call import DEFAULT_TOS, Call, Leg, Media, Signal, Stream
from relay.dataplane import Dataplane
from relay.errors import CallError, HairpinError, UnknownCall
from relay.flows import Screen, difference, rules
from relay.ports import Interface
from relay.types import Carries, Endpoint, Learning, LocalMedia, MediaDescription

__all__ = ["LoadLimit", "Outcome", "Registry", "Settings", "Tally"]

_LOOKS = 12
"""A call is looked at this often within its shortest limit, and ends late by that share of it at most."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for all calls. Times in seconds, 0 for never (but for the delete delay, where 0 is at once)."""

    timeout: float = 60
    """No packet on any stream whose party sends."""
    silent_timeout: float = 3600
    """The same for streams whose party does not send: hold, mute."""
    offer_timeout: float = 3600
    """The same for calls that were never answered."""
    final_timeout: float = 0
    """Since the first offer, whatever happens."""
    delete_delay: float = 30
    max_sessions: int = -1
    """Calls that may stand at once, negative for any number."""
    tos: int = 0
    """The TOS byte of forwarded packets where the proxy sets none, negative to leave each packet's own."""
    learning: Learning = Learning.DELAYED
    sip_source: bool = False
    """Take the address of the signalling for the SDP's in all calls."""
    denied: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks nothing is forwarded to, this host's own addresses that carry no media included."""


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


class Registry:
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
        if not interfaces:
            raise ValueError("a registry needs an interface")
        self.plane = plane
        self.interfaces = tuple(interfaces)
        self.settings = settings
        self.tally = Tally()
        self.closed: dict[str, int] = {}
        """Ended calls by reason."""
        self.refuse: Callable[[], str | None] = _admit
        """Asked before a call is made: the text of the limit that keeps it out, or None."""
        self.draining = False
        """No call is made; those that stand are served."""
        self._clock = clock
        self._on_close = on_close
        self._calls: dict[str, Call] = {}
        self._deleted = 0
        self._by_port: dict[Endpoint, Call] = {}
        self._by_name = {interface.name: interface for interface in reversed(self.interfaces)}
        self._screen = Screen(settings.denied)
        self._due: list[tuple[float, int, Call]] = []
        self._serial = count()
        self._glance = _glance(settings)

    def reload(self, settings: Settings) -> None:
        """Take new settings over: their times and limits for all calls, the rest for what is signalled from here on."""
        if settings.denied != self.settings.denied:
            self._screen = Screen(settings.denied)
        self.settings = settings
        self._glance = _glance(settings)
        now = self._clock()
        for call in self._calls.values():
            if call.deleted is None:
                self._schedule(call, now + self._glance)

    # -- looking

    def __len__(self) -> int:
        """Calls that stand, those in their delete delay included."""
        return len(self._calls)

    @property
    def standing(self) -> int:
        """Calls that stand and were not deleted."""
        return len(self._calls) - self._deleted

    def __iter__(self) -> Iterator[Call]:
        """All calls, oldest first. A copy: calls may come and go meanwhile."""
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

    def owner(self, local: Endpoint) -> Call | None:
        """The call a local port belongs to."""
        return self._by_port.get(local)

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
        """An offer. Raises LoadLimit, PortsExhausted or DataplaneError; nothing is left of a new call then."""
        call = self._calls.get(call_id)
        warnings: list[str] = []
        fresh = call is None
        if call is None:
            call = self._make(call_id, signal, now, warnings)
        number = _offerer(call, from_tag, to_tag)
        call.name(number, from_tag)
        call.name(1 - number, to_tag)
        if signal.via_branch is not None:
            call.branch(signal.via_branch)
        self._set(call, signal)
        call.strict_source, call.media_handover = signal.strict_source, signal.media_handover
        try:
            shown = call.offer(number, media, self._sourced(signal), now)
            self._apply(call, now)
        except Exception:
            if fresh:
                self.tally.rejected += 1
                self._drop(call, now)
            raise
        if fresh:
            self._calls[call_id] = call
            self.tally.managed += 1
            self._schedule(call, now + self._glance)
        elif call.deleted is not None:
            call.answered = False
            self._revive(call, now)
        warnings += call.refusals(number)
        return Outcome(call, shown, warnings, call.legs[1 - number], fresh)

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
        call = self.query(call_id)
        if from_tag in call.tags:
            number = 1 - call.tags[from_tag]
        elif to_tag in call.tags:
            number = call.tags[to_tag]
        else:
            raise CallError("Invalid dialogue association")
        call.name(number, to_tag)
        self._set(call, signal)
        call.strict_source |= signal.strict_source
        call.media_handover |= signal.media_handover
        shown = call.answer(number, media, self._sourced(signal), now)
        self._apply(call, now)
        if call.deleted is not None:
            self._revive(call, now)
        return Outcome(call, shown, call.refusals(number), call.legs[1 - number])

    def delete(
        self,
        call_id: str,
        now: float,
        from_tag: str | None = None,
        to_tag: str | None = None,
        via_branch: str | None = None,
        match_to_tag: bool = False,
        delay: float | None = None,
    ) -> Call | None:
        """End a call after `delay` seconds, the delete delay if None; None where no call matches.

        Its media passes until then. A delay that is over already is for `finish` to act on, so that the caller can read
        the call's counters before.
        """
        call = self._calls.get(call_id)
        if call is None or not _matches(call, from_tag, to_tag, via_branch, match_to_tag):
            return None
        end = now + (self.settings.delete_delay if delay is None else delay)
        if call.deleted is None:
            self._deleted += 1
        else:
            end = min(end, call.deleted)
        call.deleted = end
        self._schedule(call, end)
        return call

    def abandon(self, outcome: Outcome, now: float) -> None:
        """Take back a call whose first offer could not be passed on; a call that stood before stays."""
        if outcome.fresh:
            self._end(outcome.call, "offer not passed on", now)

    def finish(self, call: Call, now: float) -> None:
        """Let a deleted call go if its delay is over."""
        if call.deleted is not None and call.deleted <= now:
            self._end(call, "deleted", now)

    def terminate(self, call_id: str, now: float) -> Call:
        """End a call at once, on an operator's word. Raises UnknownCall."""
        call = self.query(call_id)
        self._end(call, "terminated by the operator", now)
        return call

    def tick(self, now: float) -> int:
        """Run the timers that are due; returns how many calls ended."""
        ended = 0
        due = self._due
        while due and due[0][0] <= now:
            at, _, call = heapq.heappop(due)
            if call.due != at or self._calls.get(call.call_id) is not call:
                continue
            try:
                ended += self._look_at(call, now)
            except Exception:  # a fault at one call must neither keep it for ever nor hold up the others
                self._schedule(call, now + self._glance)
                raise
        return ended

    def _look_at(self, call: Call, now: float) -> bool:
        """End a call that has to, or plan the next look; returns whether it ended."""
        reason, again = self._review(call, now)
        if reason is not None:
            self._end(call, reason, now)
        elif again < inf:
            self._schedule(call, again)
        return reason is not None

    # -- what the data plane tells (relay.dataplane.Listener)

    def learned(self, local: Endpoint, source: Endpoint, confirmed: bool) -> None:
        """The party at port `local` sends from `source`."""
        if (found := self._stream(local)) is not None:
            stream = found[0]
            stream.observed, stream.confirmed = source, confirmed

    def rtcp(self, local: Endpoint, source: Endpoint, payload: bytes) -> None:
        """RTCP that a party sent: what it says of its own stream and of the other party's."""
        if (found := self._stream(local)) is not None:
            stream, mine, theirs = found
            if "SAVP" not in mine.line.protocol and self._expected(local, stream, source):
                mine.report(rtcp.parse(payload), theirs, self._clock())

    def _expected(self, local: Endpoint, stream: Stream, source: Endpoint) -> bool:
        """Whether a party's word comes from where it sends from. A lost event shows in the data plane's state."""
        if stream.confirmed and source != stream.observed:
            state = self.plane.state(local)
            stream.observed, stream.confirmed = state.observed_source, state.confirmed
        return not stream.confirmed or source == stream.observed

    def _stream(self, local: Endpoint) -> tuple[Stream, Media, Media] | None:
        """The stream of a port, its media, and the same media of the other party."""
        call = self._by_port.get(local)
        for mine, theirs in call.sides() if call is not None else ():
            for stream in mine.streams:
                if stream.local == local:
                    return stream, mine, theirs
        return None

    # -- the life of a call

    def _make(self, call_id: str, signal: Signal, now: float, warnings: list[str]) -> Call:
        self._admit()
        first, second = self.interfaces[0], self.interfaces[0]
        if signal.direction:
            first = self._interface(signal.direction[0], warnings)
        if len(signal.direction) > 1:
            second = self._interface(signal.direction[1], warnings)
        call = Call(call_id, (first, second), self._screen, now)
        call.learning = self.settings.learning
        return call

    def _admit(self) -> None:
        """Raise LoadLimit where no call may be added."""
        full = self.draining or 0 <= self.settings.max_sessions <= self.standing
        limit = SESSION_LIMIT if full else self.refuse()
        if limit is not None:
            self.tally.rejected += 1
            raise LoadLimit(limit)

    def _interface(self, name: str, warnings: list[str]) -> Interface:
        found = self._by_name.get(name)
        if found is None:
            found = self.interfaces[0]
            warnings.append(f"no interface is called {name}: {found.name} is used")
        return found

    def _set(self, call: Call, signal: Signal) -> None:
        """The marking of a call: each offer and answer says it anew."""
        tos = self.settings.tos if signal.tos >= DEFAULT_TOS else signal.tos
        call.tos = tos & 0xFC if tos >= 0 else None

    def _sourced(self, signal: Signal) -> Signal:
        return signal._replace(sip_source=True) if self.settings.sip_source else signal

    def _apply(self, call: Call, now: float) -> None:
        """Bring the data plane in step with a call, and give back the ports it let go."""
        new = rules(call)
        install, remove = difference(call.rules, new)
        if install:
            call.unsure = install
            self.plane.install(install)
            call.unsure = []
            for rule in install:
                self._by_port[rule.local] = call
        if remove:
            self._account(call, remove)
            self._withdraw(remove)
        call.rules = new
        self._give_back(call, now)

    def _account(self, call: Call, locals_: Iterable[Endpoint]) -> None:
        """Keep what ports counted that a call loses while it goes on."""
        for local in locals_:
            total = call.gone_rtcp if call.rules[local].carries is Carries.RTCP else call.gone_rtp
            state = self.plane.state(local)
            total.packets += state.packets
            total.bytes += state.bytes
            total.expected += state.expected
            total.received += state.received
            total.drops += state.drops

    def _withdraw(self, locals_: Iterable[Endpoint]) -> None:
        for local in locals_:
            self._by_port.pop(local, None)
        self.plane.remove(locals_, self.settings.delete_delay)

    def _give_back(self, call: Call, now: float) -> None:
        if call.freed:
            until = now + self.settings.delete_delay
            for interface, port in call.freed:
                interface.pool.release(port, until)
            call.freed.clear()

    def _drop(self, call: Call, now: float) -> None:
        """Take all ports and rules from a call, also those of a step that failed halfway."""
        self._withdraw([*call.rules, *(rule.local for rule in call.unsure)])
        call.rules = {}
        call.close()
        self._give_back(call, now)

    def _end(self, call: Call, reason: str, now: float) -> None:
        self._on_close(call, reason)
        packets = call.gone_rtp.packets + call.gone_rtcp.packets
        packets += sum(map(self.plane.packets, call.rules))
        self._drop(call, now)
        del self._calls[call.call_id]
        if call.deleted is not None:
            self._deleted -= 1
        tally = self.tally
        tally.ended += 1
        tally.packets += packets
        tally.seconds += now - call.created
        self.closed[reason] = self.closed.get(reason, 0) + 1

    # -- timers

    def _schedule(self, call: Call, at: float) -> None:
        """Look at a call at the time `at`; an earlier plan for it is void."""
        call.due = at
        heapq.heappush(self._due, (at, next(self._serial), call))

    def _revive(self, call: Call, now: float) -> None:
        call.deleted = None
        self._deleted -= 1
        self._schedule(call, now + self._glance)

    def _review(self, call: Call, now: float) -> tuple[str | None, float]:
        """(why a call has to end, or None; when to look again)."""
        if call.deleted is not None:
            return ("deleted", inf) if call.deleted <= now else (None, call.deleted)
        final = call.created + (self.settings.final_timeout or inf)
        if final <= now:
            return "final timeout", inf
        end, reason = self._silence(call, now)
        return (None, min(end, final, now + self._glance)) if end > now else (reason, inf)

    def _silence(self, call: Call, now: float) -> tuple[float, str]:
        """(when a call ends if no packet comes any more, and what that is called): its most patient stream decides."""
        limit, reason = self._limit(call, None)
        end = call.last_signal + limit
        if any(call.streams()):
            end = 0.0
        for mine, theirs in call.sides():
            for stream in mine.streams:
                assert stream.local is not None
                limit, name = self._limit(call, mine.sends_to(theirs))
                packets = self.plane.packets(stream.local)
                if packets != stream.count:
                    stream.count, stream.seen = packets, now
                    return now + limit, name
                if (left := max(stream.seen, call.last_signal) + limit) > end:
                    end, reason = left, name
        return end, reason

    def _limit(self, call: Call, sends: bool | None) -> tuple[float, str]:
        """How long a stream may be silent, and what its end is called."""
        settings = self.settings
        if not call.answered:
            return settings.offer_timeout or inf, "offer timeout"
        if not sends:
            return settings.silent_timeout or inf, "silent timeout"
        return settings.timeout or inf, "timeout"


def _admit() -> str | None:
    return None


def _glance(settings: Settings) -> float:
    """Seconds between two looks at a call."""
    limits = (settings.timeout, settings.silent_timeout, settings.offer_timeout)
    return max(1.0, min((limit for limit in limits if limit > 0), default=3600.0) / _LOOKS)


def _offerer(call: Call, from_tag: str, to_tag: str | None) -> int:
    """The leg that offers. A tag that was never seen is another name of the first party."""
    if from_tag in call.tags:
        return call.tags[from_tag]
    if to_tag is not None and to_tag in call.tags:
        return 1 - call.tags[to_tag]
    return 0


def _matches(call: Call, from_tag: str | None, to_tag: str | None, via_branch: str | None, match_to_tag: bool) -> bool:
    """Whether a delete means this call.

    An unknown branch with a known tag does: the BYE of a call has another branch than its INVITE.
    """
    if from_tag is None:
        return True
    if via_branch is not None and via_branch in call.branches:
        return True
    if match_to_tag and to_tag is not None and to_tag in call.tags:
        return True
    return (not match_to_tag or to_tag is None or not call.answered) and from_tag in call.tags
