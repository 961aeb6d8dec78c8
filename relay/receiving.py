"""Calls that come from elsewhere: from the journal after a restart, or from the node that owns them.

A call that is received is put in force as it was written, with no question whether it may be added. Where one of its
Call-ID stands, the received one takes its place: rules that stay the same are not touched, ports that both have stay
drawn, and what only this node can know of them, what packets told, goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from relay.call import Call
from relay.errors import DataplaneError, PortsTaken
from relay.flows import Rules, difference, rules
from relay.forwarding import add
from relay.media import Stream
from relay.ports import Interface
from relay.recording import Memory
from relay.snapshot import decode
from relay.standing import Standing
from relay.types import Carries, Endpoint, Rule, StreamState

__all__ = ["Receiving"]

_Pairs = dict[Endpoint, Interface]
"""Pairs of ports by address and even port."""
_Totals = tuple[StreamState, StreamState]
"""Of RTP and of RTCP."""
_RTCP: Final = Carries.RTCP


class Receiving(Standing):
    """Takes in calls that were made elsewhere, and lets go of them when they end there."""

    def hold(self, locals_: Iterable[Endpoint]) -> None:
        """Have no call made on ports of calls that are yet to come; they may be named by either port of a pair."""
        ports = _by_address(locals_)
        for interface in self.interfaces:
            interface.pool.hold(ports.get(interface.address, ()))

    def rest(self, locals_: Iterable[Endpoint], now: float) -> None:
        """Have calls made on ports that another process let go of only where there are no others."""
        ports = _by_address(locals_)
        for interface in self.interfaces:
            interface.pool.rest(ports.get(interface.address, ()), now + self.settings.delete_delay)

    def unhold(self) -> None:
        """All calls have come that will."""
        for interface in self.interfaces:
            interface.pool.unhold()

    def read(self, data: bytes, unix_offset: float, memory: Memory, now: float) -> list[Call]:
        """The branches of a call from its snapshot, to be received here. Raises SnapshotError.

        `unix_offset`: Unix time less this relay's, less what the writer's clock is ahead. `memory` reads what the
        control plane wrote of a party.
        """
        return decode(data, self._places, self._screen, unix_offset, memory, now)

    def receive(self, members: Sequence[Call], now: float) -> None:
        """Put the branches of a call that was read in force; their `deed` says whose it is.

        Raises PortsTaken or DataplaneError, with everything as before.
        """
        head = members[0]
        standing = self._calls.get(head.call_id)
        before = standing.members() if standing is not None else []
        had = _pairs(before)
        needed = self._needed(members, had)
        old: Rules = {local: rule for one in before for local, rule in one.rules.items()}
        counted = self._counted(before)
        _go_on(members, before)
        self._put_in_force(members, before, old)
        self._settle_counts(members, counted if before else None)
        self._claim(needed, had, now)
        for one in before:
            self._agenda.cancel(one)
        self._calls[head.call_id] = head
        self._census.inherit(head, standing)
        self._census.note(head)
        if standing is None and head.deed.foreign:
            self.tally.received += 1
        elif standing is None:
            self.tally.restored += 1
        for member in members:
            self._plan(member, now)

    def forget(self, call_id: str, reason: str, now: float) -> Call | None:
        """Let go of a call that ended elsewhere, or is to go on there; returns it, None where none stands."""
        head = self._calls.get(call_id)
        if head is not None:
            self._remove(head, now)
            self.forgotten[reason] = self.forgotten.get(reason, 0) + 1
        return head

    # -- steps of it

    def _needed(self, members: Sequence[Call], had: Mapping[Endpoint, Interface]) -> _Pairs:
        """The pairs of a call that may have those it `had`. Raises PortsTaken where one is another call's."""
        needed: _Pairs = {}
        for member in members:
            for interface, port in member.pairs():
                pair = Endpoint(interface.address, port)
                if pair in needed:
                    raise PortsTaken(f"port {port} of {interface.address} stands twice in the call")
                needed[pair] = interface
                if pair not in had:
                    interface.pool.check(port)
        return needed

    def _claim(self, needed: _Pairs, had: _Pairs, now: float) -> None:
        """Take the pairs that a call had not, and give back those it needs no more."""
        for pair, interface in needed.items():
            if pair not in had:
                interface.pool.claim(pair.port)
        for pair, interface in had.items():
            if pair not in needed:
                interface.pool.release(pair.port, now + self.settings.delete_delay)

    def _put_in_force(self, members: Sequence[Call], before: Sequence[Call], old: Rules) -> None:
        """Bring the data plane from the rules of a call to those it is to have."""
        new: Rules = {}
        for member in members:
            member.rules = rules(member)
            new.update(member.rules)
        install, remove = difference(old, new)
        if install:
            try:
                self.plane.install(install)
            except Exception:
                self._back_out(install, old)
                raise
        remove += [rule.local for one in before for rule in one.unsure if rule.local not in new]
        if remove:
            self._withdraw(remove)
        for member in members:
            for local in member.rules:
                self._by_port[local] = member

    def _back_out(self, install: Sequence[Rule], old: Rules) -> None:
        """What failed halfway leaves the rules that stood, those of the relay before this one among them."""
        stood = {*old, *self.plane.inherited()}
        self.plane.remove([rule.local for rule in install if rule.local not in stood], 0.0)
        with suppress(DataplaneError):
            self.plane.install([old[rule.local] for rule in install if rule.local in old])

    def _counted(self, members: Sequence[Call]) -> _Totals:
        """What calls have counted up to here, with what their ports have that stand."""
        rtp, rtcp = StreamState(), StreamState()
        for member in members:
            add(rtp, member.gone_rtp)
            add(rtcp, member.gone_rtcp)
            for local, rule in member.rules.items():
                if self.plane.packets(local):
                    add(rtcp if rule.carries is _RTCP else rtp, self.plane.state(local))
        return rtp, rtcp

    def _settle_counts(self, members: Sequence[Call], counted: _Totals | None) -> None:
        """Let the totals of a call be those it was written with, or what was `counted` here where that is more.

        What its ports count here comes on top: they may have stood before, and then that is in the totals already.
        """
        here = counted or self._counted(members)
        written = StreamState(), StreamState()
        for member in members:
            for total, gone in zip(written, (member.gone_rtp, member.gone_rtcp), strict=True):
                add(total, gone)
            for total, told in zip(written, member.told or (), strict=False):
                add(total, told)
            member.gone_rtp, member.gone_rtcp, member.told = StreamState(), StreamState(), None
        ports = self._counted(members)
        head = members[0]
        head.gone_rtp, head.gone_rtcp = [
            _less(one if one.packets > other.packets else other, stands)
            for one, other, stands in zip(written, here, ports, strict=True)
        ]


def _by_address(locals_: Iterable[Endpoint]) -> dict[str, list[int]]:
    ports: dict[str, list[int]] = {}
    for local in locals_:
        ports.setdefault(local.ip, []).append(local.port)
    return ports


def _less(total: StreamState, part: StreamState) -> StreamState:
    """What is in a total beside a part of it."""
    return StreamState(
        max(total.packets - part.packets, 0),
        max(total.bytes - part.bytes, 0),
        max(total.drops - part.drops, 0),
        expected=max(total.expected - part.expected, 0),
        received=max(total.received - part.received, 0),
    )


def _pairs(members: Sequence[Call]) -> _Pairs:
    """All pairs that calls have drawn, also those a failed step was about to give back."""
    return {
        Endpoint(interface.address, port): interface
        for member in members
        for interface, port in (*member.pairs(), *member.freed)
    }


# -- what only this node knows


def _go_on(members: Sequence[Call], before: Sequence[Call]) -> None:
    """Take over what packets told here of a call into what was written of it elsewhere."""
    if not before:
        return
    known = {media.rtp.local: media for call in before for media, _ in call.sides() if media.port is not None}
    for member in members:
        member.awake = before[0].awake
        for media, _ in member.sides():
            old = known.get(media.rtp.local)
            if old is None:
                continue
            _follow(media.rtp, old.rtp)
            _follow(media.rtcp, old.rtcp)
            media.sender_reports = old.sender_reports
            if old.heard is not None and (media.heard is None or media.heard.samples < old.heard.samples):
                media.heard = old.heard


def _follow(stream: Stream, old: Stream) -> None:
    """A stream goes on on its port.

    Epochs are counted by every node that changes a call, so two of them may have given one number to two endpoints: the
    data plane has to see that the party moved, and must not where it did not.
    """
    stream.count, stream.seen = old.count, old.seen
    same = (stream.signalled, stream.preferred, stream.learning) == (old.signalled, old.preferred, old.learning)
    stream.epoch = max(stream.epoch, old.epoch if same else old.epoch + 1)
    if same and stream.epoch == old.epoch and old.confirmed:
        if not stream.confirmed:
            stream.observed, stream.confirmed = old.observed, True
        if stream.observed == old.observed:
            stream.known = old.known
