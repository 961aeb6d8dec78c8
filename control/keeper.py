"""Keeps calls beyond this process and this host: writes them to the journal and for partners.

A record is made once for each command, with the call's deed renewed. It goes to the journal, for which the reply waits,
and to the partners, for which nobody does. What packets tell of a call is gathered for a second, and every call is
written again now and then, for what it has counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from secrets import randbits
from typing import Any, Final, Protocol

from control.journal import Journal
from control.replication.ownership import incarnation, tombstone
from control.replication.record import Record, encode
from control.restoring import Restoring
from control.sdp import recall
from relay import snapshot
from relay.call import Call
from relay.registry import Registry
from relay.types import Endpoint

__all__ = ["CallKeeper", "Partners"]

log = logging.getLogger(__name__)

SLICE = 0.005
"""Seconds that commands may have to wait for calls that are written again."""
ROUND = 1.0
"""Seconds for which what packets told is gathered; and between two pieces of writing again."""
COMPLAINT = 60.0
"""Seconds between two log lines of calls that cannot be written down."""


class Partners(Protocol):
    """What other nodes are told and asked (control.replication.replicator)."""

    def put(self, call_id: str, record: bytes, dead: bool) -> None: ...

    def over(self, call_id: str, incarnation: str) -> bool: ...

    def governs(self, head: Call) -> bool: ...

    def heard(self, local: Endpoint) -> float: ...


class CallKeeper:
    """A relay.keeper.Keeper over a journal, over `partners` where calls are shared, or both.

    `keyspace` names this node among owners; a call is written again every `refresh` seconds. `clock` gives the
    registry's seconds, `unix` Unix seconds, `noise` 32 random bits.
    """

    def __init__(
        self,
        registry: Registry,
        journal: Journal | None,
        loop: asyncio.AbstractEventLoop,
        *,
        keyspace: int = 0,
        refresh: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
        noise: Callable[[], int] = lambda: randbits(32),
    ) -> None:
        self.partners: Partners | None = None
        self.refresh = refresh
        self._registry: Final = registry
        self._journal: Final = journal
        self._loop: Final = loop
        self._keyspace: Final = keyspace
        self._clock: Final = clock
        self._unix: Final = unix
        self._noise: Final = noise
        self._restoring = (
            Restoring(registry, journal, keyspace, loop, clock, unix, self._over, self._ended) if journal else None
        )
        self._noticed: dict[str, None] = {}
        self._again: list[str] = []
        """Call-IDs of this round that are still to be written again, the oldest last."""
        self._share = 0.0
        """Calls to be written again per piece, and what is left of that from the piece before."""
        self._debt = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._complained = float("-inf")
        self.faults = 0
        """Changes that could not be written down."""

    # -- the start and the end

    def hold(self) -> int:
        """Keep the ports of what is to be restored, before any command is heard; returns how many are in force."""
        return self._restoring.hold() if self._restoring is not None else 0

    def start(self) -> None:
        """Restore calls behind whatever else waits, and write again what is due."""
        if self._restoring is not None:
            self._restoring.start()
        self._timer = self._loop.call_later(ROUND, self._work)

    async def restored(self) -> None:
        """Wait until all calls stand that could be restored."""
        if self._restoring is not None:
            await self._restoring.complete.wait()

    def close(self) -> None:
        """Write what was noticed, and nothing more; safe to call twice. The journal is another's to close."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._write_noticed(float("inf"))
        if self._restoring is not None:
            self._restoring.close()

    def read(self, body: bytes, unix_offset: float) -> list[Call]:
        """The branches of a call that a snapshot holds. Raises SnapshotError."""
        return self._registry.read(body, unix_offset, recall.read, self._clock())

    def status(self) -> dict[str, Any]:
        """What `hairpin status` tells."""
        told: dict[str, Any] = {"not written down": self.faults}
        if self._restoring is not None:
            told |= self._restoring.status()
        return told

    # -- what the registry tells and asks

    def changed(self, head: Call) -> None:
        """A command changed a call, which is this node's by that."""
        deed = head.deed
        if not deed.incarnation:
            deed.incarnation = incarnation(self._unix(), self._keyspace, self._noise())
            deed.owner, deed.term = self._keyspace, 1
        elif deed.foreign:
            deed.owner, deed.foreign = self._keyspace, False
            deed.term += 1
            self._registry.noted(head)
        self._write(head)

    def noticed(self, head: Call) -> None:
        """Packets told something of a call."""
        if not head.deed.foreign:
            self._noticed[head.call_id] = None

    def ended(self, head: Call, reason: str) -> None:
        """A call ends here."""
        self._noticed.pop(head.call_id, None)
        if self._journal is not None:
            self._journal.drop(head.call_id)
        if self.partners is not None and head.deed.incarnation:
            over = tombstone(head.call_id, head.deed, self._unix())
            self.partners.put(head.call_id, encode(over), True)

    def fetch(self, call_id: str) -> bool:
        """Whether a call that was asked for and did not stand does so by now."""
        return self._restoring is not None and self._restoring.fetch(call_id)

    def dismiss(self, call_id: str) -> None:
        """Have a call that could not be restored not come back: its proxy has ended it."""
        if self._restoring is not None:
            self._restoring.dismiss(call_id)

    def governs(self, head: Call) -> bool:
        """Whether silence may end a call here and now."""
        return self.partners is None or self.partners.governs(head)

    def heard(self, local: Endpoint) -> float:
        """When a partner last said that packets came to its own copy of a port."""
        return self.partners.heard(local) if self.partners is not None else 0.0

    def _over(self, call_id: str, incarnation: str) -> bool:
        return self.partners is not None and self.partners.over(call_id, incarnation)

    def _ended(self, call_id: str, tombstone: bytes) -> None:
        """Partners are still to be told of an end."""
        if self._journal is not None:
            self._journal.drop(call_id)
        if self.partners is not None:
            self.partners.put(call_id, tombstone, True)

    # -- writing

    def _write(self, head: Call) -> None:
        """Write down how a call stands, as its next version."""
        deed = head.deed
        deed.version += 1
        self._noticed.pop(head.call_id, None)
        unix = self._unix()
        try:
            body = snapshot.encode(head.members(), self._registry.plane, unix - self._clock(), recall.written)
            about = Record(head.call_id, deed.incarnation, deed.term, deed.owner, deed.version, written=unix, body=body)
            record = encode(about)
        except Exception:  # the call stands and its proxy waits: what fails here must not fail the command
            self._complain(head.call_id)
            return
        if self._journal is not None:
            self._journal.put(head.call_id, record)
        if self.partners is not None:
            self.partners.put(head.call_id, record, False)

    def _complain(self, call_id: str) -> None:
        self.faults += 1
        now = self._clock()
        if now - self._complained >= COMPLAINT:
            self._complained = now
            log.exception("call %s could not be written down: it ends with this relay", call_id)

    def _work(self) -> None:
        """One piece of writing again."""
        self._timer = self._loop.call_later(ROUND, self._work)
        until = self._clock() + SLICE
        self._write_noticed(until)
        self._write_again(until)

    def _write_noticed(self, until: float) -> None:
        while self._noticed and self._clock() < until:
            self._rewrite(next(iter(self._noticed)))

    def _write_again(self, until: float) -> None:
        if not self._again:
            self._again = self._registry.call_ids(len(self._registry))[::-1]
            self._share = len(self._again) * ROUND / self.refresh
        self._debt += self._share
        while self._debt >= 1 and self._again and self._clock() < until:
            self._debt -= 1
            self._rewrite(self._again.pop())

    def _rewrite(self, call_id: str) -> None:
        self._noticed.pop(call_id, None)
        head = self._registry.find(call_id)
        if head is not None and not head.deed.foreign and head.deed.incarnation:
            self._write(head)
