"""What becomes of a record that was read: judged at once, and where a call is to be made of it, later and in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from control.replication.inbox import Inbox
from control.replication.outbound import Outbound, Shelf
from control.replication.ownership import Verdict, Word, judge, outspoken, tombstone
from control.replication.partners import Keyspace, Partner
from control.replication.record import Record, RecordError, encode
from control.replication.takeover import Terms
from relay.call import Call
from relay.errors import HairpinError
from relay.registry import Registry
from relay.types import Deed, Endpoint

__all__ = ["Inbound", "Restore"]

PAUSE = 60.0
"""Seconds for which a call that was taken again is not so once more."""

Restore = Callable[[bytes, float], list[Call]]
"""A snapshot to a call's branches; the number makes the writer's Unix seconds of this relay's times."""


class Inbound:
    """Merges what partners wrote, and at comparisons what stands in the own keyspace, with the calls that stand here.

    `fail` is told of records that no call can be made of, with the reason.
    """

    def __init__(
        self,
        registry: Registry,
        own: Keyspace,
        partners: Mapping[int, Partner],
        outbound: Outbound,
        terms: Terms,
        restore: Restore,
        clock: Callable[[], float],
        unix: Callable[[], float],
        fail: Callable[[Keyspace, str, str], None],
        shelf: Shelf | None,
    ) -> None:
        self.inbox = Inbox()
        self._registry, self._own, self._partners, self._outbound = registry, own, partners, outbound
        self._terms, self._restore, self._clock, self._unix = terms, restore, clock, unix
        self._fail, self._shelf = fail, shelf
        self._contested: dict[str, float] = {}
        """Calls that were taken again, and when."""

    def read(self, keyspace: Keyspace, record: Record) -> None:
        """Act on a record of a keyspace, or let it wait where a call is to be made of it. Raises RecordError."""
        own = keyspace is self._own
        if not record.dead and record.owner != keyspace.keyspace:
            raise RecordError(f"keyspace {record.owner} owns the call, and has not written it")
        if own:
            self._outbound.found(record)
        for earlier in record.ended:
            self._judge(keyspace, record._replace(incarnation=earlier, dead=True, ended=(), body=b""))
        self._judge(keyspace, record)

    def _judge(self, keyspace: Keyspace, record: Record) -> None:
        own = keyspace is self._own
        verdict = self._verdict(record)
        if verdict in (Verdict.INSTALL, Verdict.REPLACE):
            if not self._outdated(record):
                self.inbox.put(keyspace.keyspace, record)
            return
        keyspace.unrestored.pop(record.call_id, None)
        if verdict is Verdict.END:
            self._end(record, own)
        elif verdict is Verdict.BURY:
            self._outbound.remember(record, own)
        elif verdict is Verdict.DEAD and (own or not self._outlasts(record)):
            self._outbound.bury(record._replace(written=self._unix()))
        elif verdict is Verdict.OLDER and own:
            self._outbound.again[record.call_id] = None

    def install(self, keyspace: Keyspace, record: Record) -> None:
        """Make a call of a record whose turn has come, if it still is to stand here."""
        verdict = self._verdict(record)
        if verdict not in (Verdict.INSTALL, Verdict.REPLACE):
            self._judge(keyspace, record)
            return
        try:
            self._make(record, verdict is Verdict.REPLACE)
        except HairpinError as error:
            self._fail(keyspace, record.call_id, str(error))
            return
        keyspace.unrestored.pop(record.call_id, None)
        if isinstance(keyspace, Partner):
            keyspace.told(record.written, self._unix())

    def forget(self, call_id: str, reason: str) -> None:
        """A call ends here since it has ended elsewhere."""
        if self._registry.find(call_id) is not None:
            self._registry.forget(call_id, reason, self._clock())
        if self._shelf is not None:
            self._shelf.drop(call_id)

    def _outlasts(self, record: Record) -> bool:
        """Whether a tombstone in the own keyspace stands for longer than a living record that was just read."""
        until = self._clock() + self._terms.expires
        return self._outbound.graves.told(record.call_id, record.incarnation, until)

    def _verdict(self, record: Record) -> Verdict:
        head = self._registry.find(record.call_id)
        standing = head.deed if head is not None else None
        return judge(standing, record, self._outbound.graves.of(record.call_id))

    def _outdated(self, record: Record) -> bool:
        """Whether a record is of an owner that has been gone for good."""
        partner, limit = self._partners.get(record.owner), self._terms.owner_gone
        if partner is None or not limit or partner.lives(self._clock(), self._terms.lease):
            return False
        return self._unix() - record.written - partner.life.clock.behind > limit

    def _make(self, record: Record, replace: bool) -> None:
        """Raises SnapshotError, PortsTaken, CallError or DataplaneError, with all as it was before."""
        members = self._decode(record)
        standing = self._registry.find(record.call_id)
        if standing is not None and replace:
            self.forget(standing.call_id, "another call has its Call-ID")
            self._outbound.ended(tombstone(standing.call_id, standing.deed, self._unix()))
        elif standing is not None and self._contends(standing, record, members):
            return
        self._clear(record, members)
        self._registry.receive(members, self._clock())
        if self._shelf is not None:
            self._shelf.put(record.call_id, encode(record))

    def _decode(self, record: Record) -> list[Call]:
        members = self._restore(record.body, self._offset(record.owner))
        if members[0].call_id != record.call_id:
            raise RecordError("a record of another call than it holds")
        foreign = record.owner != self._own.keyspace
        deed = Deed(record.incarnation, record.term, record.owner, record.version, foreign)
        for member in members:
            member.deed = deed
        return members

    def _offset(self, keyspace: int) -> float:
        """What makes Unix seconds at a node of this relay's times."""
        partner = self._partners.get(keyspace)
        return self._unix() - self._clock() - (partner.life.clock.behind if partner is not None else 0.0)

    def _contends(self, standing: Call, record: Record, members: list[Call]) -> bool:
        """Whether a call that was lost to another node is taken again, since its last command was given here.

        Not twice in short order: where clocks mislead, it would go to and fro.
        """
        deed, now = standing.deed, self._clock()
        if deed.foreign or record.owner == self._own.keyspace:
            return False
        while self._contested and next(iter(self._contested.values())) <= now - PAUSE:
            del self._contested[next(iter(self._contested))]
        if record.call_id in self._contested or not outspoken(self._word(standing.members()), self._word(members)):
            return False
        self._contested[record.call_id] = now
        deed.term, deed.foreign = record.term, True
        self._registry.keeper.changed(standing)
        return True

    def _word(self, members: list[Call]) -> Word:
        """The last command for a call. When one was that deleted it is told by the end of the usual delay."""
        delay = self._registry.settings.delete_delay
        deleted = [member.deleted - delay for member in members if member.deleted is not None]
        last = max([*deleted, *(member.last_signal for member in members)])
        return Word(last, all(member.deleted is not None for member in members))

    def _clear(self, record: Record, members: list[Call]) -> None:
        """Calls of the same owner that have the ports of a call have ended, or other ports, by now."""
        for interface, port in {pair for member in members for pair in member.pairs()}:
            blocker = self._registry.owner(Endpoint(interface.address, port))
            if blocker is None or blocker.call_id == record.call_id:
                continue
            if blocker.deed.foreign and blocker.deed.owner == record.owner:
                self.forget(blocker.call_id, "its ports belong to another call")

    def _end(self, record: Record, own: bool) -> None:
        """A call that stands here has ended."""
        self.forget(record.call_id, "ended by another node")
        if own:
            self._outbound.remember(record, own)
        else:
            self._outbound.ended(record)
