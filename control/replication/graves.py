"""What is known to have ended: incarnations of calls, remembered for as long as an older record may turn up. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple

from control.replication.record import MAX_ENDED, Record

__all__ = ["Graves"]

LIMIT = 100_000
"""Calls that are remembered; of more, those that were to be forgotten first are."""


class _Grave(NamedTuple):
    until: float
    tombstone: Record
    own: bool


class Graves:
    """Tombstones by Call-ID and incarnation, each until its time."""

    __slots__ = ("_by_call", "_order")

    def __init__(self) -> None:
        self._by_call: dict[str, dict[str, _Grave]] = {}
        self._order: list[tuple[float, str, str]] = []
        """A heap of what is to be forgotten when."""

    def __len__(self) -> int:
        return len(self._order)

    def add(self, tombstone: Record, until: float, own: bool) -> None:
        """Remember that a call has ended. `own`: this node's keyspace holds the tombstone."""
        call_id, incarnation = tombstone.call_id, tombstone.incarnation
        graves = self._by_call.setdefault(call_id, {})
        before = graves.get(incarnation)
        if before is not None:
            own, until = own or before.own, max(until, before.until)
        graves[incarnation] = _Grave(until, tombstone, own)
        heapq.heappush(self._order, (until, call_id, incarnation))
        while len(graves) > MAX_ENDED:
            del graves[next(iter(graves))]
        while len(self._order) > LIMIT:
            self._forget(heapq.heappop(self._order))

    def of(self, call_id: str) -> tuple[str, ...]:
        """Incarnations of a Call-ID that have ended."""
        return tuple(self._by_call.get(call_id, ()))

    def told(self, call_id: str, incarnation: str, until: float = 0.0) -> bool:
        """Whether this node's keyspace holds the tombstone of a call, until some time at least."""
        grave = self._by_call.get(call_id, {}).get(incarnation)
        return grave is not None and grave.own and grave.until >= until

    def expire(self, now: float) -> None:
        """Forget what is over."""
        while self._order and self._order[0][0] <= now:
            self._forget(heapq.heappop(self._order))

    def own(self) -> Iterator[Record]:
        """The tombstones that are to stand in this node's keyspace. More calls may end between two of them."""
        for call_id in list(self._by_call):
            for one in tuple(self._by_call.get(call_id, {}).values()):
                if one.own:
                    yield one.tombstone

    def _forget(self, entry: tuple[float, str, str]) -> None:
        until, call_id, incarnation = entry
        graves = self._by_call.get(call_id)
        grave = graves.get(incarnation) if graves is not None else None
        if graves is None or grave is None or grave.until > until:
            return
        del graves[incarnation]
        if not graves:
            del self._by_call[call_id]
