"""The calls that stand: by Call-ID, in step with the data plane, and ended by their timers.

Timers look at a call when it is due and at no other time: a call that turns out to be alive is planned for its next one
(relay.timers). Where another node may end a call, or hears its media, the keeper is asked (relay.keeper): silence ends
a call only where it is governed, and a call that is not has all its time before it once it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf

from relay.call import Call
from relay.dataplane import Dataplane
from relay.errors import UnknownCall
from relay.flows import Screen
from relay.forwarding import Forwarding, add
from relay.interfaces import Interfaces
from relay.ports import Interface
from relay.settings import Settings
from relay.timers import Agenda, glance, review

__all__ = ["Standing", "Tally"]

ORPHANED = 60.0
"""Seconds that another node has to end a call it was told to delete, before this one does where it governs it."""


@dataclass(slots=True)
class Tally:
    """Counts since the start."""

    managed: int = 0
    """Calls that were made."""
    received: int = 0
    """Calls of other nodes that were taken in, to be held ready."""
    restored: int = 0
    """Calls of this node that were there before its start."""
    rejected: int = 0
    """Offers of new calls turned away by the limit or for want of ports."""
    ended: int = 0
    """Calls that ended here."""
    seconds: float = 0.0
    """Durations of ended calls, summed."""
    packets: int = 0
    """That arrived for ended calls."""


class Census:
    """How many calls stand, whose they are, and how many of them wait for the end of their delete delay."""

    __slots__ = ("_many",)

    def __init__(self) -> None:
        self._many = [0, 0, 0, 0]

    def note(self, head: Call) -> None:
        """Count a call as what it is by now."""
        kind = 2 * head.deed.foreign + head.over
        known = head.counted
        if kind != known:
            if known >= 0:
                self._many[known] -= 1
            self._many[kind] += 1
            head.counted = kind

    def inherit(self, head: Call, before: Call | None) -> None:
        """Another branch, or another Call, stands for a Call-ID that is counted."""
        if before is not None:
            head.counted, before.counted = before.counted, -1

    def strike(self, head: Call) -> None:
        """A call is gone."""
        self._many[head.counted] -= 1
        head.counted = -1

    @property
    def own(self) -> int:
        """This node's that were not deleted."""
        return self._many[0]

    @property
    def deleted(self) -> int:
        """This node's in their delete delay."""
        return self._many[1]

    @property
    def foreign(self) -> int:
        """Other nodes' that were not deleted."""
        return self._many[2]


class Standing(Forwarding):
    """Calls by Call-ID, and what ends them.

    `interfaces`: of this node's own the first one is used where the proxy names none. `clock` tells when packets are
    reported; all other times are handed in. `on_close` hears of each call that ends here, while its ports still count,
    with the reason in a few words.
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
        """Calls that ended here, by reason."""
        self.forgotten: dict[str, int] = {}
        """Calls that were let go of because they ended or went on elsewhere, by reason."""
        self._on_close = on_close
        self._calls: dict[str, Call] = {}
        self._census = Census()
        self._places = Interfaces(interfaces)
        self._screen = Screen(settings.denied)
        self._agenda = Agenda()
        self._glance = glance(settings)

    # -- looking

    def __len__(self) -> int:
        """Calls that stand, those of other nodes and those in their delete delay included."""
        return len(self._calls)

    @property
    def standing(self) -> int:
        """Calls that stand and were not deleted, of whichever node."""
        return self._census.own + self._census.foreign

    @property
    def own(self) -> int:
        """Those of them that are this node's."""
        return self._census.own

    @property
    def foreign(self) -> int:
        """Those of them that other nodes own, held ready here."""
        return self._census.foreign

    def counts(self) -> dict[str, int]:
        """This node's calls that stand and those in their delete delay, and the calls of others held ready here."""
        own, deleted = self._census.own, self._census.deleted
        return {"standing": own, "deleted": deleted, "ready": len(self._calls) - own - deleted}

    def __iter__(self) -> Iterator[Call]:
        """All calls, oldest first, each by the oldest of its branches. A copy: calls may come and go meanwhile."""
        return iter(list(self._calls.values()))

    def find(self, call_id: str) -> Call | None:
        """The call of a Call-ID, also in its delete delay."""
        return self._calls.get(call_id)

    def query(self, call_id: str) -> Call:
        """The same, also where it waits to be restored. Raises UnknownCall."""
        call = self._named(call_id)
        if call is None:
            raise UnknownCall
        return call

    def call_ids(self, limit: int) -> list[str]:
        """Up to `limit` Call-IDs, oldest first."""
        return list(islice(self._calls, max(limit, 0)))

    def _named(self, call_id: str) -> Call | None:
        """The call that a command names."""
        head = self._calls.get(call_id)
        if head is None and self.keeper.fetch(call_id):
            head = self._calls.get(call_id)
        return head

    # -- whose it is

    def noted(self, head: Call) -> None:
        """Whose a call is may have changed."""
        self._census.note(head)

    def _changed(self, head: Call) -> None:
        """A command changed a call, which makes it this node's."""
        self.keeper.changed(head)
        self._census.note(head)

    # -- the end

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

    def end(self, call_id: str, reason: str, now: float) -> Call:
        """End a call at once, here and everywhere, for a reason in a few words. Raises UnknownCall."""
        call = self.query(call_id)
        self._end(call, reason, now)
        return call

    def terminate(self, call_id: str, now: float) -> Call:
        """The same on an operator's word."""
        return self.end(call_id, "terminated by the operator", now)

    def stop(self, now: float) -> None:
        """End all calls at once, since the relay stops; calls of other nodes only leave this one."""
        for call in list(self._calls.values()):
            if call.deed.foreign:
                self._remove(call, now)
            else:
                self._end(call, "deleted" if call.over else "the relay stopped", now)

    def _end(self, call: Call, reason: str, now: float, kept: bool = True) -> None:
        """All of a call, with its branches; `kept`: the keeper was told of it."""
        head = call.members()[0]
        self._on_close(head, reason)
        if kept:
            self.keeper.ended(head, reason)
        packets = 0
        for member in head.members():
            packets += member.gone_rtp.packets + member.gone_rtcp.packets
            packets += sum(map(self.plane.packets, member.rules))
        self._remove(head, now)
        tally = self.tally
        tally.ended += 1
        tally.packets += packets
        tally.seconds += now - head.created
        self.closed[reason] = self.closed.get(reason, 0) + 1

    def _remove(self, head: Call, now: float) -> None:
        """Take all branches out of the books, with their rules and ports."""
        for member in head.members():
            self._agenda.cancel(member)
            self._drop(member, now)
        del self._calls[head.call_id]
        self._census.strike(head)

    def _leave(self, call: Call, now: float) -> None:
        """One branch of several goes; what it counted stays with the others."""
        members = call.members()
        heir = members[0] if members[0] is not call else members[1]
        self._account(call, call.rules)
        for total, more in ((heir.gone_rtp, call.gone_rtp), (heir.gone_rtcp, call.gone_rtcp)):
            add(total, more)
        self._agenda.cancel(call)
        self._drop(call, now)
        members.remove(call)
        self._calls[call.call_id] = members[0]
        if call.counted >= 0:
            self._census.inherit(members[0], call)
        self._census.note(members[0])
        self.keeper.noticed(members[0])

    # -- timers

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
        head = call.members()[0]
        self._census.note(head)
        if call.deleted is not None and not head.deed.foreign:
            return self.finish(call, now)
        if not self.keeper.governs(head):
            for member in head.members():
                member.awake = now
            self._agenda.plan(call, now + self._glance)
            return False
        if call.deleted is not None:
            return self._bury(call, call.deleted + ORPHANED, now)
        reason, again = review(call, self.settings, self.plane.packets, self.keeper, now)
        if reason is not None:
            self._end(call, reason, now)
        elif again < inf:
            self._agenda.plan(call, again)
        return reason is not None

    def _bury(self, call: Call, due: float, now: float) -> bool:
        """End what another node was to end and has not; returns whether the call has ended."""
        if now >= due:
            return self.finish(call, now)
        self._agenda.plan(call, min(due, now + self._glance))
        return False

    def _plan(self, call: Call, now: float) -> None:
        """Look at a call that has just come or changed."""
        self._agenda.plan(call, now + self._glance if call.deleted is None else call.deleted)
