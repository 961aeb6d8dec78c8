"""Calls in step with the data plane: their rules in force, their ports given back, and what packets tell of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from relay import rtcp
from relay.call import Call, Media, Stream
from relay.dataplane import Dataplane
from relay.flows import difference, rules
from relay.keeper import Keeper, Nobody
from relay.settings import Settings
from relay.types import Carries, Endpoint, StreamState

__all__ = ["Forwarding", "add"]


class Forwarding:
    """Whose port is whose. Is the data plane's listener; `clock` tells when packets are reported."""

    def __init__(self, plane: Dataplane, settings: Settings, clock: Callable[[], float]) -> None:
        self.plane = plane
        self.settings = settings
        self.keeper: Keeper = Nobody()
        """Told of what becomes of calls, and asked who else has a say."""
        self._clock = clock
        self._by_port: dict[Endpoint, Call] = {}

    def owner(self, local: Endpoint) -> Call | None:
        """The call a local port belongs to."""
        return self._by_port.get(local)

    # -- what the data plane tells (relay.dataplane.Listener)

    def learned(self, local: Endpoint, source: Endpoint, confirmed: bool) -> None:
        """The party at port `local` sends from `source`."""
        if (found := self._stream(local)) is not None:
            stream = found[0]
            # Until the answer a port may be in force for where its party was before.
            call = self._by_port[local]
            rule = call.rules.get(local)
            if rule is not None and rule.source_epoch == stream.epoch:
                news = confirmed and (source != stream.observed or not stream.confirmed)
                stream.observed, stream.confirmed = source, confirmed
                if news:
                    self.keeper.noticed(call.members()[0])

    def rtcp(self, local: Endpoint, source: Endpoint, payload: bytes) -> None:
        """RTCP that a party sent: what it says of its own stream and of the other party's."""
        if (found := self._stream(local)) is not None:
            stream, mine, theirs = found
            if "SAVP" not in mine.line.protocol and self._expected(local, stream, source):
                mine.report(rtcp.parse(payload), theirs, self._clock())
                if mine.heard is not None and _is_milestone(mine.heard.samples):
                    self.keeper.noticed(self._by_port[local].members()[0])

    def _expected(self, local: Endpoint, stream: Stream, source: Endpoint) -> bool:
        """Whether a party's word comes from where it is known to be. A lost event shows in the data plane's state."""
        if stream.confirmed and source == stream.observed:
            return True
        state = self.plane.state(local)
        if state.observed_source is not None:
            self.learned(local, state.observed_source, state.confirmed)
        return state.confirmed and source == state.observed_source

    def _stream(self, local: Endpoint) -> tuple[Stream, Media, Media] | None:
        """The stream of a port, its media, and the same media of the other party."""
        call = self._by_port.get(local)
        for mine, theirs in call.sides() if call is not None else ():
            for stream in mine.streams:
                if stream.local == local:
                    return stream, mine, theirs
        return None

    # -- rules in force and out of it

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
            add(total, self.plane.state(local))

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


def _is_milestone(samples: int) -> bool:
    """Whether a number of reports is worth a word to the keeper: each power of two, so that long calls cost little."""
    return samples & (samples - 1) == 0


def add(total: StreamState, more: StreamState) -> None:
    """Sum up what two ports counted."""
    total.packets += more.packets
    total.bytes += more.bytes
    total.expected += more.expected
    total.received += more.received
    total.drops += more.drops
