"""What this node writes into its own keyspace: its calls, tombstones, and again what Redis has lost of either."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from control.replication.graves import Graves
from control.replication.partners import Keyspace
from control.replication.record import Record, decode, encode
from control.replication.store import Store
from control.replication.takeover import Terms
from relay.registry import Registry

__all__ = ["Outbound", "Shelf"]

UNCERTAIN = 5.0
"""Seconds after which it is known whether Redis took what it was given."""
PIECE = 50
"""Calls that one piece of work looks at."""


class Shelf(Protocol):
    """What is kept over a restart of this relay: the journal."""

    def put(self, call_id: str, record: bytes) -> None: ...

    def drop(self, call_id: str) -> None: ...


class Outbound:
    """Writes, and remembers of which calls its keyspace holds a living record.

    Before the own keyspace was compared for the first time nothing is written, lest a tombstone there be lost; of each
    call the last record waits.
    """

    def __init__(
        self,
        registry: Registry,
        store: Store,
        own: Keyspace,
        terms: Terms,
        clock: Callable[[], float],
        shelf: Shelf | None,
    ) -> None:
        self.graves = Graves()
        self.again: dict[str, None] = {}
        """Calls of this node whose record Redis has lost, or never got."""
        self._registry, self._store, self._own = registry, store, own
        self._terms, self._clock, self._shelf = terms, clock, shelf
        self._shelved: set[str] = set()
        """Calls whose tombstones are journalled until Redis has them, since it was away when they ended."""
        self._fresh: deque[tuple[float, str, bytes]] = deque()
        """Tombstones of the last seconds, and when they were written."""
        self._held: dict[str, tuple[bytes, float]] | None = {}
        """What waits for the first comparison; None after it."""
        self._living: set[str] = set()

    def put(self, call_id: str, record: bytes, dead: bool) -> None:
        """Write a call of this node, or that one has ended."""
        if dead:
            self.bury(decode(record))
            return
        ended = self.graves.of(call_id)
        self._living.add(call_id)
        self._shelved.discard(call_id)
        self._write(call_id, encode(decode(record)._replace(ended=ended)) if ended else record, self._terms.expires)

    def found(self, record: Record) -> None:
        """The own keyspace holds this."""
        if not record.dead:
            self._living.add(record.call_id)
        elif self._shelf is not None and record.call_id in self._shelved:
            self._shelved.discard(record.call_id)
            self._shelf.drop(record.call_id)

    def bury(self, record: Record) -> None:
        """Let a tombstone of a call stand, unless a call that lives here has taken its place in the keyspace."""
        over = record._replace(dead=True, ended=(), body=b"")
        standing = self._registry.find(over.call_id)
        taken = standing is not None and not standing.deed.foreign and standing.deed.incarnation != over.incarnation
        self.remember(over, own=not taken)
        if not taken:
            earlier = tuple(one for one in self.graves.of(over.call_id) if one != over.incarnation)
            data = encode(over._replace(ended=earlier))
            self._living.discard(over.call_id)
            self._write(over.call_id, data, self._lasting(over))
            self._fresh.append((self._clock(), over.call_id, data))
            self._shelve()

    def lost(self) -> None:
        """Writes do not arrive, and what was written last may not have."""
        self._shelve()

    def _shelve(self) -> None:
        """Journal word of what ended lately, where Redis is not told."""
        while self._fresh and self._fresh[0][0] < self._clock() - UNCERTAIN:
            self._fresh.popleft()
        if self._shelf is None or (self._own.reachable and self._held is None):
            return
        for _, call_id, data in self._fresh:
            if call_id not in self._living:
                self._shelf.put(call_id, data)
                self._shelved.add(call_id)
        self._fresh.clear()

    def ended(self, record: Record) -> None:
        """A call has ended elsewhere: what may stand of it in the own keyspace is written over."""
        if record.call_id in self._living:
            self.bury(record)
        else:
            self.remember(record, own=False)

    def remember(self, record: Record, own: bool) -> None:
        """Know a call for ended. `own`: by the own keyspace."""
        self.graves.add(record._replace(dead=True, ended=(), body=b""), self._clock() + self._lasting(record), own)

    def compared(self) -> None:
        """What stands in the own keyspace is known, and may be written over."""
        held, self._held = self._held or {}, None
        for call_id, (data, expires) in held.items():
            record = decode(data)
            if record.dead or record.incarnation not in self.graves.of(call_id):
                self._store.put(call_id, data, expires)

    def missing(self, call_ids: frozenset[str]) -> Iterator[None]:
        """Find what ought to be in the own keyspace and was not, a piece at each step."""
        for number, head in enumerate(self._registry):
            if not head.deed.foreign and head.call_id not in call_ids:
                self.again[head.call_id] = None
            if number % PIECE == 0:
                yield
        for number, over in enumerate(self.graves.own()):
            if over.call_id not in call_ids and self._registry.find(over.call_id) is None:
                self.bury(over)
            if number % PIECE == 0:
                yield

    def work(self) -> bool:
        """Have one call written again; returns whether there was one."""
        if not self.again:
            return False
        head = self._registry.find(self.again.popitem()[0])
        if head is not None and not head.deed.foreign:
            self._registry.keeper.changed(head)
        return True

    def _lasting(self, record: Record) -> float:
        """Seconds for which a tombstone stands: longer than any record of the call in another node's keyspace."""
        alone = record.term == 1 and record.owner == self._own.keyspace
        return self._terms.tombstone + (0.0 if alone else self._terms.expires)

    def _write(self, call_id: str, record: bytes, expires: float) -> None:
        if self._held is None:
            self._store.put(call_id, record, expires)
        else:
            self._held[call_id] = record, expires
