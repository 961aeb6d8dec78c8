"""Records that wait to be made calls of: as they came, of several of one call the last, within bounds. Pure."""

from __future__ import annotations

from control.replication.record import Record

__all__ = ["Inbox"]

MAX_BYTES = 256 << 20
"""Bytes of records that may wait, some hundred thousand calls."""


class Inbox:
    """A queue by keyspace and Call-ID. What finds no room is left for the next comparison."""

    __slots__ = ("_bytes", "_limit", "_queue", "full")

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self._queue: dict[tuple[int, str], Record | frozenset[str]] = {}
        """A comparison's end waits like a record, under no Call-ID."""
        self._bytes = 0
        self._limit = limit
        self.full: set[int] = set()
        """Keyspaces of which records were left out."""

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, keyspace: int, record: Record) -> None:
        """Let a record wait, in the place of an older one of the same call if there is one."""
        key = keyspace, record.call_id
        before = self._queue.get(key)
        known = before if isinstance(before, Record) else None
        if known is not None and _age(known) >= _age(record):
            return
        size = len(record.body) - (len(known.body) if known is not None else 0)
        if self._bytes + size > self._limit:
            self.full.add(keyspace)
            return
        self._queue[key] = record
        self._bytes += size

    def end(self, keyspace: int, calls: frozenset[str]) -> None:
        """A comparison that found these calls ends with what waits by now."""
        self._queue.pop((keyspace, ""), None)
        self._queue[keyspace, ""] = calls

    def take(self) -> tuple[int, Record | frozenset[str]] | None:
        """The next record or comparison's end, and its keyspace."""
        if not self._queue:
            return None
        key = next(iter(self._queue))
        found = self._queue.pop(key)
        if isinstance(found, Record):
            self._bytes -= len(found.body)
        return key[0], found


def _age(record: Record) -> tuple[str, int, int, int]:
    return record.incarnation, record.term, record.owner, record.version
