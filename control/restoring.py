"""Makes calls again of what the journal holds, behind a start's first answers.

What cannot be made a call (its interface is missing, its port is another call's, a later version wrote it) stays in the
journal, keeps its ports and what is in force at them, and is tried again: the reason may go.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from control.journal import Journal
from control.log import NOTICE
from control.replication.ownership import tombstone
from control.replication.record import RecordError, decode, encode
from control.sdp import recall
from relay import snapshot
from relay.call import Call
from relay.errors import HairpinError
from relay.registry import Registry
from relay.types import Deed, Endpoint

__all__ = ["Restoring"]

log = logging.getLogger(__name__)

SLICE = 0.005
"""Seconds that commands may have to wait for what is restored."""
RETRY = 60.0
"""Seconds between two attempts at what could not be restored."""
RETRIED = 1000
"""Records of one attempt."""
REMOVED = 256
"""Rules without a call that are removed at once."""
NAMED = 32
"""Reasons of one start that the log has; status has all."""


class Doubtful(Exception):
    """Not all of a call is in force: it may have ended without that being written, and its ports be another's."""


class Restoring:
    """What waits to be restored, and what cannot be.

    `clock` gives the registry's seconds, `unix` Unix seconds. `over` knows of calls, by Call-ID and incarnation, that
    have ended elsewhere; `ended` is given the tombstones of calls that ended here while partners could not be told.
    """

    def __init__(
        self,
        registry: Registry,
        journal: Journal,
        keyspace: int,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        unix: Callable[[], float],
        over: Callable[[str, str], bool],
        ended: Callable[[str, bytes], None],
    ) -> None:
        self.restored = 0
        self.complete = asyncio.Event()
        """All that could be restored at the start is."""
        self.unrestored: dict[str, str] = {}
        """Call-IDs, and why."""
        self._registry: Final = registry
        self._journal: Final = journal
        self._keyspace: Final = keyspace
        self._loop: Final = loop
        self._clock: Final = clock
        self._unix: Final = unix
        self._over: Final = over
        self._ended: Final = ended
        self._waiting = dict.fromkeys(journal.standing())
        self._kept: dict[str, list[Endpoint]] = {}
        """Ports of what could not be restored."""
        self._in_force: set[tuple[str, int]] = set()
        """Pairs of ports that were in force at the start, until all is restored."""
        self._last: set[str] = set()
        """Calls of which not all was, to be restored behind the others."""
        self._named: set[str] = set()
        self._began = 0.0
        self._next: asyncio.Handle | None = None

    def hold(self) -> int:
        """Keep the ports of all that is to be restored from being drawn; returns how many are in force.

        Those are all, unless the tables are new, or were at a start before that did not get to its end. What was let go
        of last rests: the relay before may have died before it was written that a call has these ports no more.
        """
        inherited = self._registry.plane.inherited()
        self._in_force = {(end.ip, end.port & ~1) for end in inherited}
        self._registry.hold(inherited)
        self._registry.rest(self._registry.plane.closing(), self._clock())
        if self._waiting and (not inherited or self._journal.anew):
            self._journal.anew = True
            self._registry.hold([end for call_id in self._waiting for end in self._ports(call_id)])
        return len(inherited)

    def start(self) -> None:
        """Restore one after the other, behind what else the loop has to do."""
        self._began = self._clock()
        self._next = self._loop.call_soon(self._slice)

    def close(self) -> None:
        """Leave what waits to the next start; safe to call twice."""
        if self._next is not None:
            self._next.cancel()

    def fetch(self, call_id: str) -> bool:
        """Restore a call now, if there is a record of it; whether it stands."""
        if call_id not in self._waiting and call_id not in self.unrestored:
            return False
        self._last.add(call_id)
        return self._try(call_id)

    def dismiss(self, call_id: str) -> None:
        """Have a call not come back that could not be restored. What is in force of it goes with the next attempts."""
        if self.unrestored.pop(call_id, None) is None:
            return
        self._kept.pop(call_id, None)
        try:
            record = decode(self._journal.record(call_id) or b"")
        except HairpinError:
            self._journal.drop(call_id)
            return
        deed = Deed(record.incarnation, record.term, record.owner, record.version)
        self._ended(call_id, encode(tombstone(call_id, deed, self._unix())))

    def status(self) -> dict[str, Any]:
        """How far it is."""
        reasons = Counter(self.unrestored.values())
        return {
            "restored": self.restored,
            "waiting": len(self._waiting),
            "not restored": dict(reasons.most_common(NAMED)),
        }

    # -- one call

    def _try(self, call_id: str) -> bool:
        self._waiting.pop(call_id, None)
        self.unrestored.pop(call_id, None)
        try:
            standing = self._restore(call_id)
        except Doubtful:
            self._last.add(call_id)
            self._waiting[call_id] = None
            return False
        except HairpinError as error:
            self._fail(call_id, str(error))
            return False
        except Exception as error:
            self._fail(call_id, f"a fault of the relay's own: {error!r}")
            return False
        self._kept.pop(call_id, None)
        self._journal.settle(call_id)
        return standing

    def _restore(self, call_id: str) -> bool:
        """Put a call in force; whether it stands. Raises HairpinError, and Doubtful once for a call."""
        if self._registry.find(call_id) is not None:
            return True
        data = self._journal.record(call_id)
        if data is None:
            return False
        record = decode(data)
        if record.call_id != call_id:
            raise RecordError(f"its record is of another call, {record.call_id}")
        if record.dead:
            self._ended(call_id, data)
            return False
        if self._over(call_id, record.incarnation):
            self._journal.drop(call_id)
            return False
        owner = record.owner
        deed = Deed(record.incarnation, record.term, owner, record.version, foreign=owner != self._keyspace)
        now = self._clock()
        members = self._registry.read(record.body, self._unix() - now, recall.read, now)
        if self._in_force and call_id not in self._last and not self._all_in_force(members):
            raise Doubtful
        for member in members:
            member.deed = deed
        self._registry.receive(members, now)
        self.restored += 1
        return True

    def _all_in_force(self, members: list[Call]) -> bool:
        pairs = ((interface.address, port) for member in members for interface, port in member.pairs())
        return all(pair in self._in_force for pair in pairs)

    def _fail(self, call_id: str, reason: str) -> None:
        self.unrestored[call_id] = reason
        if call_id not in self._kept:
            self._kept[call_id] = self._ports(call_id)
        if reason not in self._named and len(self._named) < NAMED:
            self._named.add(reason)
            log.error("call %s is not restored: %s; its record is kept, and tried again", call_id, reason)

    # -- all of them

    def _slice(self) -> None:
        end = self._clock() + SLICE
        while self._waiting:
            self._try(next(iter(self._waiting)))
            if self._clock() >= end:
                break
        if self._waiting:
            self._next = self._loop.call_soon(self._slice)
        else:
            self._finish()

    def _finish(self) -> None:
        """All that could be restored is."""
        kept = [end for ends in self._kept.values() for end in ends]
        pairs = {(end.ip, end.port & ~1) for end in kept}
        inherited = self._registry.plane.inherited()
        leftovers = [end for end in inherited if (end.ip, end.port & ~1) not in pairs]
        self._remove(leftovers, kept)
        if not self.complete.is_set():
            self.complete.set()
            self._in_force, self._last = set(), set()
            if self._journal.anew:
                self._journal.anew = False
            self._report(len(leftovers))
        if self.unrestored:
            self._next = self._loop.call_later(RETRY, self._retry)

    def _report(self, leftovers: int) -> None:
        if self.restored or self.unrestored or leftovers:
            seconds = self._clock() - self._began
            text = "%d calls are restored, in %.1f s; %d are not, `hairpin status` says why; %d ports had no call"
            log.log(NOTICE, text, self.restored, seconds, len(self.unrestored), leftovers)

    def _remove(self, leftovers: list[Endpoint], kept: list[Endpoint]) -> None:
        """Take what is in force without a call out of force, piece by piece; then ports may be drawn but those kept.

        Calls that partners hand over meanwhile may have some of these ports.
        """
        piece = [local for local in leftovers[:REMOVED] if self._registry.owner(local) is None]
        self._registry.plane.remove(piece, 0.0)
        if len(leftovers) > REMOVED:
            self._loop.call_soon(self._remove, leftovers[REMOVED:], kept)
            return
        self._registry.unhold()
        self._registry.hold(kept)

    def _retry(self) -> None:
        self._waiting = dict.fromkeys(islice(self.unrestored, RETRIED))
        self._slice()

    def _ports(self, call_id: str) -> list[Endpoint]:
        """The ports in the record of a call, as far as it can be read."""
        try:
            data = self._journal.record(call_id)
            return snapshot.ports(decode(data).body) if data is not None else []
        except HairpinError:
            return []
